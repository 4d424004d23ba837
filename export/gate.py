"""The gate that a bundle of lower precision passes: FP32 and it side by side through a video, each on its own memory.

What one reports in a frame changes what it remembers, so errors could grow; only a closed loop over many frames shows
it. FP32's keypoints are taken for the truth and the other's are held against them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from export.precision import SUMMED_AT_ONCE
from runtime.frames import Source
from runtime.images import ImageSource
from runtime.sources import open_source
from stm_skeletons.bundle import BundleInfo
from stm_skeletons.errors import ExportError
from stm_skeletons.files import atomic_write
from stm_skeletons.gate_file import FILE_NAME, Gate, Window
from stm_skeletons.geometry import Letterbox
from stm_skeletons.skeleton import COCO17
from stm_skeletons.tracker import Stepper
from training.data import splits
from training.data.open import open_data
from training.evaluation.keypoints import MATCHINGS, RADIUS, count_keypoints
from training.model.parts import find_peaks

FRAMES = 500
FP16_SUMS_FRAMES = 100
"""Of these, FP16 is also run with sums in FP16: that takes five to ten times as long."""
F1_LOSS = 0.005
"""Largest loss of F1 against FP32 that is let through."""
FP16_SUMS_F1_LOSS = 0.01
"""The same with sums in FP16 everywhere, which is more than a GPU does, and over fewer frames."""
BF16_F1_LOSS = 0.01
"""The same for "bf16", whose numbers have 8 binary digits where FP16's have 11."""
INT8_F1_LOSS = 0.03
"""The same for "int8": points near the threshold come and go, as many rightly as wrongly (docs/benchmarks.md has its F1
on labelled data)."""
MAP_DIFFERENCE = 0.05
"""Largest difference of any map that is let through where FP32 reports no keypoint in the whole video."""
NEAR = 0.02
"""Of a score from the threshold: what ``f1_near`` forgives."""
WINDOW = 30
"""Frames to a point of the plot."""
GATE_FILES = (FILE_NAME, "gate.png")
_SAY_EVERY = 50


def check_video(video: str) -> None:
    """Raise SourceError or ExportError when the gate cannot run on a video, as far as its header tells."""
    with closing(_open_footage(video)) as source:
        _check_length(source, video)


def _check_length(source: Source, video: str) -> None:
    if source.live:
        raise ExportError(f"{video} is a camera or stream; record it first: the gate reads its video more than once")
    if source.total is not None and source.total < FRAMES:
        raise ExportError(f"{video} has {source.total} frames; the gate needs {FRAMES}: give a longer --video")


def _open_footage(video: str) -> Source:
    """A video or folder; of a data set that has a splits.json only the training part, whether to calibrate or to judge.

    Raises SourceError, or DataError for a damaged data set.
    """
    folder = Path(video)
    if folder.is_dir() and (folder.parent / splits.FILE).is_file():
        labelled = open_data("coco", folder.parent, "train", COCO17).pictures
        return ImageSource([picture.picture.path for picture in labelled])
    return open_source(video)


def letterboxed(video: str, size: tuple[int, int], start: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """At most ``count`` frames of a video from number ``start`` on, uint8 [H, W, 3] BGR of the network's size (W, H).

    Raises SourceError.
    """
    with closing(_open_footage(video)) as source:
        for frame in islice(source, start, start + count):
            network = np.empty((size[1], size[0], 3), np.uint8)
            Letterbox((frame.image.shape[1], frame.image.shape[0]), size).apply(frame.image, network)
            yield network


def run_gate(
    fp32: Stepper,
    other: Stepper,
    frames: Iterable[NDArray[np.uint8]],
    info: BundleInfo,
    executed_on: str,
    video: str,
    calibration: str | None = None,
    say: Callable[[str], None] | None = None,
    fp16_sums: Stepper | None = None,
) -> Gate:
    """Run both through the frames, each on its own predictions, and compare.

    Args:
        fp32, other: at their first frame.
        frames: uint8 [H, W, 3] BGR, letterboxed.
        info: of the bundle; its threshold and number of peaks are used.
        executed_on, video, calibration: for the record, see Gate.
        say: told now and then how far it is.
        fp16_sums: a third, run through the first FP16_SUMS_FRAMES frames and held to FP16_SUMS_F1_LOSS.

    Raises:
        ExportError: fewer than FRAMES frames.
    """
    record, sums_record = _Record(info), _Record(info)
    for number, frame in enumerate(frames):
        fp32.step(frame)
        other.step(frame)
        record.add(fp32.maps(), other.maps())
        if fp16_sums is not None and number < FP16_SUMS_FRAMES:
            fp16_sums.step(frame)
            sums_record.add(fp32.maps(), fp16_sums.maps())
        if say and (number + 1) % _SAY_EVERY == 0:
            say(f"gate: frame {number + 1} of {FRAMES}")
    if len(record.differences) < FRAMES:
        raise ExportError(
            f"{video} has {len(record.differences)} frames; the gate needs {FRAMES}: give a longer --video"
        )
    bound = {"int8": INT8_F1_LOSS, "bf16": BF16_F1_LOSS}.get(info.precision, F1_LOSS)
    gate = record.gate(executed_on, video, calibration, bound)
    if fp16_sums is None:
        return gate
    ran_sums = f"the same with sums in FP16, rounded after every {SUMMED_AT_ONCE} products"
    return gate.model_copy(update={"fp16_sums": sums_record.gate(ran_sums, video, calibration, FP16_SUMS_F1_LOSS)})


class _Record:
    """What one side makes of the frames, held against FP32."""

    def __init__(self, info: BundleInfo) -> None:
        self.differences: list[float] = []
        self._info, self._not_finite = info, 0
        self._counts: list[tuple[int, int, int, int, int]] = []

    def add(self, truth: NDArray[np.float32], maps: NDArray[np.float32]) -> None:
        """The maps of the next frame, FP32's first."""
        bad = int((~np.isfinite(maps)).sum())
        self._not_finite += bad
        self.differences.append(1.0 if bad else float(np.abs(truth - maps).max()))
        self._counts.append(_count(truth, np.nan_to_num(maps), self._info))

    def gate(self, executed_on: str, video: str, calibration: str | None, bound: float) -> Gate:
        """What was measured of all frames so far."""
        info, by_frame = self._info, np.array(self._counts)
        keypoints, found, matched, near, near_found = (int(count) for count in by_frame.sum(axis=0))
        return Gate(
            precision=info.precision,
            executed_on=executed_on,
            video=Path(video).name,
            frames=len(self.differences),
            calibration=calibration,
            keypoint_threshold=info.keypoint_threshold,
            radius=RADIUS,
            keypoints=keypoints,
            found=found,
            matched=matched,
            f1=_f1(keypoints, found, 2 * matched),
            f1_near=_f1(keypoints, found, near + near_found),
            f1_loss_bound=bound,
            largest_map_difference=max(self.differences),
            map_difference_bound=MAP_DIFFERENCE,
            not_finite=self._not_finite,
            windows=tuple(
                Window(first_frame=start, frames=len(window), f1=_f1(total[0], total[1], 2 * total[2]))
                for start in range(0, len(by_frame), WINDOW)
                for window in [by_frame[start : start + WINDOW]]
                for total in [window.sum(axis=0)]
            ),
            map_differences=tuple(self.differences),
        )


def _f1(keypoints: int, found: int, right: int) -> float | None:
    return float(right / (keypoints + found)) if keypoints + found else None


def _count(truth: NDArray[np.float32], maps: NDArray[np.float32], info: BundleInfo) -> tuple[int, int, int, int, int]:
    """Of a frame: keypoints of FP32, of the other, matched; and of each side, those that the other has nearly."""
    if not info.has_keypoints:
        return 0, 0, 0, 0, 0
    joints, threshold = len(info.skeleton.joints), info.keypoint_threshold
    ours, theirs = (find_peaks(torch.from_numpy(each)[1 : 1 + joints], info.peaks)[0].numpy() for each in (truth, maps))
    thresholds, one_to_one = [max(threshold - NEAR, 1e-3), threshold], MATCHINGS.index("one_to_one")
    total = np.zeros(5, int)
    for our, their in zip(ours, theirs, strict=True):
        forth = count_keypoints(our[our[:, 2] >= threshold, :2], their, thresholds)
        back = count_keypoints(their[their[:, 2] >= threshold, :2], our, thresholds)
        hits, hits_back = forth.hits[:, one_to_one], back.hits[:, one_to_one]
        total += (forth.labels, back.labels, hits[1], hits[0], hits_back[0])
    return tuple(int(count) for count in total)  # pyright: ignore[reportReturnType]


def write_gate(gate: Gate, folder: Path) -> None:
    """Write gate.json and gate.png. Raises SinkError."""
    with atomic_write(folder / FILE_NAME) as partial:
        partial.write_text(gate.model_dump_json(indent=2) + "\n", encoding="utf-8")
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    scores, maps = figure.subplots(2, 1, sharex=True)
    for each, label in ((gate, None), (gate.fp16_sums, "sums in FP16")):
        if each is not None:
            middles = [window.first_frame + window.frames / 2 for window in each.windows]
            f1 = [np.nan if window.f1 is None else window.f1 for window in each.windows]
            scores.plot(middles, f1, marker="o", label=label)
            maps.plot(each.map_differences)
    scores.axhline(
        1 - gate.f1_loss_bound, linestyle="--", color="grey", label=f"bound on the mean, {1 - gate.f1_loss_bound}"
    )
    scores.set_ylabel(f"F1 of {WINDOW} frames")
    scores.set_title(f"{gate.precision.upper()} against FP32, each on its own predictions: {gate.video}")
    scores.legend(loc="lower left")
    maps.set_xlabel("frame")
    maps.set_ylabel("largest difference of a map")
    with atomic_write(folder / "gate.png") as partial:
        figure.savefig(partial, dpi=100)
