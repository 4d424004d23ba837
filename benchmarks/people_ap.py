"""OKS AP of a bundle's people on labelled COCO images, compared with MoveNet MultiPose's own decoding.

    python -m benchmarks.people_ap edge --coco FOLDER --movenet movenet-multipose.onnx --split test

Each image is letterboxed to the bundle's size and run once, with an empty memory; MoveNet gets the same pixels.
Intervals are 95% bootstrap intervals over images; differences are paired. MoveNet decodes at most six people, so images
with more are reported as a separate group.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.session import Session
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import WeightsError, one_line
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17
from stm_skeletons.table import Table
from training.data.held_out import held_out_sequences
from training.data.open import open_data
from training.evaluation.people_scores import PeopleEvaluation, PeopleTally, compare_people

FRAMES = 2
"""Frames of a sequence; only the first one, the unmoved image, is used."""


class MoveNetDecoding:
    """MoveNet MultiPose with Google's own decoding: at most six people, each with a score and all joints."""

    def __init__(self, path: Path) -> None:
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises types that it does not export
            raise WeightsError(f"ONNX Runtime cannot load {path}: {one_line(error)}") from error

    def people(self, frame: NDArray[np.uint8]) -> People:
        """People in a frame, BGR [H, W, 3] with sides that are multiples of 32, in its pixels."""
        (decoded,) = self._session.run(None, {"input:0": frame[None, :, :, ::-1].astype(np.int32)})
        six = np.asarray(decoded)[0]
        height, width = frame.shape[:2]
        keypoints = six[:, :51].reshape(len(six), 17, 3)[..., [1, 0, 2]] * np.array([width, height, 1], np.float32)
        joints = np.arange(len(six))[:, None].repeat(17, axis=1)
        return People(six[:, 55], keypoints.astype(np.float32), joints, np.zeros(len(six), np.int64))


def measure(bundle: str, coco: Path, movenet: Path, split: str) -> dict[str, PeopleEvaluation]:
    """Evaluate the bundle ("ours") and MoveNet on the images of a split."""
    opened = Bundle.open(bundle)
    decoding = MoveNetDecoding(movenet)
    data = open_data("coco", coco, split, COCO17)
    tallies = {name: PeopleTally(COCO17, opened.info.person_threshold) for name in ("ours", "MoveNet")}
    with Session.open(opened) as session:
        for sequence in held_out_sequences(data, opened.info.size, FRAMES):
            frame = sequence.frames[0]
            session.reset()
            session.step(frame.image)
            for name, people in (("ours", session.people()), ("MoveNet", decoding.people(frame.image))):
                assert people is not None
                tallies[name].begin(sequence.sourced)
                tallies[name].count(frame, people)
    return {name: tally.result() for name, tally in tallies.items()}


def table(found: dict[str, PeopleEvaluation]) -> Table:
    """AP by group of images, with intervals."""
    rows = []
    groups = {name: evaluation.groups for name, evaluation in found.items()}
    for group in groups["ours"]:
        ours, theirs = (groups[name][group] for name in ("ours", "MoveNet"))
        both = compare_people(ours, theirs)
        aps = [f"{each.figures()['AP']:.3f}{_interval(each.intervals()['AP'])}" for each in (ours, theirs)]
        difference = f"{both.difference:+.3f}{_interval(both.difference_interval)}"
        rows.append((f"{group} labelled", *aps, difference, f"{both.ratio:.3f}{_interval(both.ratio_interval)}"))
    return Table("AP", ("images", "ours", "MoveNet", "difference", "ratio"), rows)


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" ({bounds[0]:.3f} to {bounds[1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="OKS AP of people, compared with MoveNet's own decoding.")
    parser.add_argument("bundle", help="shipped model or folder of a bundle")
    parser.add_argument("--coco", type=Path, required=True, help="folder of COCO keypoints")
    parser.add_argument("--movenet", type=Path, required=True, help="MoveNet MultiPose as ONNX")
    parser.add_argument("--split", default="val", help="train, val or test")
    arguments = parser.parse_args()
    found = measure(arguments.bundle, arguments.coco, arguments.movenet, arguments.split)
    print(table(found).markdown())
    for name, evaluation in found.items():
        figures = ", ".join(f"{key} {value:.3f}" for key, value in evaluation.figures().items())
        print(f"{name}: {figures}")
    ours = found["ours"]
    print(f"ours: {ours.reported_per_frame:.2f} people reported per image, {ours.labelled_per_frame:.2f} labelled")


if __name__ == "__main__":
    main()
