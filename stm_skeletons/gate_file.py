"""``gate.json`` in a bundle of lower precision: how its results compare with FP32's on the same video."""

from pathlib import Path

from pydantic import ValidationError

from stm_skeletons.errors import BundleError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.strict import Strict, validation_message

FILE_NAME = "gate.json"


class Window(Strict):
    """Consecutive frames."""

    first_frame: int
    frames: int
    f1: float | None
    """None if neither side reports a keypoint."""


class Gate(Strict):
    """The contents of gate.json."""

    precision: str
    executed_on: str
    """What the bundle ran on, in words."""
    video: str
    frames: int
    calibration: str | None
    """Frames that INT8 was calibrated on."""
    keypoint_threshold: float
    """A keypoint is a peak with at least this score. A peak above it on one side only is a miss, however close."""
    radius: float
    """Network pixels; keypoints within this distance are matched one to one."""
    keypoints: int
    """Keypoints that FP32 reports. If 0, the verdict uses the maps alone."""
    found: int
    """Keypoints that the other precision reports."""
    matched: int
    f1: float | None
    f1_near: float | None
    """F1 if scores up to 0.02 below the threshold also count as found. Shows how much of the loss comes from scores
    that cross the threshold. Not bounded."""
    f1_loss_bound: float
    largest_map_difference: float
    map_difference_bound: float
    """Applies if there are no keypoints."""
    not_finite: int
    """NaN or infinite values in the maps."""
    windows: tuple[Window, ...]
    map_differences: tuple[float, ...]
    """Largest difference in each frame; 1 if the maps are not finite."""
    fp16_sums: "Gate | None" = None
    """FP16 only: the first of these frames repeated with FP16 accumulation, which a GPU may use. None for INT8."""

    @property
    def problem(self) -> str | None:
        """Why the bundle fails the gate; None if it passes."""
        if (own := self._problem) is not None or self.fp16_sums is None:
            return own
        other = self.fp16_sums.problem
        if other is None:
            return None
        return f"with FP16 accumulation (which GPUs may use), over the first {self.fp16_sums.frames} frames, {other}"

    @property
    def _problem(self) -> str | None:
        """The same for these frames alone."""
        if self.not_finite:
            return f"its maps contain {self.not_finite} NaN or infinite values"
        if not self.keypoints:
            if self.largest_map_difference <= self.map_difference_bound:
                return None
            return f"a map differs by {self.largest_map_difference:.3f} (bound {self.map_difference_bound})"
        loss = 1 - (self.f1 or 0)
        return None if loss <= self.f1_loss_bound else f"F1 drops by {loss:.4f} (bound {self.f1_loss_bound})"

    @property
    def summary(self) -> str:
        """One line for the user."""
        maps = f"maps within {self.largest_map_difference:.3f}"
        if not self.keypoints:
            said = f"{maps} of FP32 over {self.frames} frames; FP32 reports no keypoints, so only maps were compared"
        else:
            said = f"F1 {self.f1:.4f} compared with FP32 over {self.frames} frames ({self.keypoints} keypoints), {maps}"
        return said if self.fp16_sums is None else f"{said}; with FP16 accumulation: {self.fp16_sums.summary}"


def read_gate(folder: Path) -> Gate | None:
    """Read a bundle's gate.json; None if there is none, as for FP32. Raises BundleError."""
    file = folder / FILE_NAME
    if not file.is_file():
        return None
    try:
        return Gate.model_validate_json(read_text(file))
    except (OSError, ValueError) as error:
        reason = validation_message(error) if isinstance(error, ValidationError) else one_line(error)
        raise BundleError(f"{file} cannot be read ({reason}); export the bundle again") from error
