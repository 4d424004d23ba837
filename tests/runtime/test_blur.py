"""Heads are unrecognisable in images that are shown, also while detection loses them."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from people_at import SIZE, Joints, result
from typer.testing import CliRunner

from runtime import Session
from runtime.blur import KEPT, HeadBlur
from runtime.frames import Frame
from runtime.overlay import Painter
from stm_skeletons.cli.app import make_app
from stm_skeletons.errors import SinkError
from stm_skeletons.skeleton import COCO17

FACE: Joints = {
    "nose": (200, 60), "left_eye": (206, 55), "right_eye": (194, 55), "left_ear": (213, 58), "right_ear": (187, 58),
}  # fmt: skip
BODY: Joints = {
    "left_shoulder": (230, 100), "right_shoulder": (170, 100), "left_hip": (220, 180), "right_hip": (180, 180),
}  # fmt: skip


def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def moved(joints: Joints, x: float) -> Joints:
    return {name: (at[0] + x, at[1]) for name, at in joints.items()}


def blur_mask(
    head_blur: HeadBlur, people: dict[int, Joints], now: float = 1.0, image: np.ndarray | None = None
) -> np.ndarray:
    """Mask [h, w] of the pixels that blurring changes."""
    image = noise() if image is None else image
    before = image.copy()
    after = head_blur.blur(image, result(now, people).parts, now)
    assert (image == before).all(), "the frame itself is unchanged"
    return (after != image).any(axis=2)


def centre_of(changed: np.ndarray) -> tuple[float, float]:
    y, x = np.nonzero(changed)
    return float(x.mean()), float(y.mean())


def test_blur_covers_the_head_from_hair_to_chin_and_little_else():
    changed = blur_mask(HeadBlur(COCO17), {1: FACE | BODY})
    y, x = np.nonzero(changed)
    assert x.min() <= 182, "both ears"
    assert x.max() >= 218
    assert y.min() <= 40, "the hair"
    assert y.max() >= 78, "the chin"
    assert y.max() < 100, "not the shoulders"
    assert changed.sum() < 0.06 * changed.size


def test_blur_leaves_no_detail_of_a_face():
    """Its pixels are the means of a few cells: detail finer than a third of the head is gone."""
    image = noise()
    after = HeadBlur(COCO17).blur(image, result(1.0, {1: FACE | BODY}).parts, 1.0)
    face = after[45:70, 188:212].astype(float)
    assert image[45:70, 188:212].std() > 60
    assert face.std() < 20
    assert np.abs(np.diff(face, axis=1)).max() < 6
    assert np.abs(np.diff(face, axis=0)).max() < 6


def test_predicted_joints_locate_the_head():
    predicted = {f"?{name}": at for name, at in FACE.items()}
    assert centre_of(blur_mask(HeadBlur(COCO17), {1: predicted | BODY})) == pytest.approx((200, 57), abs=4)


def test_head_without_known_joints_is_assumed_above_the_shoulders():
    assert centre_of(blur_mask(HeadBlur(COCO17), {1: BODY})) == pytest.approx((200, 55), abs=8)
    lying = {name: (at[1], 100 + 200 - at[0]) for name, at in BODY.items()}
    x, y = centre_of(blur_mask(HeadBlur(COCO17), {1: lying}))
    assert x < 70, "to the left, in line with the trunk"
    assert y == pytest.approx(100, abs=8)


def test_lost_head_moves_with_the_shoulders():
    head_blur = HeadBlur(COCO17)
    blur_mask(head_blur, {1: FACE | BODY}, 1.0)
    for step in range(1, 60):
        x, y = centre_of(blur_mask(head_blur, {1: moved(BODY, 2 * step)}, 1 + step / 10))
        assert (x, y) == pytest.approx((200 + 2 * step, 57), abs=3)


def test_lost_person_stays_blurred_for_2_s():
    head_blur = HeadBlur(COCO17)
    blur_mask(head_blur, {1: FACE | BODY}, 1.0)
    assert centre_of(blur_mask(head_blur, {}, 1.0 + KEPT)) == pytest.approx((200, 57), abs=3)
    assert not blur_mask(head_blur, {}, 1.01 + KEPT).any()
    assert KEPT == 2


def test_change_of_size_or_clock_reset_forgets_lost_heads():
    head_blur = HeadBlur(COCO17)
    blur_mask(head_blur, {1: FACE | BODY}, 5.0)
    assert not blur_mask(head_blur, {}, 1.0).any()
    blur_mask(head_blur, {1: FACE | BODY}, 5.0)
    other = np.zeros((100, 100, 3), np.uint8)
    head_blur.blur(other, result(5.1, {}, size=(100, 100)).parts, 5.1)
    assert not blur_mask(head_blur, {}, 5.2).any()


def test_image_of_another_size_is_blurred_at_the_same_places():
    image = np.ascontiguousarray(noise()[::2, ::2])
    after = HeadBlur(COCO17).blur(image, result(1.0, {1: FACE | BODY}).parts, 1.0)
    assert centre_of((after != image).any(axis=2)) == pytest.approx((100, 28), abs=3)


def test_heads_of_filtered_out_people_are_blurred_too():
    """Their joints are parts without an owner."""
    parts = result(1.0, {1: FACE | BODY}).parts
    filtered = type(parts)(
        **(vars(parts) | {"people": parts.people.chosen(np.zeros(0, int)), "owners": parts.owners * 0 - 1})
    )
    image = noise()
    changed = (HeadBlur(COCO17).blur(image, filtered, 1.0) != image).any(axis=2)
    assert changed[50:65, 188:212].mean() > 0.95


@pytest.mark.parametrize("x", [-1e6, -400, -200, 0, 199, 400, 1e6])
def test_heads_at_and_beyond_the_image_edge_do_not_fail(x: float):
    blur_mask(HeadBlur(COCO17), {1: moved(FACE | BODY, x)})


def test_painter_blurs_before_it_draws(clip: Path):
    """In the sample clip, the head of the most confident person is blurred under the skeleton."""
    video = cv2.VideoCapture(str(clip))
    plain, blurring = Painter(), Painter(blur_heads=True)
    with Session.open("edge") as session:
        painted = []
        for number in range(8):
            image = np.asarray(video.read()[1], np.uint8)
            frame, parts = Frame(number, number / 10, image), session.step(image)
            painted.append((parts, plain.paint(frame, parts), blurring.paint(frame, parts)))
    parts, unblurred, blurred = painted[-1]
    nose = parts.people.keypoints[0, 0, :2].astype(int)
    around = slice(nose[1] - 8, nose[1] + 8), slice(nose[0] - 6, nose[0] + 6)
    assert (unblurred[around] != blurred[around]).any(axis=2).mean() > 0.2, "where the skeleton does not cover it"
    assert (unblurred != blurred).any(axis=2).mean() < 0.05
    video.release()


def test_run_blurs_faces(clip: Path, tmp_path: Path):
    plain, blurred = tmp_path / "plain.mp4", tmp_path / "blurred.mp4"
    for path, more in ((plain, []), (blurred, ["--blur-faces"])):
        arguments = ["run", str(clip), "--overlay", str(path), "--max-frames", "4", "--quiet", *more]
        assert CliRunner().invoke(make_app(), arguments).exit_code == 0
    last = []
    for path in (plain, blurred):
        with av.open(str(path)) as container:
            last.append([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)][-1].astype(int))
    different = np.abs(last[0] - last[1]).max(axis=2) > 40
    assert 0.0005 < different.mean() < 0.05


def test_run_refuses_blur_faces_without_overlay_or_window(clip: Path, tmp_path: Path):
    arguments = ["run", str(clip), "--parts", str(tmp_path / "p.jsonl"), "--blur-faces"]
    done = CliRunner().invoke(make_app(), arguments)
    assert isinstance(done.exception, SinkError)
    assert "--blur-faces requires --overlay or --window" in str(done.exception)
