"""Compares methods of grouping keypoints and of assigning ids on composed scenes, as tables.

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
from benchmarks.scenes.methods import METHODS, Method
from benchmarks.scenes.network import NOBODY, Frame, SimulatedNetwork
from benchmarks.scenes.score import Tally, found_joints
from benchmarks.scenes.tracks import Track, load_tracks
from stm_skeletons.association import PERSON_THRESHOLD
from stm_skeletons.errors import StmError
from stm_skeletons.table import Table


@dataclass
class Results:
    """Results on scenes with the same number of people."""

    people: int
    scenes: list[dict[str, float]] = field(default_factory=list)
    """Difficulty of each scene."""
    tallies: dict[tuple[str, str], list[Tally]] = field(default_factory=dict)
    """A tally of each scene, by names of grouping and id assignment."""


def measure(
    tracks: list[Track],
    residuals: Residuals,
    people: int,
    frames: int,
    seeds: list[int],
    methods: list[tuple[str, str]],
) -> Results:
    """Compose a scene for each seed and run all methods on it."""
    results = Results(people)
    for seed in seeds:
        random = np.random.default_rng([seed, people])
        scene = compose(tracks, people, frames, random)
        detected = list(SimulatedNetwork(scene, Donors(residuals, random), random).frames())
        results.scenes.append(_difficulty(scene, detected))
        for name in methods:
            results.tallies.setdefault(name, []).append(run_method(detected, METHODS[name](), PERSON_THRESHOLD))
    return results


def run_method(frames: list[Frame], method: Method, threshold: float) -> Tally:
    """Run a method on a scene and count; people with at least the threshold's score are reported."""
    tally = Tally()
    for frame in frames:
        people = method.step(frame.found)
        tally.add(frame, people, people.scores >= threshold)
    return tally


def _difficulty(scene: Scene, frames: list[Frame]) -> dict[str, float]:
    """Shares that describe how difficult a scene is."""
    visible = int(scene.visible.sum())

    def missing(lowest: float) -> float:
        return 1 - sum(int(found_joints(frame, lowest).sum()) for frame in frames) / visible

    def false(lowest: float) -> float:
        owners = np.concatenate([frame.owners[frame.found.peaks[..., 2] >= lowest, 0] for frame in frames])
        return float((owners == NOBODY).mean())

    return {
        "person-frames with a box overlap of 0.3": float((scene.overlaps() >= OVERLAPPING).mean()),
        "joints covered": float(scene.covered.mean()),
        "visible joints without a peak": missing(LOWEST_PEAK),
        f"visible joints without a peak of {SURE_PEAK}": missing(SURE_PEAK),
        "false peaks": false(LOWEST_PEAK),
        f"false peaks among those of {SURE_PEAK} and more": false(SURE_PEAK),
        "people without a centre": float(np.mean([1 - frame.centred.mean() for frame in frames])),
    }


_HEADER = (
    *("grouping", "ids", "own person", "own person, any score", "other person", "duplicate", "unassigned"),
    *("false peaks used", "people per frame", "with id", "id switches per 1,000"),
)


def tables(results: list[Results], seeds: list[int], frames: int) -> list[Table]:
    """Tables of means over the seeds ± half the range."""
    difficulty = [
        (name, *(_spread([scene[name] for scene in result.scenes], "{:.1%}") for result in results))
        for name in results[0].scenes[0]
    ]
    title = f"Seeds {', '.join(map(str, seeds))}; {frames} frames each"
    made = [Table(title, ("", *(f"{result.people} people" for result in results)), difficulty)]
    for result in results:
        rows = [(*name, *_cells(tallies)) for name, tallies in result.tallies.items()]
        made.append(Table(f"{result.people} people", _HEADER, rows, left=2))
    return made


def _cells(tallies: list[Tally]) -> list[str]:
    shares = [
        [t.own / t.found for t in tallies],
        [t.own_of_all / t.found for t in tallies],
        [t.other / t.found for t in tallies],
        [t.duplicate / t.found for t in tallies],
        [t.unassigned / t.found for t in tallies],
        [t.false_used / max(t.false, 1) for t in tallies],
    ]
    return [
        *(_spread(share, "{:.1%}") for share in shares),
        _spread([t.people / t.frames for t in tallies], "{:.1f}"),
        _spread([t.with_id / t.person_frames for t in tallies], "{:.1%}"),
        _spread([1000 * t.switches / t.person_frames for t in tallies], "{:.1f}"),
    ]


def _spread(values: list[float], form: str) -> str:
    return f"{form.format(np.mean(values))} ± {form.format((max(values) - min(values)) / 2)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--penn", type=Path, required=True, help="penn_action_tracks.npz")
    parser.add_argument("--people", type=int, action="append", help="people in a scene; repeat it for several numbers")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one scene for each seed")
    parser.add_argument("--frames", type=int, default=300, help="frames of a scene")
    parser.add_argument("--residuals", type=Path, default=FILE, help="file of benchmarks.scenes.residuals")
    parser.add_argument("--ours-only", action="store_true", help="run our method only, without the baselines")
    return parser


def main() -> None:
    """Run ``python -m benchmarks.scenes``."""
    arguments = _parser().parse_args()
    methods = list(METHODS)[:1] if arguments.ours_only else list(METHODS)
    if find_spec("trackers") is None:
        print("ByteTrack is skipped: it needs roboflow's package 'trackers'")
        methods = [name for name in methods if "ByteTrack" not in name[1]]
    try:
        tracks, residuals = load_tracks(arguments.penn), load_residuals(arguments.residuals)
    except StmError as error:
        raise SystemExit(str(error)) from error
    results = [
        measure(tracks, residuals, people, arguments.frames, arguments.seeds, methods)
        for people in arguments.people or (5, 20)
    ]
    print("\n\n".join(table.section() for table in tables(results, arguments.seeds, arguments.frames)))
