"""Measure the errors that the scenes draw from, on validation images moved so that the true motion is known.

    python -m benchmarks.scenes.residuals WEIGHTS --coco COCO_SMALL [--out residuals.npz]

Every image is letterboxed to the network's size and moved on for nine frames (see training.data.held_out): the memory
is filled as it is in video. A second round, with a rectangle of noise that moves through, tells what the memory shows
of joints that cannot be seen. Only joints of the scenes count; what is near a joint that is not labelled, or near a
centre of nobody labelled, is left out: it may be right.
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
from training.data.labels import DataSet, LabelledPicture
from training.data.open import open_data
from training.data.sequence import Sequence
from training.model.network import SpaceTimeMemory
from training.model.weights import load_weights

FRAMES = 10
"""Of a sequence; the first has no memory and is left out."""
SLOTS, EVERY, PEAKS = 6, 1, 30
"""As the shipped bundle has them."""


def watch(model: SpaceTimeMemory, sequence: Sequence) -> Iterator[Detections]:
    """What the network finds in each frame of a sequence, its memory empty at first; ``previous`` is of the newest slot
    only."""
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


def choose_pictures(data: DataSet, count: int) -> tuple[LabelledPicture, ...]:
    """All pictures on which people overlap, and others spread over the data set, ``count`` together."""
    whole = [picture for picture in data.pictures if whole_people(picture.poses).any()]
    crowded = [picture for picture in whole if _overlap(picture.poses)]
    names = {picture.picture.path for picture in crowded}
    others = [picture for picture in whole if picture.picture.path not in names]
    wanted = min(len(others), max(count - len(crowded), 0))
    spread = np.linspace(0, len(others) - 1, wanted).round().astype(int).tolist()
    return (*crowded[:count], *(others[i] for i in spread))


def _overlap(poses: NDArray) -> bool:
    low, high = boxes(poses)
    return bool((whole_people(poses) & (box_overlaps(low, high) >= CLOSE)).any())


def visibility(coco: Path, pictures: tuple[LabelledPicture, ...]) -> dict[str, NDArray[np.int64]]:
    """COCO's visibility (0, 1, 2) of each picture's people [P, 17], by the picture's file name, in the order of its
    poses. Raises DataError where they do not fit the poses."""
    content = json.loads(next(coco.glob("person_keypoints_*.json")).read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    by_name: dict[str, list] = {}
    for note in content["annotations"]:
        if not note.get("iscrowd"):
            by_name.setdefault(names[note["image_id"]], []).append(note["keypoints"][2::3])
    seen = {picture.picture.path.name: np.array(by_name[picture.picture.path.name]) for picture in pictures}
    for picture in pictures:
        if ((seen[picture.picture.path.name] > 0) != (picture.poses[..., 2] > 0)).any():
            raise DataError(f"the people of {picture.picture} are not in the order of their annotations")
    return seen


def measure(model: SpaceTimeMemory, coco: Path, count: int) -> Collected:
    """All errors on ``count`` pictures, and with the occluder on half as many."""
    data = open_data("coco", coco, "val", COCO17)
    pictures = choose_pictures(data, count)
    seen = visibility(coco, pictures)
    collected = Collected()
    for occluded, chosen in ((False, pictures), (True, pictures[::2])):
        sequences = held_out_sequences(replace(data, pictures=chosen), (WIDTH, HEIGHT), FRAMES, None, occluded)
        for number, sequence in enumerate(sequences):
            found = watch(model, sequence)
            observe(sequence, seen[Path(sequence.name).name][:, list(JOINTS)], found, occluded, collected)
            print(f"\r{'occluded' if occluded else 'clean'} {number + 1}/{len(chosen)}", end="", flush=True)
    print()
    return collected


def summary(residuals: Residuals) -> list[str]:
    """What was measured, in a few lines."""
    visible = residuals.seen[:, None] == 2
    score = residuals.peak_score
    known = visible & ~np.isnan(score)
    frames = score.shape[0] * score.shape[1]
    back = np.linalg.norm(residuals.came_back_error, axis=-1)
    moves = np.linalg.norm(residuals.moved_error, axis=-1)
    where = np.linalg.norm(residuals.peak_at, axis=-1)[known & (score > 0)]
    return [
        f"{score.shape[0]} people, {frames} person-frames, {residuals.close.mean():.0%} of them close to somebody",
        f"visible joints found: {(score[known] >= LOWEST_PEAK).mean():.1%} from {LOWEST_PEAK}, "
        f"{(score[known] >= SURE_PEAK).mean():.1%} from {SURE_PEAK}; off by {np.median(where):.3f} sizes (median)",
        f"false peaks near a person, a person-frame: {len(residuals.near) / frames:.2f} from {LOWEST_PEAK}, "
        f"{(residuals.near_score >= SURE_PEAK).sum() / frames:.2f} from {SURE_PEAK}; far from people, a frame: "
        f"{len(residuals.far) / max(int(residuals.far_pictures), 1):.2f}",
        f"centres found: {(residuals.centre_score > 0).mean():.1%}, of people close to somebody "
        f"{(residuals.centre_score[residuals.close == 1] > 0).mean():.1%}; second ones: "
        f"{len(residuals.extra) / frames:.1%}",
        f"covered joints shown by the memory: {(residuals.covered_score > 0).mean():.1%}",
        f"previous place off by {np.nanmedian(moves):.1f} pixels (median), {np.nanquantile(moves, 0.9):.1f} (90 %); of "
        f"joints that were covered {np.median(back):.1f}, {np.quantile(back, 0.9):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--coco", type=Path, required=True, help="folder of coco_small; its validation part is used")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, provenance = load_weights(arguments.weights)
    collected = measure(model, arguments.coco, arguments.pictures)
    source = f"{arguments.pictures} validation images of {arguments.coco.name}; weights: {provenance.origin}"
    save_residuals(collected.residuals(source), arguments.out)
    for line in summary(load_residuals(arguments.out)):
        print(line)
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
