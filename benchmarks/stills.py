"""Frames of a video with what a bundle sees in them: mask, keypoint maps, edge maps and parts, side by side.

python -m benchmarks.stills edge VIDEO --frames 20 100 --out edge.jpg

With ``--people`` the frames as ``stm-skeletons run --overlay`` draws them; the one in the README is

python -m benchmarks.stills edge examples/vtest-10s.avi --people --frames 75 --out docs/images/overlay.jpg
"""

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.backends import BackendOptions
from runtime.overlay import Painter, draw_parts
from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.files import atomic_write
from stm_skeletons.geometry import PADDING_GREY, Letterbox
from stm_skeletons.skeleton import Skeleton
from training.map_pictures import caption, grid, paint

Image = NDArray[np.uint8]


def look(bundle: str, video: str, numbers: list[int], threads: int) -> list[list[Image]]:
    """A row of pictures of the network's size, BGR, for each of the frames; all frames before are looked at, too."""
    rows = []
    source = open_source(video)
    with Session.open(bundle, BackendOptions(threads=threads)) as session:
        for frame in islice(source, max(numbers) + 1):
            parts = session.step(frame.image)
            if frame.number in numbers:
                boxed, drawn = (
                    _boxed(image, session.info.size) for image in (frame.image, draw_parts(frame.image, parts))
                )
                found = caption(drawn, f"frame {frame.number}: parts")
                rows.append([*_maps(boxed, session.maps(), session.info.skeleton), found])
    source.close()
    return rows


def look_at_people(bundle: str, video: str, numbers: list[int], threads: int) -> list[list[Image]]:
    """A row for each of the frames, with a picture of the frame's size with its people; trails need those before."""
    rows = []
    source, painter = open_source(video), Painter()
    with Session.open(bundle, BackendOptions(threads=threads)) as session:
        for frame in islice(source, max(numbers) + 1):
            drawn = painter.paint(frame, session.step(frame.image))
            if frame.number in numbers:
                rows.append([drawn])
    source.close()
    return rows


def _boxed(image: Image, size: tuple[int, int]) -> Image:
    boxed = np.full((size[1], size[0], 3), PADDING_GREY, np.uint8)
    Letterbox((image.shape[1], image.shape[0]), size).apply(image, boxed)
    return boxed


def _maps(frame: Image, maps: NDArray[np.float32], skeleton: Skeleton) -> list[Image]:
    joints = 1 + len(skeleton.joints)
    return [
        caption(paint(frame, maps[:1], ("mask",)), "mask"),
        caption(paint(frame, maps[1:joints], skeleton.joints), "keypoint maps"),
        caption(paint(frame, maps[joints:], skeleton.edge_names), "edge maps"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a bundle sees in frames of a video")
    parser.add_argument("bundle")
    parser.add_argument("video")
    parser.add_argument("--frames", type=int, nargs="+", default=[0], help="counted from 0")
    parser.add_argument("--people", action="store_true", help="the frames with their people alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help=".png or .jpg")
    arguments = parser.parse_args()
    looked = look_at_people if arguments.people else look
    sheet = grid(looked(arguments.bundle, arguments.video, arguments.frames, arguments.threads))
    with atomic_write(arguments.out) as partial:
        partial.write_bytes(cv2.imencode(arguments.out.suffix, sheet)[1].tobytes())


if __name__ == "__main__":
    main()
