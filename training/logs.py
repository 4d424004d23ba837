"""What a run writes down as it goes: numbers as CSV and for TensorBoard, and pictures."""

import csv
import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard.writer import SummaryWriter

from stm_skeletons.errors import SinkError
from stm_skeletons.files import whole_file

COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "gradient_norm",
    "waiting_share",
    "seconds",
    "validation_f1",
)


class RunLog:
    """``log.csv``, ``tensorboard/`` and ``pictures/`` in a run's folder."""

    def __init__(self, folder: Path, from_step: int) -> None:
        """Go on after ``from_step``: rows of later steps, which the run will come to again, are dropped.

        Raises SinkError.
        """
        self._folder = folder
        self._path = folder / "log.csv"
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            self._rows = [row for row in _read(self._path) if int(row["step"]) <= from_step] if from_step else []
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1 if from_step else None)
        except OSError as error:
            raise SinkError(f"cannot write in {folder}: {error.strerror or error}") from error
        self._write()

    def add(self, row: dict[str, float]) -> None:
        """One row; columns that are missing stay empty."""
        self._rows.append({name: f"{value:.8g}" for name, value in row.items()})
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, int(row["step"]))
        self._write()

    def picture(self, name: str, step: int, image: NDArray[np.uint8]) -> None:
        """A BGR picture, as a file and for TensorBoard."""
        encoded = cv2.imencode(".png", image)[1]
        with whole_file(self._folder / "pictures" / f"{name}-{step:07d}.png") as partial:
            partial.write_bytes(encoded.tobytes())
        self._board.add_image(name, np.ascontiguousarray(image[..., ::-1]), step, dataformats="HWC")

    def close(self) -> None:
        """Finish TensorBoard's file."""
        self._board.close()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        with whole_file(self._path) as partial:
            partial.write_text(text.getvalue())


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step", "").isdecimal()]
