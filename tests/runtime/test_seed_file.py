import json
from pathlib import Path

import numpy as np
import pytest

from runtime.seed_file import load_seed
from stm_skeletons.errors import SeedError
from stm_skeletons.skeleton import COCO17, POSETRACK15

POSETRACK_JOINTS = [*POSETRACK15.joints[:3], "left_ear", "right_ear", *POSETRACK15.joints[3:]]


def annotations(joints: list[str], people: int = 2, images: int = 2) -> dict:
    def keypoints(person: int) -> list[float]:
        return [number for i in range(len(joints)) for number in (10.5 * person + i, 20 + i, 1 if i else 0)]

    return {
        "categories": [{"id": 1, "name": "person", "keypoints": joints, "skeleton": []}],
        "images": [{"id": 7 + i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": 1, "keypoints": keypoints(i), "bbox": [0, 0, 1, 1]}
            for i in range(people)
        ]
        + [{"id": 99, "image_id": 8, "category_id": 1, "keypoints": keypoints(50)}],
    }


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "seed.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("joints", [list(COCO17.joints), POSETRACK_JOINTS], ids=["coco", "posetrack"])
@pytest.mark.parametrize("skeleton", [COCO17, POSETRACK15], ids=str)
def test_people_of_the_first_image_are_mapped_by_joint_name(tmp_path: Path, joints: list[str], skeleton):
    seed = load_seed(write(tmp_path, annotations(joints)), skeleton)
    assert seed.poses.shape == (2, len(skeleton.joints), 3)
    assert seed.size == (640, 480)
    wrist = joints.index("left_wrist")
    np.testing.assert_allclose(seed.poses[1, skeleton.joints.index("left_wrist")], (10.5 + wrist, 20 + wrist, 1))
    for i, joint in enumerate(skeleton.joints):
        if joint not in joints or joint == "nose":
            assert seed.poses[0, i, 2] == 0


def test_the_shared_data_sets_are_read(shared: Path):
    posetrack = next((shared / "posetrack18").rglob("*.json"))
    for file in (shared / "coco" / "person_keypoints_train.json", posetrack):
        seed = load_seed(file, COCO17)
        assert len(seed.poses) >= 1
        assert seed.size is not None


def change(path: str, value: object):
    def apply(content: dict) -> dict:
        *parents, last = path.split(".")
        node: object = content
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]  # type: ignore[index]
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value  # type: ignore[index]
        return content

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("annotations", []), "no person with labelled joints"),
        (change("images", []), "lists no images"),
        (change("categories.0.keypoints.3", "left_finger"), "joints unknown .* left_finger"),
        (change("annotations.0.keypoints", [1, 2, 1]), "3 values for 17 joints"),
        (change("annotations.0.keypoints.0", "x"), "annotations.0.keypoints.0"),
        (change("annotations.0.category_id", 5), "category 5"),
        (change("annotations.0.keypoints.4", 1e400), "non-finite or out-of-range"),
        (change("annotations.0.keypoints.4", 1e30), "non-finite or out-of-range"),
        (
            change("annotations.0.keypoints.5", 0.05),
            "has visibility 0.05 .* detections with scores, not labels; give",
        ),
        (change("annotations.0.keypoints.5", 3), "has visibility 3 for a joint"),
        (change("categories.0.keypoints.3", "nose"), "twice"),
        (lambda _: "[" * 200_000, "is not JSON"),
        (lambda content: content["annotations"], "should be a valid dictionary"),
        (lambda content: {"images": content["images"]}, "categories"),
        (lambda _: "{ not json", "is not JSON"),
        (lambda _: "", "is not JSON"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, edit, message: str):
    with pytest.raises(SeedError, match=message) as caught:
        load_seed(write(tmp_path, edit(annotations(list(COCO17.joints)))), COCO17)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(SeedError, match="cannot read"):
        load_seed(tmp_path / "none.json", COCO17)


def test_ids_and_sizes_may_be_strings_or_floats(tmp_path: Path):
    content = annotations(list(COCO17.joints))
    plain = load_seed(write(tmp_path, content), COCO17)
    content["images"][0].update(id="7", width=640.0, height="480")
    content["annotations"][0].update(image_id=7.0, category_id="1")
    odd = load_seed(write(tmp_path, content), COCO17)
    assert odd.size == plain.size == (640, 480)
    np.testing.assert_array_equal(odd.poses, plain.poses)


def test_nulls_and_missing_fields_of_real_files_are_accepted(tmp_path: Path):
    content = annotations(list(COCO17.joints))
    content["categories"].append({"id": 2, "name": "dog", "keypoints": None})
    content["annotations"] += [{"image_id": 7, "category_id": 2, "keypoints": None}, {"image_id": 7}]
    content["images"][0].update(width=0)
    seed = load_seed(write(tmp_path, content), COCO17)
    assert (len(seed.poses), seed.size) == (2, None)


def test_byte_order_mark_is_ignored(tmp_path: Path):
    path = tmp_path / "seed.json"
    path.write_text(json.dumps(annotations(list(COCO17.joints))), encoding="utf-8-sig")
    assert len(load_seed(path, COCO17).poses) == 2
