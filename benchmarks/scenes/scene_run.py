"""Composed scenes through association and identity, several ways of each, as two tables.

python -m benchmarks.scenes --penn penn_action_tracks.npz --people 5 --people 20 --seeds 0 1 2 --frames 300
"""

import argparse
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.scenes.compose import OVERLAPPING, Scene, compose
from benchmarks.scenes.donors import Donors
from benchmarks.scenes.errors import FILE, LOWEST_PEAK, SURE_PEAK, Residuals, load_residuals
from benchmarks.scenes.network import NOBODY, Frame, Network
from benchmarks.scenes.score import Tally, found_joints
from benchmarks.scenes.tracks import Track, load_tracks
from benchmarks.scenes.ways import WAYS, Way
from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import StmError
from stm_skeletons.table import Table


@dataclass
class Results:
    """Of scenes with one number of people."""

    people: int
    scenes: list[dict[str, float]] = field(default_factory=list)
    """What each scene is like."""
    tallies: dict[tuple[str, str], list[Tally]] = field(default_factory=dict)
    """One of each scene, by grouping and numbering."""


def measure(
    tracks: list[Track], residuals: Residuals, people: int, frames: int, seeds: list[int], ways: list[tuple[str, str]]
) -> Results:
    """Compose a scene for each seed and go through it in all ways."""
    results = Results(people)
    for seed in seeds:
        random = np.random.default_rng([seed, people])
        scene = compose(tracks, people, frames, random)
        seen = list(Network(scene, Donors(residuals, random), random).frames())
        results.scenes.append(_likeness(scene, seen))
        for way in ways:
            results.tallies.setdefault(way, []).append(follow(seen, WAYS[way](), PERSON_THRESHOLD))
    return results


def follow(seen: list[Frame], way: Way, threshold: float) -> Tally:
    """Go through a scene and count; people from a score on are reported."""
    tally = Tally()
    for frame in seen:
        people = way.step(frame.found)
        tally.add(frame, people, people.scores >= threshold)
    return tally


def _likeness(scene: Scene, seen: list[Frame]) -> dict[str, float]:
    """Shares that tell how hard a scene is."""
    visible = int(scene.visible.sum())

    def dropped(lowest: float) -> float:
        return 1 - sum(int(found_joints(frame, lowest).sum()) for frame in seen) / visible

    def false(lowest: float) -> float:
        owners = np.concatenate([frame.owners[frame.found.peaks[..., 2] >= lowest, 0] for frame in seen])
        return float((owners == NOBODY).mean())

    return {
        "person-frames with a box overlap of 0.3": float((scene.overlaps() >= OVERLAPPING).mean()),
        "joints covered": float(scene.covered.mean()),
        "visible joints without a peak": dropped(LOWEST_PEAK),
        f"visible joints without a peak of {SURE_PEAK}": dropped(SURE_PEAK),
        "false peaks": false(LOWEST_PEAK),
        f"false peaks among those of {SURE_PEAK} and more": false(SURE_PEAK),
        "people without a centre": float(np.mean([1 - frame.centred.mean() for frame in seen])),
    }


_HEADER = (
    *("people", "numbers", "own", "own, of all", "in another", "split", "left", "false taken"),
    *("people a frame", "followed", "switches / 1,000"),
)


def tables(results: list[Results], seeds: list[int], frames: int) -> list[Table]:
    """Mean over the seeds and, after +-, half of what lies between the smallest and the largest."""
    likeness = [
        (name, *(_spread([scene[name] for scene in result.scenes], "{:.1%}") for result in results))
        for name in results[0].scenes[0]
    ]
    title = f"Seeds {', '.join(map(str, seeds))}; {frames} frames each"
    found = [Table(title, ("", *(f"{result.people} people" for result in results)), likeness)]
    for result in results:
        rows = [(*way, *_cells(tallies)) for way, tallies in result.tallies.items()]
        found.append(Table(f"{result.people} people", _HEADER, rows, left=2))
    return found


def _cells(tallies: list[Tally]) -> list[str]:
    shares = [
        [t.own / t.found for t in tallies],
        [t.own_of_all / t.found for t in tallies],
        [t.anothers / t.found for t in tallies],
        [t.split / t.found for t in tallies],
        [t.left / t.found for t in tallies],
        [t.taken_false / max(t.false, 1) for t in tallies],
    ]
    return [
        *(_spread(share, "{:.1%}") for share in shares),
        _spread([t.people / t.frames for t in tallies], "{:.1f}"),
        _spread([t.followed / t.person_frames for t in tallies], "{:.1%}"),
        _spread([1000 * t.switches / t.person_frames for t in tallies], "{:.1f}"),
    ]


def _spread(values: list[float], form: str) -> str:
    return f"{form.format(np.mean(values))} ± {form.format((max(values) - min(values)) / 2)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--penn", type=Path, required=True, help="penn_action_tracks.npz")
    parser.add_argument("--people", type=int, action="append", help="in a scene; may be given more than once")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--residuals", type=Path, default=FILE, help="measured by benchmarks.scenes.residuals")
    parser.add_argument("--ours-only", action="store_true", help="leave out all that ours is compared with")
    return parser


def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    ways = list(WAYS)[:1] if arguments.ours_only else list(WAYS)
    if find_spec("trackers") is None:
        print("ByteTrack is left out: it needs roboflow's package 'trackers'")
        ways = [way for way in ways if "ByteTrack" not in way[1]]
    try:
        tracks, residuals = load_tracks(arguments.penn), load_residuals(arguments.residuals)
    except StmError as error:
        raise SystemExit(str(error)) from error
    results = [
        measure(tracks, residuals, people, arguments.frames, arguments.seeds, ways)
        for people in arguments.people or (5, 20)
    ]
    print("\n\n".join(table.section() for table in tables(results, arguments.seeds, arguments.frames)))
