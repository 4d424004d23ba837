import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.data.coco import read_coco
from training.data.joints import joint_columns
from training.data.labels import LABELLED, DataSet
from training.data.splits import read_part

POSETRACK_NAMES = [*POSETRACK15.joints[:3], "left_ear", "right_ear", *POSETRACK15.joints[3:]]
BODY = [*POSETRACK15.joints[:1], *POSETRACK15.joints[3:]]


def test_thirteen_joints_are_common_to_both_skeletons():
    for names, skeleton in ((POSETRACK_NAMES, COCO17), (list(COCO17.joints), POSETRACK15)):
        index, sourced = joint_columns(names, skeleton)
        assert [joint for joint, has in zip(skeleton.joints, sourced, strict=True) if has] == BODY
        assert all(names[i] == joint for i, joint in zip(index, skeleton.joints, strict=True) if i >= 0)
        assert (index[~sourced] == -1).all()
    assert joint_columns(COCO17.joints, COCO17)[1].all()
    assert joint_columns(POSETRACK_NAMES, POSETRACK15)[1].all()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["nose", "tail"], "tail"), (["nose", "nose"], "twice"), ([], "no joint of"), (["left_eye"], "no joint of")],
)
def test_unusable_joint_names_are_refused(names: list[str], message: str):
    with pytest.raises(DataError, match=message):
        joint_columns(names, POSETRACK15)


def test_shared_images_are_read(shared: Path):
    data = read_coco(shared / "coco" / "person_keypoints_train.json", shared / "coco" / "images", COCO17)
    assert len(data.images) == 53
    labelled = [(image.poses[..., 2] == LABELLED).any(axis=1) for image in data.images]
    assert sum(of_image.sum() for of_image in labelled) == 143
    assert sum(len(of_image) for of_image in labelled) == 143 + 93
    assert sum(len(p.ignored.run_lengths) + len(p.ignored.polygons) for p in data.images) == 8
    assert data.sourced.all()
    assert data.problems == ()
    for image in data.images:
        assert image.poses.shape[1:] == (17, 3)
        assert image.boxes.shape == (len(image.poses), 4)
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
        assert (image.poses[image.poses[..., 2] != LABELLED] == 0).all()
        width, height = (image.boxes[:, 2:] - image.boxes[:, :2]).T
        assert image.areas is not None
        assert ((image.areas > 0) & (image.areas < width * height)).all()


def test_masks_of_the_shared_images_cover_their_joints(shared: Path):
    data = read_coco(shared / "coco" / "person_keypoints_train.json", shared / "coco" / "images", COCO17)
    covered = []
    for image in data.images:
        assert image.masks is not None
        area = image.masks.draw(image.size)
        assert area.shape == image.size[::-1]
        x, y = image.poses[image.poses[..., 2] == LABELLED, :2].astype(int).T
        covered += list(area[np.clip(y, 0, area.shape[0] - 1), np.clip(x, 0, area.shape[1] - 1)])
        assert 0 < area.mean() < 1
        if image.ignored.run_lengths:
            assert 0 < image.ignored.draw(image.size).mean() < 1
    assert np.mean(covered) > 0.85


def keypoints(x: float, y: float, visibility: int = 2) -> list[float]:
    return [x, y, visibility] * 17


def annotation(annotation_id: int, image: int, **fields) -> dict:
    base = {"id": annotation_id, "image_id": image, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 0}
    square = [[10.0, 20.0, 40.0, 20.0, 40.0, 60.0, 10.0, 60.0]]
    return {**base, "segmentation": square, "keypoints": keypoints(15, 25), **fields}


def content() -> dict:
    return {
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(COCO17.joints)},
            {"id": 18, "name": "dog"},
        ],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in range(1, 6)],
        "annotations": [
            annotation(1, 1),
            annotation(2, 1, keypoints=keypoints(0, 0, 0)),
            annotation(3, 2, keypoints=[50, 60, 1] + [0, 0, 0] * 16),
            annotation(4, 3, category_id=18),
            annotation(5, 4, keypoints=keypoints(0, 0, 0)),
            annotation(6, 5),
            annotation(7, 5, iscrowd=1, segmentation={"size": [80, 100], "counts": [4000, 400, 3600]}),
        ],
    }


def write(tmp_path: Path, document: object) -> Path:
    for i in range(1, 6):
        (tmp_path / f"{i}.jpg").touch()
    path = tmp_path / "coco.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(tmp_path: Path, document: object):
    return read_coco(write(tmp_path, document), tmp_path, COCO17)


def test_people_and_crowds_are_read_and_images_without_labels_dropped(tmp_path: Path):
    data = read(tmp_path, content())
    assert [image.file.path.name for image in data.images] == ["1.jpg", "2.jpg", "5.jpg"]
    two, one, crowd = data.images
    np.testing.assert_array_equal(two.poses[0], [[15, 25, 1]] * 17)
    assert (two.poses[1] == 0).all()
    np.testing.assert_array_equal(two.boxes, [[10, 20, 40, 60]] * 2)
    assert list(two.tracks) == [-1, -1]
    np.testing.assert_array_equal(one.poses[0, :2], [[50, 60, 1], [0, 0, 0]])
    assert len(crowd.poses) == 1
    assert crowd.ignored.draw((100, 80)).sum() == 400
    assert crowd.masks is not None
    assert crowd.masks.draw((100, 80))[40, 20] == 1
    assert len(data.problems) == 1
    assert "4.jpg" in data.problems[0]


def test_image_has_no_masks_if_a_person_has_no_segmentation(tmp_path: Path):
    for number, segmentation in enumerate([[], None, [[1, 2, 3]], [["x"] * 6], {"size": [8, 8], "counts": [64]}, 7]):
        changed = content()
        changed["annotations"][0]["segmentation"] = segmentation
        data = read(tmp_path, changed)
        assert data.images[0].masks is None
        assert data.images[1].masks is not None
        assert any("annotation 1" in problem for problem in data.problems) == (number > 1)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), smooth=st.integers(0, 3))
def test_compressed_run_lengths_of_pycocotools_are_decoded(
    tmp_path_factory: pytest.TempPathFactory, share: float, seed: int, smooth: int
):
    area = (np.random.default_rng(seed).random((80, 100)) < share).astype(np.uint8)
    area = np.asfortranarray(area.repeat(smooth + 1, axis=0)[:80])
    code: Any = mask.encode(area)
    changed = content()
    changed["annotations"][6]["segmentation"] = {"size": [80, 100], "counts": code["counts"].decode()}
    ignored = read(tmp_path_factory.mktemp("coco"), changed).images[2].ignored
    np.testing.assert_array_equal(ignored.draw((100, 80)), area)


@pytest.mark.parametrize("counts", [[], "", "0", "o" * 50, [4000, -400, 4400], [9999], ["x"], None, "~~~~", "\u00e9"])
def test_a_crowd_without_a_usable_segmentation_is_ignored_within_its_box(tmp_path: Path, counts: object):
    changed = content()
    changed["annotations"][6]["segmentation"] = {"size": [80, 100], "counts": counts}
    ignored = read(tmp_path, changed).images[2].ignored.draw((100, 80))
    assert ignored[40, 20] == 1
    assert ignored[5, 5] == 0


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-1e9", "1e400"])
def test_invalid_number_drops_only_its_joint(tmp_path: Path, bad: str):
    data = read(tmp_path, json.dumps(content()).replace("[15, 25, 2,", f"[{bad}, 25, 2,", 1))
    pose = data.images[0].poses[0]
    assert np.isfinite(pose).all()
    assert pose[0, 2] != LABELLED
    assert (pose[1:, 2] == LABELLED).all()
    assert any(problem.startswith("1 joints") and "annotation 1" in problem for problem in data.problems)


def test_joints_outside_the_image_are_kept_and_reported(tmp_path: Path):
    changed = content()
    changed["annotations"][0]["keypoints"][:3] = [-5, 25, 2]
    data = read(tmp_path, changed)
    np.testing.assert_array_equal(data.images[0].poses[0, 0], [-5, 25, LABELLED])
    assert any(problem.startswith("1 labelled joints lie outside") for problem in data.problems)


@pytest.mark.parametrize("bbox", [None, [], [1, 2, 3], [float("nan")] * 4, [1, 2, -3, 4], "none"])
def test_missing_box_is_replaced_by_that_of_the_joints_or_the_image(tmp_path: Path, bbox: object):
    changed = content()
    changed["annotations"][0]["keypoints"][:6] = [20, 30, 2, 40, 60, 2]
    for i in (0, 1):
        changed["annotations"][i]["bbox"] = bbox
    data = read(tmp_path, changed)
    left, top, right, bottom = data.images[0].boxes[0]
    assert left < 15
    assert top < 25
    assert right > 40
    assert bottom > 60
    np.testing.assert_array_equal(data.images[0].boxes[1], [0, 0, 100, 80])
    assert any(problem.startswith("2 people have no usable box") for problem in data.problems)


def test_missing_images_are_reported_and_too_many_are_refused(tmp_path: Path):
    path = write(tmp_path, content())
    (tmp_path / "2.jpg").unlink()
    data = read_coco(path, tmp_path, COCO17)
    assert len(data.images) == 2
    assert any(problem.startswith("1 of 4 labelled") and "2.jpg" in problem for problem in data.problems)
    for name in ("1.jpg", "4.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"3 of 4 labelled images are missing in {tmp_path}, .*1.jpg"):
        read_coco(path, tmp_path, COCO17)


def change(edit: Callable[[dict], object]) -> dict:
    changed = content()
    edit(changed)
    return changed


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (json.dumps(content())[:700], "not JSON or is truncated"),
        ("", "not JSON"),
        ("[1, 2]", "holds a list"),
        ("[" * 100_000, "not JSON"),
        ({"images": []}, "'annotations' must be a list"),
        ({**content(), "images": [3]}, "'images' must be a list of objects"),
        (change(lambda c: c["images"].append(c["images"][0])), "image 1 is listed twice"),
        (change(lambda c: c["annotations"].append(c["annotations"][2])), "annotation 3 is listed twice"),
        (change(lambda c: c["annotations"][0].pop("id")), "annotation at position 0"),
        (change(lambda c: c["annotations"][0].update(image_id=99)), "annotation 1 refers to unknown image 99"),
        (change(lambda c: c["annotations"][0].update(image_id=[1])), "annotation 1 refers to unknown image"),
        (change(lambda c: c["annotations"][0].update(category_id=7)), "annotation 1 refers to unknown category 7"),
        (change(lambda c: c["annotations"][0].update(keypoints=[1, 2, 2])), "annotation 1 must be 51 numbers"),
        (change(lambda c: c["annotations"][2].update(keypoints=["x"] * 51)), "annotation 3 must be numbers"),
        (change(lambda c: c["annotations"][2].update(keypoints=[[1]] * 51)), "annotation 3 must be numbers"),
        (change(lambda c: c["annotations"][2].update(keypoints=[10**400] * 51)), "annotation 3 must be numbers"),
        (
            change(lambda c: c["annotations"][0].update(keypoints=[0, 0, 0.05] * 17)),
            "detections with scores, not labels",
        ),
        (change(lambda c: c["annotations"][5]["keypoints"].__setitem__(2, 3)), "annotation 6 has visibility 3"),
        (
            change(lambda c: c["annotations"][5]["keypoints"].__setitem__(2, -1)),
            "annotation 6 has visibility -1",
        ),
        (change(lambda c: c["images"][1].update(id="1")), "image 1 is listed twice"),
        (
            change(lambda c: c["images"][1].update(id="two")),
            "image at position 1 of the list has no whole number as id",
        ),
        (change(lambda c: c["images"][1].update(width=99.5)), "image 2 has no width and height"),
        (change(lambda c: c["images"][1].pop("width")), "image 2 has no width"),
        (change(lambda c: c["images"][1].update(height=0)), "image 2 has no width and height"),
        (change(lambda c: c["images"][1].pop("file_name")), "image 2 has no file_name"),
        (change(lambda c: c["categories"][0].pop("keypoints")), "0 categories with keypoints"),
        (change(lambda c: c["categories"][0].update(keypoints=["nose", "tail"])), "coco.json: unknown joints .* tail"),
        (change(lambda c: c["categories"][0].update(keypoints=[1, 2])), "must be a list of names"),
    ],
)
def test_invalid_file_is_refused_in_one_line(tmp_path: Path, document: object, message: str):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, document)
    assert "coco.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="cannot read the annotations"):
        read_coco(tmp_path / "none.json", tmp_path, COCO17)


def test_file_without_annotations_is_read(tmp_path: Path):
    assert read(tmp_path, {**content(), "annotations": []}).images == ()


def same_images(first: DataSet, second: DataSet) -> bool:
    """Whether problems and each image's size, people and ignored regions are the same, compared as text."""
    return first.problems == second.problems and list(map(repr, first.images)) == list(map(repr, second.images))


@pytest.mark.parametrize("write_id", [str, float])
@pytest.mark.parametrize("where", [("images", "id"), ("annotations", "image_id"), ("annotations", "category_id")])
def test_ids_may_be_strings_or_floats(tmp_path: Path, write_id: type, where: tuple[str, str]):
    plain, changed = read(tmp_path, content()), content()
    entries, key = where
    for entry in changed[entries]:
        entry[key] = write_id(entry[key])
    assert same_images(read(tmp_path, changed), plain)


def test_sizes_may_be_floats(tmp_path: Path):
    changed = content()
    for image in changed["images"]:
        image.update(width=100.0, height=80.0)
    data = read(tmp_path, changed)
    assert same_images(data, read(tmp_path, content()))
    assert all(type(side) is int for image in data.images for side in image.size)


def test_string_ids_match_those_of_a_split(tmp_path: Path):
    changed = content()
    for image in changed["images"]:
        image["id"] = str(image["id"])
    (tmp_path / "splits.json").write_text('{"train": [1], "validation": [2, 3, 4, 5]}', encoding="utf-8-sig")
    part = read_part(tmp_path / "splits.json", "train")
    data = read_coco(write(tmp_path, changed), tmp_path, COCO17, part)
    assert [image.file.path.name for image in data.images] == ["1.jpg"]


def test_byte_order_mark_is_ignored(tmp_path: Path):
    path = write(tmp_path, content())
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read_coco(path, tmp_path, COCO17).images) == 3
