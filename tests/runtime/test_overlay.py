import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.backends import BackendOptions
from runtime.frames import Frame
from runtime.overlay import Painter, draw_maps, draw_parts
from runtime.overlay_people import PALETTE, TRAIL
from runtime.session import Session
from stm_skeletons.maps import render_maps
from stm_skeletons.parts import Parts, assemble_parts
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17

SIZE = (300, 200)
LEFT_HIP, RIGHT_HIP, LEFT_KNEE = (COCO17.joints.index(name) for name in ("left_hip", "right_hip", "left_knee"))
HIPS = COCO17.edge_names.index("left_hip-right_hip")


def hips(*people: tuple[int, float, float], size: tuple[int, int] = SIZE) -> Parts:
    """People (id, x, y) with two hips 40 apart, the left one at (x, y); and an unassigned nose at (20, 20)."""
    peaks = np.zeros((17, max(1, len(people)), 3), np.float32)
    peaks[0, 0] = (20, 20, 0.9)
    keypoints, chosen = np.zeros((len(people), 17, 3), np.float32), np.full((len(people), 17), -1)
    for i, (_, x, y) in enumerate(people):
        peaks[LEFT_HIP, i], peaks[RIGHT_HIP, i] = (x, y, 0.9), (x + 40, y, 0.9)
        keypoints[i, [LEFT_HIP, RIGHT_HIP]] = peaks[[LEFT_HIP, RIGHT_HIP], i]
        chosen[i, [LEFT_HIP, RIGHT_HIP]] = i
    edges = np.zeros((19, peaks.shape[1], peaks.shape[1]), np.float32)
    ids = np.array([person_id for person_id, _, _ in people], np.int64)
    found = People(np.full(len(people), 0.5, np.float32), keypoints, chosen, ids)
    return assemble_parts(COCO17, size, peaks, edges, found, 0.3, 0.3)


def painted(painter: Painter, parts: Parts, brightness: int = 0) -> np.ndarray:
    return painter.paint(Frame(0, 0.0, np.full((parts.size[1], parts.size[0], 3), brightness, np.uint8)), parts)


def colour_of(person_id: int) -> list[int]:
    """BGR of the colour of an id."""
    return [int(PALETTE[(person_id - 1) % len(PALETTE)][i : i + 2], 16) for i in (4, 2, 0)]


def test_parts_are_drawn_in_place_on_a_copy_of_the_frame():
    peaks = np.zeros((17, 2, 3), np.float32)
    peaks[LEFT_HIP, 0], peaks[RIGHT_HIP, 0] = (40.5, 60.5, 0.9), (160.5, 60.5, 0.9)
    edges = np.zeros((19, 2, 2), np.float32)
    edges[HIPS, 0, 0] = 0.8
    frame = np.zeros((120, 200, 3), np.uint8)
    drawn = draw_parts(frame, assemble_parts(COCO17, (200, 120), peaks, edges, no_people(17), 0.3, 0.3))
    assert not frame.any()
    assert drawn[60, 40, 2] > 200, "left is orange: red in BGR"
    assert drawn[60, 160, 0] > 200, "right is blue"
    assert drawn[60, 100].any(), "the edge lies between them"
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert rows.min() > 50
    assert rows.max() < 70
    assert columns.min() > 30
    assert columns.max() < 170


def test_people_keep_the_colour_of_their_id_in_every_frame():
    painter = Painter()
    same_colour_id = 1 + len(PALETTE)
    for step in range(3):
        drawn = painted(painter, hips((1, 60.5 + step, 100.5), (2, 180.5, 100.5 + step), (same_colour_id, 180.5, 40.5)))
        for row, column, person_id in ((100, 70 + step, 1), (100 + step, 190, 2), (40, 190, same_colour_id)):
            assert drawn[row, column].tolist() == pytest.approx(colour_of(person_id), abs=25), "apart from soft edges"


def test_people_without_id_and_unassigned_parts_are_grey():
    drawn = painted(Painter(), hips((0, 60.5, 100.5)))
    assert len(set(drawn[100, 80].tolist())) == 1
    rings = drawn[10:31, 10:31]
    assert rings.any()
    assert (rings == rings[..., :1]).all()
    assert (rings.max(axis=2) > 20).sum() < 30, "thin"
    assert drawn[:70, 40:].max() == 0, "no id"


def test_edges_are_drawn_only_within_people_and_thin_at_predicted_joints():
    parts = hips((1, 60.5, 60.5))
    assert len(parts.edge_types) == 0, "people are drawn from their joints"
    unassigned = replace(parts, people=no_people(17), owners=np.full_like(parts.owners, -1))
    assert not painted(Painter(), unassigned)[60, 75:90].any()
    parts.people.keypoints[0, LEFT_KNEE] = (60.5, 160.5, 0.1)
    parts.people.keypoints[0, RIGHT_HIP, 1] = 100.5
    drawn = painted(Painter(), parts, brightness=255)
    dark = (drawn[110:150, 50:70] != 255).any(axis=2).sum(axis=1)
    assert dark.min() >= 1, "the thigh, to a predicted knee"
    assert dark.max() <= 3
    assert (drawn[150:, 30:90] != 255).any(axis=2).sum() < 40, "no disc at the knee"


def test_id_is_drawn_above_the_head_and_inside_the_frame():
    for x, y in ((100.5, 100.5), (-20, 3), (280, 3), (290, 198)):
        drawn = painted(Painter(), hips((7, x, y)))
        plate = (drawn == colour_of(7)).all(axis=2)
        rows, columns = np.nonzero(plate)
        expected = min(max(y - 10, 8), 195), min(max(x + 20, 5), 294)
        assert np.abs(rows - expected[0]).min() <= 6
        assert np.abs(columns - expected[1]).min() <= 6
        black = (drawn[plate.any(axis=1)][:, plate.any(axis=0)] == 0).all(axis=2)
        assert black.any(), "black digits on it"


def test_trail_fades_and_ends_with_its_person():
    painter = Painter()
    pace = 100 / TRAIL  # pixels per frame, so that the trail is 100 pixels long
    drawn = [painted(painter, hips((1, 10 + pace * step, 100.5))) for step in range(2 * TRAIL)][-1]
    end = round(30 + pace * (2 * TRAIL - 1)) - 100  # the oldest point; the newest is the middle of the hips
    behind = drawn[97:105, :200].max(axis=(0, 2))
    assert not behind[: end - 1].any()
    assert behind[end + 10] > 0
    assert behind[end + 70] > behind[end + 35] > behind[end + 15] > 0
    assert not [painted(painter, hips()) for _ in range(TRAIL)][-1][80:].any()
    assert not painted(painter, hips((1, 10, 100.5)))[90:110, 70:].any(), "the trail restarts"


def test_memory_does_not_grow_with_people_who_have_left():
    painter, memory = Painter(), []
    tracemalloc.start()
    for person_id in range(1, 801):
        painted(painter, hips((person_id, 60, 100)))
        if person_id % 400 == 0:
            memory.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert memory[1] < memory[0] + 150_000  # a trail of one point takes a kilobyte


def test_trails_restart_when_the_frame_size_changes():
    painter = Painter()
    for step in range(5):
        painted(painter, hips((1, 10 + 20 * step, 100.5)))
    drawn = painted(painter, hips((1, 200, 100.5), size=(400, 300)))
    assert not drawn[95:107, 40:180].any()


def test_frame_is_painted_once_for_all_sinks():
    painter = Painter()
    frame = Frame(0, 0.0, np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    first = painter.paint(frame, hips((1, 60, 100)))
    assert painter.paint(frame, hips((1, 60, 100))) is first
    assert painter.paint(replace(frame, number=1), hips((1, 60, 100))) is not first


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (426, 240), (1920, 1080)])
def test_frames_of_any_size_are_painted(size: tuple[int, int]):
    x, y = size[0] / 3, size[1] / 2
    for parts in (hips((1, x, y), (0, x + 5, y + 9), size=size), hips(size=size)):
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        for draw in (Painter("people"), Painter("parts")):
            assert draw.paint(Frame(0, 0.0, frame), parts).shape == frame.shape
    assert not frame.any()


def test_lines_are_thicker_on_larger_frames():
    def thickness(scale: int) -> int:
        parts = hips((1, 60 * scale, 100 * scale), size=(300 * scale, 200 * scale))
        parts.people.keypoints[0, RIGHT_HIP, 0] = 240 * scale
        drawn = painted(Painter(), parts)
        return int((drawn[:, 180 * scale] == colour_of(1)).all(axis=1).sum())

    assert thickness(1) < thickness(4) < thickness(10)


@pytest.mark.parametrize("size", [(768, 576), (160, 96), (300, 400)])
def test_maps_are_drawn_at_their_place_in_the_frame(size: tuple[int, int], edge_bundle: Path):
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        info = session.info
    pose = np.zeros((1, 17, 3), np.float32)
    pose[0, LEFT_HIP] = (100, 50, 1)
    maps = render_maps(pose, COCO17, (info.height, info.width))
    drawn = draw_maps(np.zeros((size[1], size[0], 3), np.uint8), maps, info)
    brightest = np.unravel_index(cv2.GaussianBlur(drawn.max(axis=2), (0, 0), 2).argmax(), drawn.shape[:2])
    scale = min(info.width / size[0], info.height / size[1])
    expected = [
        (at - total / 2) / scale + own / 2
        for at, total, own in zip((50, 100), (info.height, info.width), size[::-1], strict=True)
    ]
    np.testing.assert_allclose(np.array(brightest) + 0.5, expected, atol=2 / scale)


def test_painter_shows_the_maps_of_the_latest_frame(edge_bundle: Path, clip: Path):
    image = np.asarray(cv2.VideoCapture(str(clip)).read()[1], np.uint8)
    painter = Painter("maps")
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        painter.source_of_maps = session
        parts = session.step(image)
        drawn = painter.paint(Frame(0, 0.0, image), parts)
        session_maps, info = session.maps(), session.info
    np.testing.assert_array_equal(drawn, draw_maps(image, session_maps, info))
    assert drawn.shape == image.shape
    without_maps = draw_maps(image, np.zeros_like(session_maps), info)
    assert without_maps.mean() < 0.7 * image.mean(), "dimmed, so that maps stand out"


def test_networks_without_keypoint_maps_show_their_other_maps(edge_bundle: Path):
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        info = session.info
    image = np.full((96, 160, 3), 90, np.uint8)
    for channels in (("skeleton",), ("mask", *COCO17.edge_names)):
        fewer = info.model_copy(update={"channels": channels})
        maps = np.zeros((len(channels), info.height // 4, info.width // 4), np.float32)
        before = draw_maps(image, maps, fewer)
        maps[-1, 10, 10] = 1
        assert (draw_maps(image, maps, fewer) != before).any()
