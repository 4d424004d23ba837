"""Small data sets on disk, and a recipe that trains in seconds."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

JOINTS = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]

TINY = """
title = "tiny, for tests"
[model]
variant = "resnet50"
width = 0.0625
[data]
kind = "coco"
width = 96
height = 64
[sequence]
kind = "synthetic"
frames = 3
[samples]
cyclic = true
given = 1
[optimiser]
learning_rate = 1e-3
batch = 2
length = "6 steps"
[validation]
every = 3
sequences = 2
frames = 3
"""


def stick_figure(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """[17, 3]: a person at a random position in an image, all joints labelled as visible."""
    shape = np.array(
        [
            *([0, -9], [-1, -10], [1, -10], [-2, -9], [2, -9], [-3, -6], [3, -6], [-5, -3], [5, -3], [-6, 0], [6, 0]),
            *([-2, 0], [2, 0], [-2, 5], [2, 5], [-3, 10], [3, 10]),
        ],
        float,
    )
    scale = height / 30
    xy = shape * scale + random.uniform([width * 0.3, height * 0.4], [width * 0.7, height * 0.6])
    return np.column_stack([xy, np.full(17, 2)])


def write_coco(root: Path, images: int = 8, size: tuple[int, int] = (120, 90)) -> Path:
    """Write a folder in COCO's layout: stick figures on noise."""
    random = np.random.default_rng(0)
    width, height = size
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir(parents=True)
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": []}],
        }
        for number in range(1, images + 1):
            pose = stick_figure(random, width, height)
            image = random.integers(0, 80, (height, width, 3), np.uint8)
            for x, y, _ in pose:
                cv2.circle(image, (round(x), round(y)), 3, (40, 220, 250), -1)
            name = f"{number:012d}.jpg"
            cv2.imwrite(str(root / f"{split}2017" / name), image)
            (left, top), (right, bottom) = pose[:, :2].min(0) - 4, pose[:, :2].max(0) + 4
            box = [left, top, right - left, bottom - top]
            corners = [left, top, right, top, right, bottom, left, bottom]
            content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
            content["annotations"].append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": pose.ravel().tolist(),
                    "num_keypoints": 17,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "segmentation": [corners],
                }
            )
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def small_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="session")
def small_footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two noise videos of four frames each, in PoseTrack18's format."""
    folder = tmp_path_factory.mktemp("footage")
    random = np.random.default_rng(0)
    for name in ("train", "val"):
        (folder / name).mkdir()
        images, annotations = [], []
        for number in range(4):
            file = f"{name}{number}.png"
            cv2.imwrite(str(folder / file), random.integers(0, 255, (64, 96, 3), np.uint8))
            images.append({"id": number, "file_name": file, "width": 96, "height": 64, "vid_id": name})
            pose = stick_figure(random, 96, 64)
            pose[:, 2] = 1
            common = {"image_id": number, "category_id": 1, "track_id": 0, "bbox": [9, 9, 70, 50]}
            annotations.append({"id": number + 1, **common, "keypoints": pose.ravel().tolist()})
        category = {"id": 1, "name": "person", "keypoints": JOINTS}
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (folder / name / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
