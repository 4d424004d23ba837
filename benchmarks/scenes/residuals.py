"""Measures the network's errors for the scenes, on moved validation images, whose motion is known.

    python -m benchmarks.scenes.residuals WEIGHTS --coco COCO_SMALL [--out residuals.npz]

Every image is letterboxed to the network's size and moved for nine frames (see training.data.held_out), so that the
memory fills as in a video. A second round with a moving rectangle of noise measures what the memory finds of hidden
joints. Only the joints of the scenes count. Peaks near an unlabelled joint or near an unlabelled person's centre are
ignored, because they may be right.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.scenes.collected import Collected
from benchmarks.scenes.compose import HEIGHT, WIDTH
from benchmarks.scenes.errors import CLOSE, FILE, LOWEST_PEAK, SURE_PEAK, Residuals, load_residuals, save_residuals
from benchmarks.scenes.geometry import box_overlaps
from benchmarks.scenes.observe import observe
from benchmarks.scenes.tracks import JOINTS
from benchmarks.scenes.view import boxes, whole_people
from stm_skeletons.detections import Detections
from stm_skeletons.errors import DataError
from stm_skeletons.memory_policy import newest_slot, readable_slots, write_slot
from stm_skeletons.skeleton import COCO17
from training.data.held_out import held_out_sequences
from training.data.labels import DataSet, LabelledImage
from training.data.open import open_data
from training.data.sequence import Sequence
from training.model.network import SpaceTimeMemory
from training.model.weights import load_weights

FRAMES = 10
"""Frames of a sequence; the first one has no memory and is not counted."""
SLOTS, EVERY, PEAKS = 6, 1, 30
"""As in the shipped bundle."""


def detect_sequence(model: SpaceTimeMemory, sequence: Sequence) -> Iterator[Detections]:
    """Detections of each frame of a sequence from an empty memory; ``previous`` has the newest slot only."""
    keys = values = torch.empty(0)
    with torch.no_grad():
        for number, frame in enumerate(sequence.frames):
            query = model.encode_query(torch.from_numpy(frame.image)[None])
            if number == 0:
                keys = query.key.new_zeros(1, SLOTS, *query.key.shape[1:])
                values = query.value.new_zeros(1, SLOTS, *query.value.shape[1:])
            valid = torch.tensor([readable_slots(number, SLOTS, EVERY)], dtype=query.key.dtype)
            found = {name: tensor.numpy() for name, tensor in model.detect(query, keys, values, valid, PEAKS).items()}
            slot = write_slot(number, SLOTS, EVERY)
            source = query.features[model.memory_source]
            keys[:, slot], values[:, slot] = model.encode_memory(source, torch.from_numpy(found.pop("maps"))[None])
            found["previous"] = found["previous"][[newest_slot(number, SLOTS, EVERY)]]
            yield Detections(**found)


def choose_images(data: DataSet, count: int) -> tuple[LabelledImage, ...]:
    """``count`` images: all with overlapping people, and others spread over the data set."""
    whole = [image for image in data.images if whole_people(image.poses).any()]
    crowded = [image for image in whole if _overlap(image.poses)]
    names = {image.file.path for image in crowded}
    others = [image for image in whole if image.file.path not in names]
    wanted = min(len(others), max(count - len(crowded), 0))
    spread = np.linspace(0, len(others) - 1, wanted).round().astype(int).tolist()
    return (*crowded[:count], *(others[i] for i in spread))


def _overlap(poses: NDArray) -> bool:
    low, high = boxes(poses)
    return bool((whole_people(poses) & (box_overlaps(low, high) >= CLOSE)).any())


def visibility(coco: Path, images: tuple[LabelledImage, ...]) -> dict[str, NDArray[np.int64]]:
    """COCO's visibility (0, 1, 2) [P, 17] of each image's people, by file name, in the order of its poses.

    Raises DataError if it does not match the poses.
    """
    content = json.loads(next(coco.glob("person_keypoints_*.json")).read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    by_name: dict[str, list] = {}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            by_name.setdefault(names[annotation["image_id"]], []).append(annotation["keypoints"][2::3])
    seen = {image.file.path.name: np.array(by_name[image.file.path.name]) for image in images}
    for image in images:
        if ((seen[image.file.path.name] > 0) != (image.poses[..., 2] > 0)).any():
            raise DataError(f"the people of {image.file} are not in the order of their annotations")
    return seen


def measure(model: SpaceTimeMemory, coco: Path, count: int) -> Collected:
    """Errors on ``count`` clean images, and on half of them with the occluder."""
    data = open_data("coco", coco, "val", COCO17)
    images = choose_images(data, count)
    seen = visibility(coco, images)
    collected = Collected()
    for occluded, chosen in ((False, images), (True, images[::2])):
        sequences = held_out_sequences(replace(data, images=chosen), (WIDTH, HEIGHT), FRAMES, None, occluded)
        for number, sequence in enumerate(sequences):
            found = detect_sequence(model, sequence)
            observe(sequence, seen[Path(sequence.name).name][:, list(JOINTS)], found, occluded, collected)
            print(f"\r{'occluded' if occluded else 'clean'} {number + 1}/{len(chosen)}", end="", flush=True)
    print()
    return collected


def summary(residuals: Residuals) -> list[str]:
    """A summary of the residuals, in a few lines."""
    visible = residuals.seen[:, None] == 2
    score = residuals.peak_score
    known = visible & ~np.isnan(score)
    frames = score.shape[0] * score.shape[1]
    came_back = np.linalg.norm(residuals.came_back_error, axis=-1)
    moves = np.linalg.norm(residuals.moved_error, axis=-1)
    offsets = np.linalg.norm(residuals.peak_at, axis=-1)[known & (score > 0)]
    return [
        f"{score.shape[0]} people, {frames} person-frames, {residuals.close.mean():.0%} of them close to others",
        f"visible joints found: {(score[known] >= LOWEST_PEAK).mean():.1%} scoring at least {LOWEST_PEAK}, "
        f"{(score[known] >= SURE_PEAK).mean():.1%} at least {SURE_PEAK}; median error {np.median(offsets):.3f} sizes",
        f"false peaks per person-frame near a person: {len(residuals.near) / frames:.2f} scoring at least "
        f"{LOWEST_PEAK}, {(residuals.near_score >= SURE_PEAK).sum() / frames:.2f} at least {SURE_PEAK}; "
        f"per frame far from people: {len(residuals.far) / max(int(residuals.far_pictures), 1):.2f}",
        f"centres found: {(residuals.centre_score > 0).mean():.1%}, of people close to another "
        f"{(residuals.centre_score[residuals.close == 1] > 0).mean():.1%}; further centres: "
        f"{len(residuals.extra) / frames:.1%}",
        f"covered joints found by the memory: {(residuals.covered_score > 0).mean():.1%}",
        f"error of the previous position: median {np.nanmedian(moves):.1f} pixels, 90th percentile "
        f"{np.nanquantile(moves, 0.9):.1f}; for joints that were covered: {np.median(came_back):.1f}, "
        f"{np.quantile(came_back, 0.9):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="weights of the network (.safetensors)")
    parser.add_argument("--coco", type=Path, required=True, help="folder of coco_small; its validation part is used")
    parser.add_argument("--images", type=int, default=100, help="number of images")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, default=FILE, help=".npz file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, provenance = load_weights(arguments.weights)
    collected = measure(model, arguments.coco, arguments.images)
    source = f"{arguments.images} validation images of {arguments.coco.name}; weights: {provenance.origin}"
    save_residuals(collected.residuals(source), arguments.out)
    for line in summary(load_residuals(arguments.out)):
        print(line)
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
