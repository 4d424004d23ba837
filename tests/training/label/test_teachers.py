import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stm_skeletons.errors import WeightsError
from stm_skeletons.parts import Parts
from stm_skeletons.people import People
from stm_skeletons.skeleton import COCO17, Skeleton
from training.label.movenet import MoveNetTeacher
from training.label.people_labels import BundleTeacher, Person, overlap, similarity

SIZE = (200, 100)
JOINT = {name: i for i, name in enumerate(COCO17.joints)}


Points = list[tuple[str, float, float, float]]
"""Joint, x, y and score of each part."""


def make_parts(people: list[tuple[Points, Points]], unassigned: Points) -> Parts:
    """Return parts without edges: those of people (found joints, placed joints) and unassigned ones."""
    points = [*(point for found, _ in people for point in found), *unassigned]
    keypoints, peaks = np.zeros((len(people), 17, 3), np.float32), np.full((len(people), 17), -1)
    for i, (found, placed) in enumerate(people):
        for name, *point in (*found, *placed):
            keypoints[i, JOINT[name]] = point
        peaks[i, [JOINT[name] for name, *_ in found]] = i
    owners = [i for i, (found, _) in enumerate(people) for _ in found] + [-1] * len(unassigned)
    return Parts(
        skeleton=COCO17,
        size=SIZE,
        keypoint_types=np.array([JOINT[name] for name, *_ in points], np.int64),
        keypoints=np.array([point[1:3] for point in points], np.float32).reshape(-1, 2),
        keypoint_scores=np.array([point[3] for point in points], np.float32),
        edge_types=np.zeros(0, np.int64),
        edge_ends=np.zeros((0, 2), np.int64),
        edge_scores=np.zeros(0, np.float32),
        people=People(np.full(len(people), 0.5, np.float32), keypoints, peaks, np.zeros(len(people), np.int64)),
        owners=np.array(owners, np.int64),
    )


class FixedSession:
    """A session with the same result in every frame."""

    def __init__(self, parts: Parts, has_keypoints: bool = True) -> None:
        self.info = FixedInfo(has_keypoints)
        self._parts = parts

    def step(self, _frame: NDArray[np.uint8]) -> Parts:
        return self._parts

    def reset(self) -> None: ...


@dataclass(frozen=True)
class FixedInfo:
    has_keypoints: bool
    skeleton: Skeleton = COCO17
    variant: str = "edge"
    weights_sha256: str = "0"
    size: tuple[int, int] = (64, 64)


def test_people_have_only_found_joints_and_unassigned_joints_become_people():
    parts = make_parts(
        [
            (
                [("left_shoulder", 50, 40, 0.9), ("right_shoulder", 30, 40, 0.8), ("left_elbow", 55, 60, 0.7)],
                [("left_wrist", 190, 90, 0.1)],
            ),
            ([("left_shoulder", 150, 40, 0.6), ("left_elbow", 155, 60, 0.5)], []),
            ([], [("nose", 70, 70, 0.1)]),
        ],
        [("nose", 100, 10, 0.4)],
    )
    people = BundleTeacher(FixedSession(parts)).people(np.zeros((100, 200, 3), np.uint8))
    joints = [{COCO17.joints[i] for i in np.flatnonzero(person.pose[:, 2])} for person in people]
    assert joints == [{"left_shoulder", "right_shoulder", "left_elbow"}, {"left_shoulder", "left_elbow"}, {"nose"}]
    assert people[0].box[2] < 100, "placed joints do not enlarge the box"
    np.testing.assert_allclose(people[1].pose[JOINT["left_elbow"]], (155, 60, 0.5))
    for person in people:
        found = person.pose[person.pose[:, 2] > 0, :2]
        assert (person.box[:2] <= found).all()
        assert (found <= person.box[2:]).all()
        assert (person.box >= 0).all()
        assert (person.box <= (*SIZE, *SIZE)).all()


def test_bundle_without_keypoints_is_refused_as_a_teacher():
    with pytest.raises(WeightsError, match="no keypoints"):
        BundleTeacher(FixedSession(make_parts([], []), has_keypoints=False))


def test_overlap_and_similarity_have_known_values():
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (20, 20, 30, 30)) == 0
    pose = np.ones((17, 3), np.float32)
    person = Person(pose, np.array([0, 0, 100, 100], np.float32))
    moved = Person(pose + np.array([1000, 0, 0], np.float32), person.box)
    assert similarity(person, person, COCO17) == pytest.approx(1)
    assert similarity(person, moved, COCO17) == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def models(shared: Path) -> tuple[Path, Path]:
    return shared / "teacher" / "movenet-multipose.onnx", shared / "teacher" / "movenet-thunder.onnx"


def labelled_images(shared: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Image and poses [P, 17, 3] of the first COCO images with one to four labelled people."""
    content = json.loads((shared / "coco" / "person_keypoints_train.json").read_text())
    images = []
    for image in content["images"]:
        people = [person for person in content["annotations"] if person["image_id"] == image["id"]]
        poses = [person["keypoints"] for person in people if person["num_keypoints"] >= 10]
        if 1 <= len(poses) == len(people) <= 4:
            pixels = cv2.imread(str(shared / "coco" / "images" / image["file_name"]))
            assert pixels is not None
            images.append((np.asarray(pixels, np.uint8), np.reshape(poses, (-1, 17, 3))))
    return images[:count]


def joints_found(people: list[Person], poses: np.ndarray, size: tuple[int, int]) -> list[bool]:
    """Return for each labelled joint whether it is found within 10 px at a network input of 448x256."""
    scale = min(448 / size[0], 256 / size[1])
    found = []
    for joint in range(17):
        seen = np.array([person.pose[joint, :2] for person in people if person.pose[joint, 2] >= 0.3]).reshape(-1, 2)
        for x, y, v in poses[:, joint]:
            if v > 0:
                found.append(bool((np.hypot(*(seen - (x, y)).T) * scale <= 10).any()))
    return found


def test_movenet_finds_labelled_people_and_thunder_improves_the_result(shared: Path, models: tuple[Path, Path]):
    multipose, thunder = models
    alone, refined = MoveNetTeacher(multipose, threads=1), MoveNetTeacher(multipose, thunder, threads=1)
    shares = []
    for teacher in (alone, refined):
        found: list[bool] = []
        for image, poses in labelled_images(shared, 8):
            found += joints_found(teacher.people(image), poses, (image.shape[1], image.shape[0]))
        shares.append(np.mean(found))
    print(f"joints found: MultiPose {shares[0]:.3f}, with Thunder {shares[1]:.3f}")
    assert shares[1] >= shares[0]
    assert shares[1] > 0.7


def test_teacher_finds_more_than_the_six_people_of_multipose(models: tuple[Path, Path]):
    teacher = MoveNetTeacher(models[0], threads=1)
    frame = np.asarray(cv2.imread(str(models[0].parents[1] / "coco" / "images" / "000000000790.jpg")), np.uint8)
    tiled = np.vstack([np.hstack([frame, frame, frame, frame]), np.hstack([frame, frame, frame, frame])])
    people = teacher.people(tiled)
    assert len(people) > 6
    for i, person in enumerate(people):
        assert all(overlap(person.box, other.box) < 0.6 for other in people[:i])


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (31, 17)])
def test_movenet_accepts_images_of_any_size(size: tuple[int, int], models: tuple[Path, Path]):
    teacher = MoveNetTeacher(*models, threads=1)
    assert isinstance(teacher.people(np.full((size[1], size[0], 3), 90, np.uint8)), list)


def test_files_other_than_movenets_are_refused(tmp_path: Path, models: tuple[Path, Path]):
    multipose, thunder = models
    with pytest.raises(WeightsError, match=r"no MoveNet MultiPose at .*missing.onnx"):
        MoveNetTeacher(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(WeightsError, match=r"text.onnx is not an ONNX model") as caught:
        MoveNetTeacher(multipose, tmp_path / "text.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="is not MoveNet MultiPose"):
        MoveNetTeacher(thunder, multipose)
