"""A data set's own split: ``splits.json`` next to its annotations, with lists of image ids by part."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stm_skeletons.errors import DataError
from training.data.annotations import ProblemCounts, json_content

FILE = "splits.json"
LISTS = {"train": "train", "val": "validation", "test": "test"}
"""Name of each part in the file."""


@dataclass(frozen=True)
class Part:
    """The images of a part."""

    path: Path
    """The splits.json, for messages."""
    images: Collection[int]
    """Image ids of this part."""
    listed: Collection[int]
    """Image ids of all parts."""

    def choose(self, content: dict[str, Any], problems: ProblemCounts) -> dict[str, Any]:
        """The content of a COCO file reduced to this part; images in no part are counted in ``problems``."""
        for image in content["images"]:
            if image["id"] not in self.listed:
                problems.add(f"images are in no list of {self.path} and skipped", image["file_name"])
        known = {image["id"] for image in content["images"]}
        for number in self.images:
            if number not in known:
                problems.add(f"ids in {self.path} match no image of the annotations", number)
        return {
            **content,
            "images": [image for image in content["images"] if image["id"] in self.images],
            "annotations": [each for each in content["annotations"] if each["image_id"] in self.images],
        }


def read_part(path: Path, split: str) -> Part:
    """Read one part of a splits.json.

    Args:
        path: a JSON object with lists of image ids under "train", "validation" and "test", or some of these.
        split: "train", "val" (the file's "validation") or "test".

    Raises:
        DataError: the file cannot be read or is damaged, has unknown parts, lists an image twice, or lacks this part.
    """
    content = json_content(path, "split", "copy it again")
    if not isinstance(content, dict) or not all(_is_list_of_ids(ids) for ids in content.values()):
        raise DataError(f"{path} must hold lists of image ids under {', '.join(LISTS.values())}")
    if unknown := sorted(set(content) - set(LISTS.values())):
        raise DataError(f"{path} has the unknown part '{unknown[0]}'; the parts are {', '.join(LISTS.values())}")
    where: dict[int, str] = {}
    for name, ids in content.items():
        for number in ids:
            if number in where:
                lists = f"twice in '{name}'" if where[number] == name else f"in both '{where[number]}' and '{name}'"
                raise DataError(f"{path} has image {number} {lists}; list each image once")
            where[number] = name
    if LISTS[split] not in content:
        raise DataError(f"{path} has no list '{LISTS[split]}', only {', '.join(content)}; choose one of those")
    return Part(path, frozenset(content[LISTS[split]]), frozenset(where))


def _is_list_of_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)
