"""Draws a bundle's output for frames of a video: mask, keypoint maps, edge maps and parts, side by side.

python -m benchmarks.stills edge VIDEO --frames 20 100 --out edge.jpg

With ``--people``, frames are drawn as by ``stm-skeletons run --overlay``. The image of the README is made by

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
from training.map_images import caption, grid, paint

Image = NDArray[np.uint8]


def draw_maps(bundle: str, video: str, numbers: list[int], threads: int) -> list[list[Image]]:
    """A row of BGR images of the network's size for each of the frames; the bundle also runs on all frames before."""
    rows = []
    source = open_source(video)
    with Session.open(bundle, BackendOptions(threads=threads)) as session:
        for frame in islice(source, max(numbers) + 1):
            parts = session.step(frame.image)
            if frame.number in numbers:
                boxed, drawn = (
                    _boxed(image, session.info.size) for image in (frame.image, draw_parts(frame.image, parts))
                )
                parts_image = caption(drawn, f"frame {frame.number}: parts")
                rows.append([*_maps(boxed, session.maps(), session.info.skeleton), parts_image])
    source.close()
    return rows


def draw_people(bundle: str, video: str, numbers: list[int], threads: int) -> list[list[Image]]:
    """A row for each of the frames: the frame with its people and their trails, at its own size."""
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
    parser = argparse.ArgumentParser(description="Draw a bundle's output for frames of a video.")
    parser.add_argument("bundle", help="shipped model or folder of a bundle")
    parser.add_argument("video")
    parser.add_argument("--frames", type=int, nargs="+", default=[0], help="frames to draw, counted from 0")
    parser.add_argument("--people", action="store_true", help="draw people as 'run --overlay' does, without maps")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="image to write, .png or .jpg")
    arguments = parser.parse_args()
    draw = draw_people if arguments.people else draw_maps
    sheet = grid(draw(arguments.bundle, arguments.video, arguments.frames, arguments.threads))
    with atomic_write(arguments.out) as partial:
        partial.write_bytes(cv2.imencode(arguments.out.suffix, sheet)[1].tobytes())


if __name__ == "__main__":
    main()
