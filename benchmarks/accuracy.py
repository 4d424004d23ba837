"""F1 of a bundle's keypoints on labelled COCO images, beside the peaks of MoveNet's own heat maps.

    python -m benchmarks.accuracy edge --coco FOLDER --movenet movenet-multipose.onnx

Images are letterboxed to the bundle's size and shown once, each to an empty memory. Thresholds are the best for each
side on these very images: this compares detectors, it is not a figure to quote as accuracy on unseen data.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from runtime.session import Session
from stm_skeletons.geometry import STRIDE, Letterbox
from stm_skeletons.skeleton import COCO17
from training.evaluation.keypoints import BODY_JOINTS, Score, best_score, count_keypoints, sweep_scores, zeros

HEAT_MAPS = "StatefulPartitionedCall/Sigmoid_1:0"
"""MoveNet MultiPose's inner tensor [1, 17, H/4, W/4]."""
LOWEST_SCORE = 0.05
THRESHOLDS = np.arange(0.05, 0.955, 0.01)


@dataclass(frozen=True)
class LabelledImage:
    """An image and the visible or labelled joints of everybody in it."""

    image: NDArray[np.uint8]
    people: NDArray
    """[people, 17, 3] x, y in image pixels, visibility (0, 1, 2) as COCO has it."""


def compare(bundle: str, coco: Path, movenet: Path) -> dict[str, Score]:
    """Best F1, one to one, of the bundle and of MoveNet's heat maps on the labelled images of a COCO folder."""
    heat_maps = MoveNetHeatMaps(movenet)
    counts = {"bundle": zeros(len(THRESHOLDS)), "movenet": zeros(len(THRESHOLDS))}
    with Session.open(bundle, min_keypoint_score=LOWEST_SCORE) as session:
        for labelled in load_coco(coco):
            size = (labelled.image.shape[1], labelled.image.shape[0])
            letterbox = Letterbox(size, session.info.size)
            session.reset()
            parts = session.step(labelled.image)
            points = np.column_stack([letterbox.to_network(parts.keypoints), parts.keypoint_scores])
            ours = {name: points[parts.keypoint_types == i] for i, name in enumerate(session.info.skeleton.joints)}
            boxed = np.empty((session.info.height, session.info.width, 3), np.uint8)
            letterbox.apply(labelled.image, boxed)
            theirs = heat_maps.peaks(boxed)
            for joint in BODY_JOINTS:
                column = labelled.people[:, COCO17.joints.index(joint)]
                truth = letterbox.to_network(column[column[:, 2] > 0, :2])
                counts["bundle"] += count_keypoints(truth, ours[joint], THRESHOLDS)
                counts["movenet"] += count_keypoints(truth, theirs[joint], THRESHOLDS)
    return {name: best_score(sweep_scores(found, THRESHOLDS, "one_to_one")) for name, found in counts.items()}


def load_coco(folder: Path) -> list[LabelledImage]:
    """The images of ``folder/images`` whose annotations in ``folder/*.json`` have keypoints."""
    annotations = json.loads(next(folder.glob("*.json")).read_text())
    people: dict[int, list] = {}
    for annotation in annotations["annotations"]:
        if annotation.get("num_keypoints", 0) > 0:
            people.setdefault(annotation["image_id"], []).append(np.reshape(annotation["keypoints"], (17, 3)))
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    found = []
    for number, poses in sorted(people.items()):
        image = cv2.imread(str(folder / "images" / Path(files[number]).name))
        if image is not None:
            found.append(LabelledImage(np.asarray(image, np.uint8), np.array(poses, float)))
    return found


class MoveNetHeatMaps:
    """MoveNet MultiPose's own heat maps, and their plain peaks: cells that none of their 8 neighbours exceeds."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        model.graph.output.add().name = HEAT_MAPS
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """BGR uint8 [H, W, 3], sides multiples of 32, to [17, H/4, W/4]."""
        (maps,) = self._session.run([HEAT_MAPS], {"input:0": frame[None, :, :, ::-1].astype(np.int32)})
        return np.asarray(maps)[0]

    def peaks(self, frame: NDArray[np.uint8]) -> dict[str, NDArray]:
        """For each joint [M, 3] x, y in network pixels (the cell's centre) and score."""
        maps = self.maps(frame)
        highest = np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) for one in maps])
        peaks = {}
        for name, one, top in zip(COCO17.joints, maps, highest, strict=True):
            rows, columns = np.nonzero((one >= top) & (one >= LOWEST_SCORE))
            centres = (np.column_stack([columns, rows]) + 0.5) * STRIDE
            peaks[name] = np.column_stack([centres, one[rows, columns]])
        return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description="F1 of a bundle beside MoveNet's own heat maps")
    parser.add_argument("bundle")
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--movenet", type=Path, required=True)
    arguments = parser.parse_args()
    for name, score in compare(arguments.bundle, arguments.coco, arguments.movenet).items():
        print(
            f"{name:8} F1 {score.f1:.3f}  precision {score.precision:.3f}  recall {score.recall:.3f}  "
            f"at threshold {score.threshold:.2f}"
        )


if __name__ == "__main__":
    main()
