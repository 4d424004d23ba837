"""Conditions of an evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stm_skeletons.errors import DataError

Start = Literal["seed", "cold"]


@dataclass(frozen=True)
class Conditions:
    """Data, start and thresholds of an evaluation."""

    split: str = "val"
    start: Start = "cold"
    frames: int = 12
    sequences: int | None = None
    """Largest number of sequences; None for one per image, or the videos in full."""
    occluded: bool = False
    threshold: float | None = None
    """A threshold chosen beforehand; None: the best on these data, which the report states."""
    thresholds: Path | None = None
    """Instead of ``threshold``: report.json of an evaluation on other data; each row uses its best threshold there."""
    precision: float | None = None
    """Choose the lowest threshold with this precision, here or in the report; None: the one with the best F1."""
    controls: bool = False
    """Whether to evaluate each network with keypoint maps also without memory, and with rules in place of it."""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.thresholds is not None:
            raise DataError("--threshold and --thresholds exclude each other; use one of them")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise DataError(f"--precision is {self.precision}, must be above 0 and at most 1")
        if self.precision is not None and self.threshold is not None:
            raise DataError("--threshold and --precision exclude each other; use one of them")
