import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.data.images import read_image
from training.data.labels import LABELLED
from training.data.posetrack import read_posetrack

NAMES = [*POSETRACK15.joints[:3], "left_ear", "right_ear", *POSETRACK15.joints[3:]]


def test_shared_frames_are_read(shared: Path):
    root = shared / "posetrack18"
    data = read_posetrack(root / "annotations" / "val", root, POSETRACK15)
    assert [len(image.poses) for image in data.images] == [1, 2]
    assert [(image.poses[..., 2] == LABELLED).sum(axis=1).tolist() for image in data.images] == [[11], [14, 15]]
    assert [len(image.ignored.polygons) for image in data.images] == [9, 2]
    assert [image.tracks.tolist() for image in data.images] == [[0], [0, 1]]
    for image in data.images:
        pose, heads = image.poses, image.heads
        assert heads is not None
        top, bottom = (pose[:, POSETRACK15.joints.index(name), :2] for name in ("head_top", "head_bottom"))
        known = pose[:, POSETRACK15.joints.index("head_top"), 2] == LABELLED
        # PoseTrack derives these boxes from the two joints.
        np.testing.assert_allclose(heads[known], 6 / 7 * np.linalg.norm(top - bottom, axis=1)[known], rtol=0.01)
    assert data.sourced.all()
    assert data.videos == ()
    assert not data.pseudo
    for image in data.images:
        assert image.masks is None
        assert read_image(image.file).shape == (1080, 1920, 3)
        assert 0.05 < image.ignored.draw(image.size).mean() < 0.6


def test_eyes_and_ears_have_no_source(shared: Path):
    root = shared / "posetrack18"
    data = read_posetrack(root / "annotations" / "val", root, COCO17)
    unsourced = {joint for joint, sourced in zip(COCO17.joints, data.sourced, strict=True) if not sourced}
    assert unsourced == {"left_eye", "right_eye", "left_ear", "right_ear"}


def image(number: int, **fields) -> dict:
    """A frame in PoseTrack21's form: without width and height, with a large frame_id."""
    name = f"images/val/v/{number:06}.jpg"
    return {"id": 500 + number, "frame_id": 10000010000 + number, "is_labeled": True, "file_name": name, **fields}


def person(number: int, track: int = 0, **fields) -> dict:
    keypoints = [value for i in range(17) for value in (20 + i, 10 + number, 0 if NAMES[i].endswith("ear") else 1)]
    base = {"id": (500 + number) * 100 + track, "image_id": 500 + number, "track_id": track, "category_id": 1}
    return {**base, "bbox": [20, 5, 30, 40], "keypoints": keypoints, **fields}


def content() -> dict:
    region = {"ignore_regions_x": [[0, 10, 10, 0], []], "ignore_regions_y": [[0, 0, 8, 8], []]}
    return {
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
        "images": [
            image(8, **region),
            image(4, ignore_regions_x=[0, 10, 10, 0], ignore_regions_y=[0, 0, 8, 8]),
            image(0),
            image(1, is_labeled=False),
            image(12),
        ],
        "annotations": [
            person(0),
            person(0, 1, keypoints=[]),
            person(4),
            person(8, 3, track_id=None),
            person(8, 4, bbox=None, keypoints=None, bbox_head=[40, 20, 10, 10]),
            person(8, 5, iscrowd=1),
        ],
    }


def write(tmp_path: Path, document: object, name: str = "v.json") -> Path:
    folder = tmp_path / "images" / "val" / "v"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(14):
        cv2.imwrite(str(folder / f"{i:06}.jpg"), np.zeros((60, 80, 3), np.uint8))
    annotations = tmp_path / "annotations"
    annotations.mkdir(exist_ok=True)
    (annotations / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return annotations


def read(tmp_path: Path, document: object):
    return read_posetrack(write(tmp_path, document), tmp_path, POSETRACK15)


def test_video_with_unordered_unlabelled_and_empty_frames_is_read(tmp_path: Path):
    data = read(tmp_path, content())
    assert len(data.images) == 4
    (video,) = data.videos
    assert video.name == "v"
    assert video.numbers == (0, 4, 8, 12)
    zero, four, eight, empty = video.images
    assert zero.size == (80, 60)
    assert zero.tracks.tolist() == [0, 1]
    assert (zero.poses[0, :, 2] == LABELLED).all()
    assert (zero.poses[1, :, 2] != LABELLED).all()
    np.testing.assert_array_equal(zero.poses[0, :4, 0], [20, 21, 22, 25])
    np.testing.assert_array_equal(zero.boxes, [[20, 5, 50, 45]] * 2)
    assert empty.poses.shape == (0, 15, 3)
    assert empty.boxes.shape == (0, 4)
    for frame in (four, eight):
        assert frame.ignored.draw(frame.size)[4, 4] == 1
        assert frame.ignored.draw(frame.size)[50, 70] == 0
    assert eight.tracks.tolist() == [-1, 4]
    np.testing.assert_array_equal(eight.boxes[1], [30, 10, 60, 40])  # grown from the head box
    assert eight.ignored.draw(eight.size)[30, 40] == 1  # the crowd
    assert zero.ignored.draw(zero.size).sum() == 0


def test_invalid_numbers_drop_only_their_joint(tmp_path: Path):
    text = json.dumps(content()).replace("[20, 10, 1,", "[NaN, 10, 1,", 1).replace("[20, 14, 1,", "[-7, 14, 1,", 1)
    data = read(tmp_path, text)
    pose = data.videos[0].images[0].poses[0]
    assert pose[0, 2] != LABELLED
    assert (pose[1:, 2] == LABELLED).all()
    np.testing.assert_array_equal(data.videos[0].images[1].poses[0, 0], [-7, 14, LABELLED])
    assert any(problem.startswith("1 joints") for problem in data.problems)
    assert any(problem.startswith("1 labelled joints lie outside") for problem in data.problems)


def test_missing_images_are_reported_and_too_many_are_refused(tmp_path: Path):
    annotations = write(tmp_path, content())
    (tmp_path / "images/val/v/000000.jpg").unlink()
    data = read_posetrack(annotations, tmp_path, POSETRACK15)
    assert data.videos[0].numbers == (4, 8, 12)
    assert any(problem.startswith("1 of 4 labelled") and "000000.jpg" in problem for problem in data.problems)
    with pytest.raises(DataError, match=r"4 of 4 labelled images are missing in .*elsewhere"):
        read_posetrack(annotations, tmp_path / "elsewhere", POSETRACK15)


def test_unreadable_images_without_a_size_are_dropped(tmp_path: Path):
    annotations = write(tmp_path, content())
    for path in (tmp_path / "images/val/v").iterdir():
        path.write_bytes(b"junk")
    data = read_posetrack(annotations, tmp_path, POSETRACK15)
    assert data.images == ()
    assert any(problem.startswith("4 images of unknown size") for problem in data.problems)


def test_single_labelled_frame_is_not_a_video(tmp_path: Path):
    data = read(tmp_path, {**content(), "images": [image(0)], "annotations": [person(0)]})
    assert len(data.images) == 1
    assert data.videos == ()
    assert "only one labelled frame" in data.problems[0]


def test_partial_and_hidden_files_are_ignored(tmp_path: Path):
    write(tmp_path, "{", ".v.123.partial.json")
    assert len(read(tmp_path, content()).videos) == 1


def footage(clip: Path, names: list[str], **fields) -> dict:
    keypoints = [value for i in range(len(names)) for value in (100 + i, 200, 1)]
    return {
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
        "images": [{"id": i, "file_name": str(clip), "frame_id": 40 - 10 * i} for i in range(4)],
        "annotations": [{"id": i, "image_id": i, "keypoints": keypoints, "bbox": [90, 190, 40, 40]} for i in range(4)],
        **fields,
    }


@pytest.mark.parametrize("mark", [{"pseudo": True}, {"info": {"pseudo": True, "teacher": "x"}}])
def test_video_labelled_by_a_teacher_has_pseudo_labels(tmp_path: Path, clip: Path, mark: dict):
    data = read_posetrack(write(tmp_path, footage(clip, list(COCO17.joints), **mark)), tmp_path, COCO17)
    assert data.pseudo
    assert data.sourced.all()
    (video,) = data.videos
    assert video.numbers == (10, 20, 30, 40)
    assert video.images[0].size == (768, 576)
    assert [image.file.frame for image in video.images] == [10, 20, 30, 40]
    assert read_image(video.images[2].file).shape == (576, 768, 3)


def test_video_path_may_be_relative_to_the_label_file(tmp_path: Path, clip: Path):
    (tmp_path / "clip.avi").symlink_to(clip)
    data = read_posetrack(write(tmp_path, footage(Path("../clip.avi"), NAMES)), tmp_path, POSETRACK15)
    assert data.videos[0].images[0].size == (768, 576)


def test_file_may_label_several_videos(tmp_path: Path, clip: Path):
    mixed = footage(clip, NAMES)
    mixed["images"] += [image(0), image(1)]
    data = read(tmp_path, mixed)
    assert [(video.name, video.numbers) for video in data.videos] == [
        (f"v/{clip.name}", (10, 20, 30, 40)),
        ("v/v", (0, 1)),
    ]


def test_files_with_different_joints_are_refused(tmp_path: Path, clip: Path):
    write(tmp_path, footage(clip, list(COCO17.joints)), "own.json")
    with pytest.raises(DataError, match=r"v\.json and .*own\.json label different joints"):
        read_posetrack(write(tmp_path, content()), tmp_path, COCO17)


def change(edit: Callable[[dict], object]) -> dict:
    changed = content()
    edit(changed)
    return changed


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (json.dumps(content())[:700], "not JSON or is truncated"),
        ("[]", "holds a list"),
        ({"images": []}, "not in PoseTrack's format: categories"),
        (change(lambda c: c["images"].append(c["images"][0])), "image 508 is listed twice"),
        (
            change(lambda c: c["annotations"].append(c["annotations"][0])),
            "annotation 50000 of image 500 is listed twice",
        ),
        (change(lambda c: c["annotations"][0].update(image_id=99)), "image 99"),
        (change(lambda c: c["annotations"][0].update(category_id=7)), "category 7"),
        (change(lambda c: c["annotations"][0].update(keypoints=[1, 2, 2])), "has 3 numbers, must be 51"),
        (change(lambda c: c["annotations"][0].update(keypoints=["x"] * 51)), r"annotations\.0\.keypoints"),
        (change(lambda c: c["images"][0].update(file_name="")), r"images\.0\.file_name"),
        (change(lambda c: c["images"][0].update(ignore_regions_y=[[1, 2]])), "image 508 must have as many x as y"),
        (change(lambda c: c["images"][0].update(ignore_regions_y=[[1, 2], []])), "image 508 must have as many x as y"),
        (
            change(lambda c: c["images"][0].update(file_name="a.mp4", frame_id=-1)),
            "frame_id of image 508 must be a frame number",
        ),
        (change(lambda c: c["categories"][0].pop("keypoints")), "0 categories with keypoints"),
        (change(lambda c: c["categories"][0].update(keypoints=["nose", "tail"])), "unknown joints .* tail"),
    ],
)
def test_invalid_file_is_refused_in_one_line(tmp_path: Path, document: object, message: str):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, document)
    assert "v.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no JSON files"):
        read_posetrack(tmp_path, tmp_path, POSETRACK15)


def test_ids_and_sizes_may_be_strings_or_floats(tmp_path: Path):
    plain, changed = read(tmp_path, content()), content()
    for image, annotation in zip(changed["images"], changed["annotations"], strict=False):
        image.update(id=str(image["id"]), width=80.0, height=60.0)
        annotation.update(image_id=float(annotation["image_id"]), category_id="1")
    assert list(map(repr, read(tmp_path, changed).images)) == list(map(repr, plain.images))


def test_invalid_sizes_are_read_from_the_images(tmp_path: Path):
    changed = content()
    for image in changed["images"]:
        image.update(width=0, height=-1)
    assert {image.size for image in read(tmp_path, changed).images} == {(80, 60)}


def test_byte_order_mark_is_ignored(tmp_path: Path):
    path = write(tmp_path, content()) / "v.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read_posetrack(path.parent, tmp_path, POSETRACK15).images) == 4
