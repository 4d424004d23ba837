"""Draws a training sample: the frames of a sequence (the paper's Figure 3), and a frame's maps before and after the
augmentation of memorised maps (Figure 4)."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from stm_skeletons.errors import DataError, SinkError
from stm_skeletons.files import atomic_write
from stm_skeletons.maps import render_maps
from training.data.memory_maps import memory_maps
from training.data.samples import Samples
from training.map_images import caption, grid, paint
from training.recipe import load_recipe
from training.recipe_run import open_split


def show(
    name: str, kind: str, root: Path, number: int, seed: int, out: Path, say: Callable[[str], None] = print
) -> None:
    """Write an image of a sample that a recipe makes of a data set.

    The first row has the frames with their keypoint maps. The second row has maps of the first frame: keypoints as
    labelled and as memorised, edges as labelled and as memorised.

    Args:
        name: of the recipe; ``kind`` overrides its kind of data and sequences.
        kind, root: kind and folder of the data, see training.data.open.
        number: number of the image or video.
        seed: random seed.
        out: image file to write.
        say: receives warnings about skipped data, line by line.

    Raises:
        RecipeError, DataError, SinkError.
    """
    if out.suffix not in (".png", ".jpg"):
        raise SinkError(f"cannot write {out}: the name must end in .png or .jpg")
    recipe = load_recipe(name)
    section = recipe.data.model_copy(update={"kind": kind})
    sequence = recipe.sequence.model_copy(update={"kind": "synthetic" if kind == "coco" else "real"})
    recipe = recipe.model_copy(update={"data": section, "sequence": sequence, "seed": seed})
    data = open_split(recipe, root, "train")
    for problem in data.problems:
        say(problem)
    skeleton = data.skeleton
    samples = Samples(data, skeleton.channels, recipe.size, recipe.sequence, recipe.samples, seed)
    if number >= len(samples):
        raise DataError(
            f"--number is {number}, but the training part has {len(samples)} images or videos, counted from 0"
        )
    frames = samples.sequence(0, number).frames
    joints = 1 + len(skeleton.joints)
    size = (recipe.data.height, recipe.data.width)
    truths = [render_maps(frame.poses, skeleton, size) for frame in frames]
    keypoints = [
        caption(paint(frame.image, truth[1:joints], skeleton.joints), f"frame {n}")
        for n, (frame, truth) in enumerate(zip(frames, truths, strict=True))
    ]
    first, maps = frames[0], truths[0]
    augmented = memory_maps(
        first.poses, skeleton, size, recipe.samples.augmentation.memory, np.random.default_rng([seed, number])
    )
    pairs = [
        caption(paint(first.image, chosen[channels], names), title)
        for names, channels, what in (
            (skeleton.joints, slice(1, joints), "keypoints"),
            (skeleton.edge_names, slice(joints, None), "edges"),
        )
        for chosen, title in ((maps, f"ground truth {what}"), (augmented, f"augmented {what}"))
    ]
    with atomic_write(out) as partial:
        partial.write_bytes(cv2.imencode(out.suffix, grid([keypoints, pairs]))[1].tobytes())
