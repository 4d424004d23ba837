"""The log of a run: values as CSV and for TensorBoard, and images."""

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard.writer import SummaryWriter

from stm_skeletons.errors import SinkError
from stm_skeletons.files import atomic_write

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
    """Writes ``log.csv``, ``tensorboard/`` and ``pictures/`` in a run's folder."""

    def __init__(self, folder: Path, from_step: int) -> None:
        """Continue after ``from_step``; rows of later steps are dropped, as the run repeats them. Raises SinkError."""
        self._folder = folder
        path = folder / "log.csv"
        rows = [row for row in _read(path) if int(row["step"]) <= from_step]
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial, partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            self._file = path.open("a", newline="", buffering=1)
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1 if from_step else None)
        except OSError as error:
            raise SinkError(f"cannot write in {folder}: {error.strerror or error}") from error
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="", lineterminator="\n")

    def add(self, row: dict[str, float]) -> None:
        """Add a row; missing columns stay empty. Raises SinkError."""
        try:
            self._writer.writerow({name: f"{value:.8g}" for name, value in row.items()})
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(row["step"]))
        except OSError as error:
            raise SinkError(f"cannot write in {self._folder}: {error.strerror or error}") from error

    def add_image(self, name: str, step: int, image: NDArray[np.uint8]) -> None:
        """Add a BGR image, as a file and for TensorBoard."""
        encoded = cv2.imencode(".png", image)[1]
        with atomic_write(self._folder / "pictures" / f"{name}-{step:07d}.png") as partial:
            partial.write_bytes(encoded.tobytes())
        self._board.add_image(name, np.ascontiguousarray(image[..., ::-1]), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the files."""
        self._file.close()
        self._board.close()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        # A killed run may have left an incomplete line.
        return [row for row in csv.DictReader(file) if row["step"].isdecimal() and None not in row.values()]
