"""Opens a data set by kind and folder: finds its files, and splits it if it has only one part."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from stm_skeletons.errors import DataError
from stm_skeletons.skeleton import Skeleton
from training.data.coco import read_coco
from training.data.labels import DataSet
from training.data.posetrack import json_files, read_posetrack
from training.data.splits import FILE, read_part

Kind = Literal["coco", "posetrack18", "posetrack21", "footage"]
KINDS = get_args(Kind)
SPLITS = ("train", "val", "test")
MOST_NAMES = 20
"""Videos of a part that are listed by name."""
_PARTS = ("train", "val")
"""Parts of data without a splits.json."""
_COCO_LAYOUTS = (
    ("annotations/person_keypoints_{}2017.json", "{}2017"),
    ("person_keypoints_{}.json", "images"),
)
"""Annotation file and folder of images of a split."""


def check_data(kind: str, root: Path) -> None:
    """Raises DataError if there is no such kind or folder; quick, so that a misspelt name is reported at once."""
    if kind not in KINDS:
        raise DataError(f"no kind of data '{kind}'; kinds are {', '.join(KINDS)}")
    if not root.is_dir():
        raise DataError(f"folder {root} does not exist; name the folder of the {kind} data")


def open_data(kind: str, root: Path, split: str, skeleton: Skeleton, holdout: float = 0.2, seed: int = 0) -> DataSet:
    """Read one part of a data set.

    A COCO folder with a ``splits.json`` next to its annotations (see training.data.splits) is split by that file. Only
    such data have a "test" part. Otherwise, if the folder has both parts, they are used as they are. If it has only
    one, that part is split: COCO by image, the others by JSON file, that is, by video. A hash of the name and the seed
    decides, so new images or videos do not move others between the parts. Only if a part would be empty, one is moved
    into it.

    Args:
        kind: "coco": ``annotations/person_keypoints_{train,val}2017.json`` and ``{train,val}2017/``, or
            ``person_keypoints_{train,val}.json`` and ``images/``; "posetrack18": ``annotations/{train,val}/*.json``;
            "posetrack21": ``posetrack_data/{train,val}/*.json``; "footage": ``*.json``, ``annotations/*.json``, or
            ``{train,val}/*.json``.
        root: folder of the data set; ``file_name`` in PoseTrack's and footage files is relative to it or to the JSON
            file's folder.
        split: "train", "val" or "test".
        skeleton: determines the joints and their order.
        holdout: share that goes to "val" if one part is split by name.
        seed: of the hash.

    Raises:
        DataError: the kind is unknown, the folder has another layout, a file is damaged, or the part is empty or does
            not exist.
    """
    check_data(kind, root)
    if split not in SPLITS:
        raise DataError(f"no part '{split}' of {kind} data; parts are {', '.join(SPLITS)}")
    if split not in _PARTS and kind != "coco":
        raise _no_such_part(split, kind, root)
    division = _Division(split, holdout, seed)
    if kind == "coco":
        data = _open_coco(root, skeleton, division)
    elif kind == "footage":
        data = _open_footage(root, skeleton, division)
    else:
        folder = root / ("annotations" if kind == "posetrack18" else "posetrack_data")
        data = _open_posetrack(folder, root, skeleton, division)
    if not data.images:
        why = f" ({'; '.join(data.problems)})" if data.problems else ""
        raise DataError(f"the {split} part of the {kind} data in {root} has no labelled images{why}")
    return replace(data, name=f"{kind} {split}")


@dataclass(frozen=True)
class _Division:
    """How one part is split into two, and which of them to read."""

    split: str
    holdout: float
    seed: int

    def choose(self, names: Sequence[str]) -> list[str]:
        """The names that belong to the part to read, in their order."""
        share = {name: _share(name, self.seed) for name in names}
        val = {name for name in names if share[name] < self.holdout}
        if 0 < self.holdout < 1 and len(share) > 1:
            by_share = sorted(share, key=share.__getitem__)
            val = (val or {by_share[0]}) - ({by_share[-1]} if len(val) == len(share) else set())
        elif 0 < self.holdout < 1:
            val = set()  # a single name is for training
        return [name for name in names if (name in val) == (self.split == "val")]

    def line(self, path: Path, chosen: Sequence[str], total: int, what: str) -> str:
        names = f" ({', '.join(chosen)})" if len(chosen) <= MOST_NAMES and what == "videos" else ""
        choose = "sort the files into train/ and val/" if what == "videos" else "add a splits.json"
        return (
            f"{self.split} data: {len(chosen)} of {total} {what} in {path}{names}, split by name (data.holdout "
            f"{self.holdout:g}); to choose yourself, {choose}"
        )


def _share(name: str, seed: int) -> float:
    """A number in [0, 1) that depends only on the name and the seed."""
    return int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()[:12], 16) / 16**12


def _open_coco(root: Path, skeleton: Skeleton, division: _Division) -> DataSet:
    for file, folder in _COCO_LAYOUTS:
        # One archive holds all annotations of COCO, so a part is there only if its images are.
        parts = {part: (root / file.format(part), root / folder.format(part)) for part in _PARTS}
        found = {part: paths for part, paths in parts.items() if paths[0].is_file() and paths[1].is_dir()}
        if not found:
            continue
        annotations, images = next(iter(found.values()))
        splits = annotations.parent / FILE
        if splits.exists():
            if len(found) == len(_PARTS):
                raise DataError(f"{splits} splits one annotation file, but there are two in its folder; remove one")
            return read_coco(annotations, images, skeleton, read_part(splits, division.split))
        if division.split not in _PARTS:
            raise _no_such_part(division.split, "coco", root)
        if len(found) == len(_PARTS):
            return read_coco(*found[division.split], skeleton)
        return _divide_images(read_coco(annotations, images, skeleton), annotations, images, division)
    files = " or ".join(f"{file} with {folder}/" for file, folder in _COCO_LAYOUTS)
    files = files.replace("{}", division.split if division.split in _PARTS else "train")
    raise DataError(f"no COCO keypoints in {root}: expected {files}; found {_content(root)}")


def _no_such_part(split: str, kind: str, root: Path) -> DataError:
    return DataError(
        f"the {kind} data in {root} have no {split} part: only a COCO folder with a {FILE} next to its annotations "
        f"has one; choose {' or '.join(_PARTS)}, or write that file"
    )


def _divide_images(data: DataSet, annotations: Path, images: Path, division: _Division) -> DataSet:
    # The name of a COCO image is its id.
    by_name = {image.file.path.relative_to(images).as_posix(): image for image in data.images}
    chosen = division.choose(list(by_name))
    line = division.line(annotations, chosen, len(by_name), "images")
    return replace(data, images=tuple(by_name[name] for name in chosen), problems=(*data.problems, line))


def _open_posetrack(folder: Path, root: Path, skeleton: Skeleton, division: _Division) -> DataSet:
    found = {part: files for part in _PARTS if (files := json_files(folder / part))}
    if len(found) == len(_PARTS):
        return read_posetrack(found[division.split], root, skeleton)
    for part, files in found.items():
        return _divide_files(files, folder / part, root, skeleton, division)
    raise DataError(f"no JSON files in {folder / 'train'} or {folder / 'val'}; {root} holds {_content(root)}")


def _open_footage(root: Path, skeleton: Skeleton, division: _Division) -> DataSet:
    if all(json_files(root / part) for part in _PARTS):
        return _open_posetrack(root, root, skeleton, division)
    for folder in (root, root / "annotations"):
        if files := json_files(folder):
            return _divide_files(files, folder, root, skeleton, division)
    raise DataError(
        f"no labelled footage in {root}: expected *.json, annotations/*.json, or train/*.json with val/*.json; "
        f"found {_content(root)}"
    )


def _divide_files(files: list[Path], folder: Path, root: Path, skeleton: Skeleton, division: _Division) -> DataSet:
    by_name = {path.stem: path for path in files}
    chosen = division.choose(list(by_name))
    if not chosen:
        raise DataError(
            f"none of the {len(files)} JSON files in {folder} is left for {division.split} (held-out share "
            f"{division.holdout:g}); label another video, or change the share"
        )
    data = read_posetrack([by_name[name] for name in chosen], root, skeleton)
    return replace(data, problems=(*data.problems, division.line(folder, chosen, len(files), "videos")))


def _content(folder: Path) -> str:
    """The first names in a folder, for error messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
