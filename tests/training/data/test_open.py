import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.data.labels import DataSet
from training.data.open import open_data


def names(data: DataSet) -> set[str]:
    return {labelled.file.path.name for labelled in data.images}


def coco(images: list[int]) -> dict:
    return {
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
        "images": [{"id": i, "file_name": f"{i:012}.jpg", "width": 100, "height": 80} for i in images],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 9, 9], "keypoints": [5, 6, 2] * 17}
            for i in images
        ],
    }


def write_coco(annotations: Path, folder: Path, images: list[int]) -> None:
    annotations.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(coco(images)))
    for i in images:
        (folder / f"{i:012}.jpg").touch()


def write_posetrack(annotations: Path, root: Path, videos: list[str]) -> None:
    annotations.mkdir(parents=True, exist_ok=True)
    for video in videos:
        files = [f"images/{video}/{i:06}.jpg" for i in range(3)]
        (root / "images" / video).mkdir(parents=True, exist_ok=True)
        for file in files:
            (root / file).touch()
        content = {
            "categories": [{"id": 1, "keypoints": list(POSETRACK15.joints)}],
            "images": [{"id": i, "file_name": file, "width": 64, "height": 48} for i, file in enumerate(files)],
            "annotations": [],
        }
        (annotations / f"{video}.json").write_text(json.dumps(content))


def test_coco_layout_is_read_and_a_single_part_is_split(tmp_path: Path):
    for split, images in (("train", [1, 2, 3]), ("val", [4, 5])):
        annotations = tmp_path / "annotations" / f"person_keypoints_{split}2017.json"
        write_coco(annotations, tmp_path / f"{split}2017", images)
    train, val = (open_data("coco", tmp_path, split, COCO17) for split in ("train", "val"))
    assert train.name == "coco train"
    assert len(train.images) == 3
    assert len(val.images) == 2
    assert train.problems == val.problems == ()
    # The annotations of both parts come in one archive. If only one part has images, that part is split.
    shutil.rmtree(tmp_path / "train2017")
    train, val = (open_data("coco", tmp_path, split, COCO17) for split in ("train", "val"))
    assert names(train) | names(val) == {f"{i:012}.jpg" for i in (4, 5)}
    assert not names(train) & names(val)
    assert "split by name" in train.problems[-1]


def test_shared_images_are_split(shared: Path):
    train, val = (open_data("coco", shared / "coco", split, POSETRACK15) for split in ("train", "val"))
    assert len(names(train)) + len(names(val)) == 53
    assert not names(train) & names(val)
    assert 4 <= len(val.images) <= 20
    other = open_data("coco", shared / "coco", "val", POSETRACK15, seed=1)
    assert names(other) != names(val)
    assert names(open_data("coco", shared / "coco", "val", POSETRACK15, holdout=0.5)) > names(val)
    assert len(open_data("coco", shared / "coco", "train", POSETRACK15, holdout=0).images) == 53
    with pytest.raises(DataError, match=r"val part of the coco data .* no labelled images"):
        open_data("coco", shared / "coco", "val", POSETRACK15, holdout=0)


@settings(max_examples=15, deadline=None)
@given(initial=st.sets(st.integers(0, 999), min_size=20, max_size=30), seed=st.integers(0, 9))
def test_adding_images_keeps_the_others_in_their_part(
    tmp_path_factory: pytest.TempPathFactory, initial: set[int], seed: int
):
    root = tmp_path_factory.mktemp("coco")
    before, after = [], []
    for images, parts in ((initial, before), (initial | set(range(1000, 1010)), after)):
        write_coco(root / "person_keypoints_train.json", root / "images", sorted(images))
        parts += [names(open_data("coco", root, split, COCO17, seed=seed)) for split in ("train", "val")]
    moved = (before[0] & after[1]) | (before[1] & after[0])
    assert len(moved) <= (
        len(before[1]) == 1
    )  # the only image of a part may have been moved there because the part was empty
    assert not after[0] & after[1]


@pytest.mark.parametrize(("kind", "folder"), [("posetrack18", "annotations"), ("posetrack21", "posetrack_data")])
def test_posetrack_is_split_if_it_has_a_single_part(tmp_path: Path, kind: str, folder: str):
    write_posetrack(tmp_path / folder / "val", tmp_path, [f"v{i}" for i in range(6)])
    train, val = (open_data(kind, tmp_path, split, POSETRACK15) for split in ("train", "val"))
    assert {video.name for video in (*train.videos, *val.videos)} == {f"v{i}" for i in range(6)}
    assert not {video.name for video in train.videos} & {video.name for video in val.videos}
    assert train.videos
    assert val.videos
    assert "split by name" in val.problems[-1]
    write_posetrack(tmp_path / folder / "train", tmp_path, ["w"])
    assert [video.name for video in open_data(kind, tmp_path, "train", POSETRACK15).videos] == ["w"]
    assert len(open_data(kind, tmp_path, "val", POSETRACK15).videos) == 6


def test_shared_posetrack_frames_are_split(shared: Path):
    train, val = (open_data("posetrack18", shared / "posetrack18", split, COCO17) for split in ("train", "val"))
    assert len(train.images) == len(val.images) == 1
    assert train.images[0].file != val.images[0].file


@pytest.mark.parametrize("folder", [".", "annotations"])
def test_footage_is_split_by_file(tmp_path: Path, folder: str):
    write_posetrack(tmp_path / folder, tmp_path, ["a"])
    assert len(open_data("footage", tmp_path, "train", POSETRACK15).videos) == 1
    with pytest.raises(DataError, match=r"none of the 1 JSON files .* is left for val"):
        open_data("footage", tmp_path, "val", POSETRACK15)
    write_posetrack(tmp_path / folder, tmp_path, ["b"])
    train, val = (open_data("footage", tmp_path, split, POSETRACK15) for split in ("train", "val"))
    assert len(train.videos) == len(val.videos) == 1
    assert train.videos[0].name != val.videos[0].name


def test_footage_with_two_parts_is_not_split(tmp_path: Path):
    write_posetrack(tmp_path / "train", tmp_path, ["a", "b", "c"])
    write_posetrack(tmp_path / "val", tmp_path, ["d"])
    train, val = (open_data("footage", tmp_path, split, POSETRACK15) for split in ("train", "val"))
    assert [video.name for video in train.videos] == ["a", "b", "c"]
    assert [video.name for video in val.videos] == ["d"]
    assert train.problems == val.problems == ()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("coco", "expected .*person_keypoints_val2017.json with val2017/ .*found notes.txt"),
        ("posetrack18", "no JSON files in .*annotations/train or .*annotations/val; .* notes.txt"),
        ("posetrack21", "no JSON files in .*posetrack_data/train"),
        ("footage", "expected .*found notes.txt"),
    ],
)
def test_folder_without_data_is_refused_with_expected_and_found_files(tmp_path: Path, kind: str, message: str):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=message):
        open_data(kind, tmp_path, "val", COCO17)


def test_unknown_folder_kind_or_part_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        open_data("coco", tmp_path / "none", "train", COCO17)
    with pytest.raises(DataError, match="kinds are coco"):
        open_data("mpii", tmp_path, "train", COCO17)
    with pytest.raises(DataError, match="parts are train, val, test"):
        open_data("coco", tmp_path, "validation", COCO17)


def test_part_without_labels_is_refused(tmp_path: Path):
    write_coco(tmp_path / "person_keypoints_train.json", tmp_path / "images", [])
    with pytest.raises(DataError, match=r"train part of the coco data in .* has no labelled images"):
        open_data("coco", tmp_path, "train", COCO17)


def test_split_file_overrides_the_split_by_name(tmp_path: Path):
    write_coco(tmp_path / "person_keypoints_train.json", tmp_path / "images", list(range(1, 12)))
    lists = {"train": [1, 2, 3, 4, 5], "validation": [6, 7], "test": [8, 9]}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        data = open_data("coco", tmp_path, split, COCO17, holdout=0.9, seed=3)
        assert names(data) == {f"{i:012}.jpg" for i in lists[name]}
        assert data.name == f"coco {split}"
        (problem,) = data.problems
        assert problem.startswith("2 images are in no list of")
        assert "first: 000000000010.jpg" in problem
    (tmp_path / "splits.json").write_text(json.dumps({**lists, "test": [8, 9, 10, 11, 77]}))
    assert "1 ids in" in open_data("coco", tmp_path, "test", COCO17).problems[0]


def test_split_file_applies_to_the_coco_layout(tmp_path: Path):
    write_coco(tmp_path / "annotations" / "person_keypoints_val2017.json", tmp_path / "val2017", [1, 2, 3])
    (tmp_path / "annotations" / "splits.json").write_text('{"test": [2], "train": [1, 3]}')
    assert names(open_data("coco", tmp_path, "test", COCO17)) == {f"{2:012}.jpg"}
    with pytest.raises(DataError, match="has no list 'validation', only test, train"):
        open_data("coco", tmp_path, "val", COCO17)
    write_coco(tmp_path / "annotations" / "person_keypoints_train2017.json", tmp_path / "train2017", [4])
    with pytest.raises(DataError, match="there are two in its folder"):
        open_data("coco", tmp_path, "test", COCO17)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON or is truncated"),
        ("[1, 2]", "must hold lists of image ids under train, validation, test"),
        ('{"train": [1, "2"]}', "must hold lists of image ids"),
        ('{"train": [true]}', "must hold lists of image ids"),
        ('{"train": 1}', "must hold lists of image ids"),
        ('{"train": [1], "val": [2]}', "has the unknown part 'val'; the parts are train, validation, test"),
        ('{"train": [1, 2], "test": [2]}', "image 2 in both 'train' and 'test'"),
        ('{"train": [1, 1]}', "image 1 twice in 'train'"),
        ('{"validation": []}', "has no list 'train', only validation"),
        ('{"train": []}', "train part of the coco data .* has no labelled images"),
    ],
)
def test_unusable_split_file_is_refused_in_one_line(tmp_path: Path, content: str, message: str):
    write_coco(tmp_path / "person_keypoints_train.json", tmp_path / "images", [1, 2])
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError, match=message) as error:
        open_data("coco", tmp_path, "train", COCO17)
    assert "\n" not in str(error.value)


def test_test_part_needs_a_split_file(tmp_path: Path):
    write_coco(tmp_path / "person_keypoints_train.json", tmp_path / "images", [1, 2])
    write_posetrack(tmp_path / "annotations" / "val", tmp_path, ["a", "b"])
    for kind in ("coco", "posetrack18"):
        with pytest.raises(DataError, match=r"have no test part: only .* splits\.json .*; choose train or val"):
            open_data(kind, tmp_path, "test", COCO17)


def test_shared_split_has_the_expected_images(shared: Path):
    parts = {split: open_data("coco", shared / "coco_small", split, COCO17) for split in ("train", "val", "test")}
    ids = {split: {int(Path(name).stem) for name in names(data)} for split, data in parts.items()}
    assert {split: len(found) for split, found in ids.items()} == {"train": 1129, "val": 517, "test": 537}
    assert {image_id % 4 for image_id in ids["test"]} == {0}
    assert {image_id % 4 for image_id in ids["val"]} == {1}
    assert not ids["train"] & (ids["val"] | ids["test"])
    assert any("11 images are in no list of" in problem for problem in parts["test"].problems)
