"""The gate for bundles of lower precision: FP32 and the bundle run side by side through a video, each with its memory.

What a network reports in a frame changes what it memorises, so errors could accumulate; only a closed loop over many
frames shows that. FP32's keypoints are the reference.
"""

from collections.abc import Iterable, Iterator
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
from stm_skeletons.cli.progress import Progress, no_progress
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
"""Of these, FP16 is also run with FP16 accumulation, which takes five to ten times as long."""
F1_LOSS = 0.005
"""Largest loss of F1 compared with FP32 that passes."""
FP16_SUMS_F1_LOSS = 0.01
"""The same with FP16 accumulation everywhere, which is stricter than a GPU, over fewer frames."""
BF16_F1_LOSS = 0.01
"""The same for "bf16", whose numbers have 8 significant bits; FP16's have 11."""
INT8_F1_LOSS = 0.03
"""The same for "int8": points near the threshold appear and disappear, as many correctly as wrongly (docs/benchmarks.md
has its F1 on labelled data)."""
MAP_DIFFERENCE = 0.05
"""Largest difference of any map that passes if FP32 reports no keypoint in the whole video."""
NEAR = 0.02
"""Distance of a score from the threshold that ``f1_near`` tolerates."""
WINDOW = 30
"""Frames per point of the plot."""
GATE_FILES = (FILE_NAME, "gate.png")


def check_video(video: str) -> None:
    """Raise SourceError or ExportError if the gate cannot run on a video, as far as its header tells."""
    with closing(_open_footage(video)) as source:
        _check_length(source, video)


def _check_length(source: Source, video: str) -> None:
    if source.live:
        raise ExportError(f"{video} is a camera or stream; record it first: the gate reads the video more than once")
    if source.total is not None and source.total < FRAMES:
        raise ExportError(f"{video} has {source.total} frames, the gate needs {FRAMES}; give a longer --video")


def _open_footage(video: str) -> Source:
    """Open a video or folder. From a data set with a splits.json, only the training split is used.

    Raises SourceError, or DataError if the data set is damaged.
    """
    folder = Path(video)
    if folder.is_dir() and (folder.parent / splits.FILE).is_file():
        labelled = open_data("coco", folder.parent, "train", COCO17).images
        return ImageSource([image.file.path for image in labelled])
    return open_source(video)


def letterboxed(video: str, size: tuple[int, int], start: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield at most ``count`` frames of a video from number ``start`` on: uint8 [H, W, 3] BGR at the network's (W, H).

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
    progress: Progress = no_progress,
    fp16_sums: Stepper | None = None,
) -> Gate:
    """Run both networks through the frames, each on its own predictions, and compare them.

    Args:
        fp32, other: sessions before their first frame.
        frames: uint8 [H, W, 3] BGR, letterboxed.
        info: the bundle's; gives the threshold and the number of peaks.
        executed_on, video, calibration: recorded in the result, see Gate.
        progress: shows how far it is.
        fp16_sums: a third session, run through the first FP16_SUMS_FRAMES frames with the bound FP16_SUMS_F1_LOSS.

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
        progress("gate, frames", number + 1, FRAMES)
    if len(record.differences) < FRAMES:
        raise ExportError(
            f"{video} has {len(record.differences)} frames, the gate needs {FRAMES}; give a longer --video"
        )
    bound = {"int8": INT8_F1_LOSS, "bf16": BF16_F1_LOSS}.get(info.precision, F1_LOSS)
    gate = record.gate(executed_on, video, calibration, bound)
    if fp16_sums is None:
        return gate
    ran_sums = f"the same with FP16 accumulation, rounded after every {SUMMED_AT_ONCE} products"
    return gate.model_copy(update={"fp16_sums": sums_record.gate(ran_sums, video, calibration, FP16_SUMS_F1_LOSS)})


class _Record:
    """Comparison of one session with FP32."""

    def __init__(self, info: BundleInfo) -> None:
        self.differences: list[float] = []
        self._info, self._not_finite = info, 0
        self._counts: list[tuple[int, int, int, int, int]] = []

    def add(self, truth: NDArray[np.float32], maps: NDArray[np.float32]) -> None:
        """Add the maps of the next frame, FP32's first."""
        bad = int((~np.isfinite(maps)).sum())
        self._not_finite += bad
        self.differences.append(1.0 if bad else float(np.abs(truth - maps).max()))
        self._counts.append(_count(truth, np.nan_to_num(maps), self._info))

    def gate(self, executed_on: str, video: str, calibration: str | None, bound: float) -> Gate:
        """Return the measurements of all frames so far."""
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
    """Count keypoints of FP32, keypoints of the other, matches; and for each side, keypoints near the other's
    threshold."""
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
    for each, label in ((gate, None), (gate.fp16_sums, "FP16 accumulation")):
        if each is not None:
            middles = [window.first_frame + window.frames / 2 for window in each.windows]
            f1 = [np.nan if window.f1 is None else window.f1 for window in each.windows]
            scores.plot(middles, f1, marker="o", label=label)
            maps.plot(each.map_differences)
    scores.axhline(
        1 - gate.f1_loss_bound, linestyle="--", color="grey", label=f"bound on the mean, {1 - gate.f1_loss_bound}"
    )
    scores.set_ylabel(f"F1 over {WINDOW} frames")
    scores.set_title(f"{gate.precision.upper()} compared with FP32, each on its own predictions: {gate.video}")
    scores.legend(loc="lower left")
    maps.set_xlabel("frame")
    maps.set_ylabel("largest difference of any map")
    with atomic_write(folder / "gate.png") as partial:
        figure.savefig(partial, dpi=100)
