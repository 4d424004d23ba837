"""A small data set in COCO's format with a fixed split."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from stm_skeletons.skeleton import COCO17


def write_coco(folder: Path, splits: Mapping[str, Sequence[int]], greys: Mapping[int, int]) -> None:
    """Write images of 64x64 with one person each.

    Args:
        folder: folder of the data set; created if necessary.
        splits: image ids by the name of the split.
        greys: grey level by image id; only these image files are written.
    """
    (folder / "images").mkdir(parents=True)
    ids = sorted(image for part in splits.values() for image in part)
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints)}
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in ids]
    people = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 9, 9], "keypoints": [5, 6, 2] * 17} for i in ids
    ]
    content = {"categories": [category], "images": images, "annotations": people}
    (folder / "person_keypoints_train.json").write_text(json.dumps(content))
    (folder / "splits.json").write_text(json.dumps({name: list(part) for name, part in splits.items()}))
    for i, grey in greys.items():
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.full((64, 64, 3), grey, np.uint8))
