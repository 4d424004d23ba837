"""``gate.json`` in a bundle of lower precision: what export measured when it ran FP32 and the bundle side by side."""

from pathlib import Path

from pydantic import ValidationError

from stm_skeletons.errors import BundleError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.strict import Strict, what_is_wrong

FILE_NAME = "gate.json"


class Window(Strict):
    """Some frames in a row."""

    first_frame: int
    frames: int
    f1: float | None
    """None where neither side reports a keypoint."""


class Gate(Strict):
    """What was measured: the contents of gate.json."""

    precision: str
    executed_on: str
    """What stood for the device, in words."""
    video: str
    frames: int
    calibration: str | None
    """The frames that INT8's ranges were taken from."""
    keypoint_threshold: float
    """A keypoint is a peak with at least this score. One that has it on one side only is a miss, however near."""
    radius: float
    """Network pixels; keypoints are matched one to one within it."""
    keypoints: int
    """That FP32 reports. 0: the verdict is by the maps alone."""
    found: int
    """That the other reports."""
    matched: int
    f1: float | None
    f1_near: float | None
    """F1 if a keypoint also counted as found where the other side's score is up to 0.02 below the threshold: tells how
    much of the loss is only scores that cross it. No bound is put on it."""
    f1_loss_bound: float
    largest_map_difference: float
    map_difference_bound: float
    """Applies where there are no keypoints."""
    not_finite: int
    """Numbers in the maps that are NaN or infinite."""
    windows: tuple[Window, ...]
    map_differences: tuple[float, ...]
    """Largest of every frame; where the maps are not finite, 1."""
    fp16_sums: "Gate | None" = None
    """Of FP16: the first of these frames once more, with sums that are rounded to FP16 on the way, as a GPU may take
    them. None of INT8."""

    @property
    def problem(self) -> str | None:
        """Why it does not pass, None if it does."""
        if (own := self._problem) is not None or self.fp16_sums is None:
            return own
        other = self.fp16_sums.problem
        if other is None:
            return None
        return f"summing in FP16, as GPUs do where that is faster, over the first {self.fp16_sums.frames} {other}"

    @property
    def _problem(self) -> str | None:
        """The same of these frames alone."""
        if self.not_finite:
            return f"its maps hold {self.not_finite} NaN or infinite numbers"
        if not self.keypoints:
            if self.largest_map_difference <= self.map_difference_bound:
                return None
            return f"a map differs by {self.largest_map_difference:.3f} (bound {self.map_difference_bound})"
        loss = 1 - (self.f1 or 0)
        return None if loss <= self.f1_loss_bound else f"it loses {loss:.4f} of F1 (bound {self.f1_loss_bound})"

    @property
    def summary(self) -> str:
        """One line for the user."""
        maps = f"maps within {self.largest_map_difference:.3f}"
        if not self.keypoints:
            said = (
                f"{maps} of FP32 over {self.frames} frames; only maps were compared, FP32 reports no keypoint in them"
            )
        else:
            said = f"F1 {self.f1:.4f} against FP32 over {self.frames} frames ({self.keypoints} keypoints), {maps}"
        return said if self.fp16_sums is None else f"{said}; with sums in FP16: {self.fp16_sums.summary}"


def read_gate(folder: Path) -> Gate | None:
    """What was measured of the bundle in a folder; None where nothing was, as of FP32. Raises BundleError."""
    file = folder / FILE_NAME
    if not file.is_file():
        return None
    try:
        return Gate.model_validate_json(read_text(file))
    except (OSError, ValueError) as error:
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else one_line(error)
        raise BundleError(f"{file} cannot be read ({reason}); export the bundle again") from error
