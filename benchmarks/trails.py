"""Counts keypoints that are only remembered: the frame itself shows no such joint nearby, not even dimly.

    python -m benchmarks.trails vtest.avi [--model edge] [--frames 300]

Such a keypoint belongs to a person who is hidden just now, or to a trail behind a person who walked on. In footage in
which few people are hidden, their number bounds the trails.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.bundle import Bundle
from stm_skeletons.geometry import Letterbox
from stm_skeletons.parts import Parts

DIM = 0.1
"""Lowest score of a keypoint that the frame itself shows."""
NEARBY = 10
"""Largest distance from such a keypoint, in network pixels; the radius of the keypoint measure."""


@dataclass
class TrailCounts:
    """Counts of reported keypoints."""

    keypoints: int = 0
    remembered: int = 0
    """Those that the frame itself does not show."""

    def add(self, reported: Parts, shown: Parts, scale: float) -> None:
        """Count a frame's keypoints; ``scale``: network pixels per pixel of the frame."""
        distance = np.linalg.norm(reported.keypoints[:, None] - shown.keypoints[None], axis=-1) * scale
        same = reported.keypoint_types[:, None] == shown.keypoint_types
        self.keypoints += len(reported.keypoints)
        self.remembered += int((~(same & (distance <= NEARBY)).any(axis=1)).sum())


def count_trails(model: str, video: str, frames: int) -> TrailCounts:
    """Run a bundle on the first frames of a video, with its memory and without."""
    counts, source, bundle = TrailCounts(), open_source(video), Bundle.open(model)
    with Session.open(bundle) as session, Session.open(bundle, min_keypoint_score=DIM) as without_memory:
        for frame in source:
            if frame.number == frames:
                break
            without_memory.reset()
            shown, reported = without_memory.step(frame.image), session.step(frame.image)
            inner = Letterbox(reported.size, bundle.info.size).inner
            counts.add(reported, shown, inner[2] / reported.size[0])
    source.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Count keypoints that are only remembered.")
    parser.add_argument("video", help="footage in which few people are hidden")
    parser.add_argument("--model", default="edge", help="shipped model or folder of a bundle")
    parser.add_argument("--frames", type=int, default=300, help="number of frames")
    arguments = parser.parse_args()
    counts = count_trails(arguments.model, arguments.video, arguments.frames)
    share = counts.remembered / max(1, counts.keypoints)
    print(f"{counts.keypoints} keypoints, {counts.remembered} of them ({share:.2%}) only remembered")


if __name__ == "__main__":
    main()
