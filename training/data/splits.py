"""A data set's own division: ``splits.json`` beside its annotations, lists of image ids by the name of the part."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stm_skeletons.errors import DataError
from training.data.annotations import Tally, json_content

FILE = "splits.json"
LISTS = {"train": "train", "val": "validation", "test": "test"}
"""What each part is called in the file."""


@dataclass(frozen=True)
class Part:
    """The images of one part, and those of any."""

    path: Path
    """Of the file, for messages."""
    images: Collection[int]
    """Ids of this part."""
    listed: Collection[int]
    """Ids in any of the lists."""

    def choose(self, content: dict[str, Any], tally: Tally) -> dict[str, Any]:
        """A COCO file's content with this part's images and their annotations only; counts what is in no list."""
        for image in content["images"]:
            if image["id"] not in self.listed:
                tally.add(f"images are in none of the lists of {self.path} and left out", image["file_name"])
        known = {image["id"] for image in content["images"]}
        for number in self.images:
            if number not in known:
                tally.add(f"ids in {self.path} are of no image in the annotations", number)
        return {
            **content,
            "images": [image for image in content["images"] if image["id"] in self.images],
            "annotations": [note for note in content["annotations"] if note["image_id"] in self.images],
        }


def read_part(path: Path, split: str) -> Part:
    """One part of the division in a file.

    Args:
        path: a JSON object of lists of image ids: "train", "validation" and "test", as many of them as there are parts.
        split: "train", "val" (the file's "validation") or "test".

    Raises:
        DataError: the file cannot be read or is damaged, names other parts or an image twice, or has no such part.
    """
    content = json_content(path, "split", "copy it again")
    if not isinstance(content, dict) or not all(_is_list_of_ids(ids) for ids in content.values()):
        raise DataError(f"{path} is no split: it must hold lists of image ids by {', '.join(LISTS.values())}")
    if unknown := sorted(set(content) - set(LISTS.values())):
        raise DataError(f"{path} names a part '{unknown[0]}'; the parts are {', '.join(LISTS.values())}")
    where: dict[int, str] = {}
    for name, ids in content.items():
        for number in ids:
            if number in where:
                both = f"twice in '{name}'" if where[number] == name else f"in both '{where[number]}' and '{name}'"
                raise DataError(f"{path} has image {number} {both}; each belongs to one part, once")
            where[number] = name
    if LISTS[split] not in content:
        raise DataError(f"{path} has no list '{LISTS[split]}', only {', '.join(content)}; ask for one of those")
    return Part(path, frozenset(content[LISTS[split]]), frozenset(where))


def _is_list_of_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)
