"""Composed scenes: their contents, the simulated detections, and the scores of methods."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.scenes.compose import HEIGHT, OVERLAPPING, WIDTH, Scene, compose, draw_body
from benchmarks.scenes.donors import Donors
from benchmarks.scenes.errors import LOWEST_PEAK, SURE_PEAK, load_residuals, save_residuals
from benchmarks.scenes.geometry import box_overlaps, stray
from benchmarks.scenes.methods import METHODS, Ours, nearest
from benchmarks.scenes.network import Frame, SimulatedNetwork
from benchmarks.scenes.residuals import summary
from benchmarks.scenes.scene_run import main, measure, tables
from benchmarks.scenes.score import Tally, found_joints
from benchmarks.scenes.tracks import JOINTS, Track, load_tracks, play
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.people import People, no_people
from stm_skeletons.skeleton import COCO17

STANDING = np.array(
    [
        *((0, 4), (6, 18), (-6, 18), (10, 32), (-10, 32), (11, 45), (-11, 45)),
        *((4, 48), (-4, 48), (5, 70), (-5, 70), (5, 92), (-5, 92)),
    ],
    float,
)
"""The 13 joints of a person 92 pixels high."""


def swaying(frames: int = 40) -> Track:
    """A person who sways and lifts the hands."""
    sway = np.sin(np.arange(frames) / 6)[:, None, None]
    xy = (STANDING - (0, 48)) / 100 + sway * np.linspace(0.1, 0, 13)[:, None] * (1, 0.1)
    return Track(xy, np.ones((frames, 13), bool))


def standing_scene(*middles: tuple[float, float], frames: int = 3) -> Scene:
    """Motionless people 92 pixels high at these positions; the first ones are in front."""
    xy = np.tile((STANDING - (0, 48))[None, None] + np.array(middles)[None, :, None], (frames, 1, 1, 1))
    nothing = np.zeros(xy.shape[:3], bool)
    return Scene(xy, nothing, nothing)


def frames_of(scene: Scene, seed: int = 0) -> list[Frame]:
    random = np.random.default_rng(seed)
    return list(SimulatedNetwork(scene, Donors(load_residuals(), random), random).frames())


def truth(frame: Frame, owner_of: NDArray | None = None) -> People:
    """The true people with one peak per joint; ``owner_of``: owner of the joints that each gets (None: itself)."""
    count = len(frame.centred)
    owners = range(count) if owner_of is None else owner_of
    peaks = np.full((count, 17), -1)
    for person, owner in enumerate(owners):
        joint, peak = np.nonzero(frame.owners[..., 0] == owner)
        peaks[person, joint[::-1]] = peak[::-1]  # the best one if there are several
    score = np.where(peaks >= 0, 1.0, 0)[..., None]
    keypoints = np.concatenate([np.zeros((count, 17, 2)), score], axis=-1).astype(np.float32)
    return People(np.ones(count, np.float32), keypoints, peaks, np.arange(1, count + 1))


def all_reported(people: People) -> NDArray[np.bool_]:
    return np.ones(len(people), bool)


@pytest.fixture(scope="module")
def penn(shared: Path) -> list[Track]:
    return load_tracks(shared / "penn_action_tracks.npz")


def test_real_tracks_are_complete_smooth_and_of_unit_size(penn: list[Track]):
    assert len(penn) > 300
    for track in penn:
        assert np.isfinite(track.xy).all()
        assert np.median(np.linalg.norm(np.ptp(track.xy, axis=1), axis=1)) == pytest.approx(1)
        assert np.linalg.norm(np.diff(track.xy, axis=0), axis=-1).max() <= 0.25


def test_short_track_is_played_forwards_and_backwards_without_jumps():
    track = swaying(30)
    longest = np.linalg.norm(np.diff(track.xy, axis=0), axis=-1).max()
    random = np.random.default_rng(0)
    sides = set()
    for _ in range(10):
        long = play(track, 200, random)
        assert long.xy.shape == (200, 13, 2)
        assert np.linalg.norm(np.diff(long.xy, axis=0), axis=-1).max() <= longest + 1e-9
        sides.add(bool((long.xy[:, 1, 0] > long.xy[:, 2, 0]).all()))
    assert sides == {True}, "a left shoulder stays on the same side of the image when the track is mirrored"


@pytest.mark.parametrize("content", [None, b"not numbers", {"xy": np.zeros((5, 13, 2))}])
def test_invalid_track_files_are_rejected(tmp_path: Path, content: bytes | dict | None):
    path = tmp_path / "tracks.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    with pytest.raises(BenchmarkError, match=r"tracks\.npz"):
        load_tracks(path)


@pytest.mark.parametrize("people", [5, 20])
def test_a_third_of_person_frames_overlap_and_people_stay_inside(penn: list[Track], people: int):
    for seed in range(3):
        scene = compose(penn, people, 150, np.random.default_rng(seed))
        assert scene.xy.shape == (150, people, 13, 2)
        assert (scene.overlaps() >= OVERLAPPING).mean() >= 1 / 3
        assert ((scene.xy >= -1) & (scene.xy <= (WIDTH + 1, HEIGHT + 1))).all(axis=-1).mean() > 0.99
        assert 0.05 < scene.covered.mean() < 0.5
        sizes = scene.sizes().mean(axis=0)
        assert sizes.max() > 1.5 * sizes.min(), "people are near and far"


def test_scene_is_determined_by_its_seed():
    tracks = [swaying(), swaying(60)]
    one, same, other = (compose(tracks, 4, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.xy, same.xy)
    np.testing.assert_array_equal(one.covered, same.covered)
    assert (one.xy != other.xy).any()


def test_people_in_front_cover_people_behind_them():
    scene = compose([swaying()], 2, 60, np.random.default_rng(0))
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    draw_body(image, scene.xy[0, 0])
    x, y = np.floor(scene.xy[0, 1]).astype(int).T
    assert scene.covered[0, 1][image[y, x] > 0].all()
    x, y = np.floor(scene.xy[0, 0]).astype(int).T
    assert image[y[3:5], x[3:5]].all(), "elbows lie inside the person's own outline"


def test_overlaps_and_strays_match_manual_values():
    low, high = np.array([[0, 0], [5, 0], [100, 100]]), np.array([[10, 10], [15, 10], [110, 110]])
    np.testing.assert_allclose(box_overlaps(low, high), [1 / 3, 1 / 3, 0])
    limbs = np.array([[(0, 0), (10, 0)], [(0, 8), (10, 8)]])
    found = stray(np.array([[0, 1], [0, 8]]), np.array([[10, 1], [10, 8], [10, 24]]), limbs)
    np.testing.assert_allclose(found, [[1, 4, 16], [4, 0, 16]], atol=1)
    assert np.isinf(stray(limbs[0], limbs[1], limbs[:0])).all()


def test_simulated_detections_have_the_networks_format():
    scene = standing_scene((100, 130), (220, 120), (340, 140), frames=25)
    for frame in frames_of(scene):
        found = frame.found
        assert found.peaks.shape == (17, 30, 3)
        assert found.edge_scores.shape == (19, 30, 30)
        assert found.previous.shape == (1, 17, 30, 2)
        assert found.centres.shape == (30, 3)
        assert found.centre_joints.shape == (30, 17, 2)
        for array in vars(found).values():
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert (np.diff(found.peaks[..., 2], axis=1) <= 0).all()
        assert (np.diff(found.centres[:, 2]) <= 0).all()
        assert not found.peaks[[i for i in range(17) if i not in JOINTS]].any(), "no eyes and ears"
        assert ((found.peaks[..., 2] > 0) >= (frame.owners[..., 0] >= 0)).all()
        joint, peak = np.nonzero(frame.owners[..., 0] >= 0)
        person = frame.owners[joint, peak, 0]
        place = scene.xy[0, person, [JOINTS.index(j) for j in joint]]
        assert np.median(np.linalg.norm(found.peaks[joint, peak, :2] - place, axis=1)) < 12


def test_simulated_errors_match_measured_errors(penn: list[Track]):
    residuals = load_residuals()
    results = measure(penn, residuals, 5, 60, [0, 1, 2], [("ours", "ours")])
    means = {name: np.mean([scene[name] for scene in results.scenes]) for name in results.scenes[0]}
    assert means["visible joints without a peak"] >= 0.05
    assert means[f"visible joints without a peak of {SURE_PEAK}"] >= 0.1
    assert means[f"false peaks among those of {SURE_PEAK} and more"] >= 0.05
    known = (residuals.seen == 2)[:, None] & ~np.isnan(residuals.peak_score)
    large = known & (residuals.donor_size > 80)[:, None, None]
    measured = (residuals.peak_score[large] < LOWEST_PEAK).mean()
    assert means["visible joints without a peak"] == pytest.approx(measured, abs=0.08)


def test_two_people_at_one_place_share_their_peaks():
    scene = standing_scene((200, 130), (201, 130), frames=30)
    frames = frames_of(scene)
    shared = sum((frame.owners[..., 1] >= 0).sum() for frame in frames)
    assert shared > 30
    tally = Tally()
    for frame in frames:
        tally.add(frame, truth(frame), np.ones(2, bool))
    assert tally.own == tally.found


def test_residuals_are_saved_to_within_their_quantisation_steps(tmp_path: Path):
    residuals = load_residuals()
    save_residuals(residuals, tmp_path / "again.npz")
    again = load_residuals(tmp_path / "again.npz")
    for name, array in vars(residuals).items():
        np.testing.assert_array_equal(array, getattr(again, name))
    changed = replace(residuals, peak_at=residuals.peak_at + 0.001)
    save_residuals(changed, tmp_path / "changed.npz")
    np.testing.assert_allclose(load_residuals(tmp_path / "changed.npz").peak_at, changed.peak_at, atol=0.005)
    assert len(summary(residuals)) == 6


def test_missing_residuals_are_reported(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"none\.npz has no residuals"):
        load_residuals(tmp_path / "none.npz")


def test_true_people_get_a_perfect_score():
    frames = frames_of(standing_scene((100, 130), (220, 120), (340, 140), frames=20))
    tally = Tally()
    for frame in frames:
        tally.add(frame, truth(frame), np.ones(3, bool))
    assert tally.own == tally.own_of_all == tally.found == sum(found_joints(frame).sum() for frame in frames)
    assert tally.switches == tally.other == tally.duplicate == tally.unassigned == tally.false_used == 0
    assert tally.with_id == tally.person_frames > 50


def test_joints_of_unreported_people_are_unassigned():
    (frame, *_) = frames_of(standing_scene((100, 130), (300, 130)))
    tally = Tally()
    tally.add(frame, truth(frame), np.array([True, False]))
    theirs = found_joints(frame).sum(axis=1)
    assert (tally.own, tally.unassigned, tally.own_of_all) == (theirs[0], theirs[1], theirs.sum())
    tally.add(frame, no_people(17), np.zeros(0, bool))
    assert (tally.own, tally.found) == (theirs[0], 2 * theirs.sum())


def test_swapping_a_joint_between_two_people_costs_two():
    (frame, *_) = frames_of(standing_scene((100, 130), (300, 130)))
    people = truth(frame)
    both = np.flatnonzero(found_joints(frame).all(axis=0))
    assert len(both) > 3
    people.peaks[:, both[0]] = people.peaks[::-1, both[0]]
    tally = Tally()
    tally.add(frame, people, np.ones(2, bool))
    assert tally.other == 2
    assert tally.own == tally.found - 2


def test_swapped_and_new_ids_count_as_switches():
    frames = frames_of(standing_scene((100, 130), (300, 130), frames=6))
    tally = Tally()
    for number, frame in enumerate(frames):
        people = truth(frame)
        tally.add(frame, replace(people, ids=people.ids[::-1] if number == 3 else people.ids), all_reported(people))
    assert tally.switches == 4
    tally = Tally()
    for number, frame in enumerate(frames):
        people = truth(frame)
        tally.add(frame, replace(people, ids=people.ids + 2 * (number >= 3)), all_reported(people))
    assert tally.switches == 2


def test_id_resumed_after_a_gap_is_not_a_switch():
    frames = frames_of(standing_scene((100, 130), (300, 130), frames=3))
    tally = Tally()
    for number, frame in enumerate(frames):
        people = truth(frame)
        tally.add(frame, replace(people, ids=people.ids * (number != 1)), all_reported(people))
    assert tally.switches == 0
    assert 0 < tally.with_id < tally.person_frames


@pytest.mark.parametrize("name", [name for name in METHODS if "ByteTrack" not in name[1]])
def test_every_method_assigns_a_peak_to_one_person_only(name: tuple[str, str]):
    method = METHODS[name]()
    for frame in frames_of(standing_scene((100, 130), (150, 130), (300, 130), frames=12)):
        people = method.step(frame.found)
        person, joint = np.nonzero(people.found)
        peaks = list(zip(joint.tolist(), people.peaks[person, joint].tolist(), strict=True))
        assert len(set(peaks)) == len(peaks)
        ids = people.ids[people.ids > 0]
        assert len(set(ids.tolist())) == len(ids)


@pytest.mark.parametrize("method", [Ours(), Ours(memory=False), Ours(speed=False), Ours(memory=False, speed=False)])
def test_people_far_apart_keep_their_ids_with_any_tracking_cue(method: Ours):
    tally = Tally()
    for frame in frames_of(standing_scene((80, 130), (230, 130), (380, 130), frames=60)):
        people = method.step(frame.found)
        tally.add(frame, people, all_reported(people))
    assert tally.switches == 0
    assert tally.own > 0.9 * tally.found


def test_people_are_grouped_by_edges_without_centres():
    scene = standing_scene((80, 130), (230, 130), (380, 130), frames=20)
    shares = []
    for method in (Ours(), Ours(centres=False)):
        tally = Tally()
        for frame in frames_of(scene):
            people = method.step(frame.found)
            tally.add(frame, people, all_reported(people))
        shares.append(tally.own / tally.found)
    assert 0.2 < shares[1] < shares[0]


def test_nearest_neighbour_finds_no_people_without_centres():
    (frame, *_) = frames_of(standing_scene((100, 130)))
    found = replace(frame.found, centres=np.zeros_like(frame.found.centres))
    assert len(nearest(found)) == 0
    assert len(nearest(frame.found)) >= 1
    assert COCO17.joints[JOINTS[0]] == "nose"


def test_the_command_prints_tables_with_seeds(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    penn = str(shared / "penn_action_tracks.npz")
    command = ["scenes", "--penn", penn, "--people", "3", "--seeds", "0", "4", "--frames", "12", "--ours-only"]
    monkeypatch.setattr("sys.argv", command)
    main()
    printed = capsys.readouterr().out
    assert "## Seeds 0, 4; 12 frames each" in printed
    assert "| ours | ours |" in printed
    monkeypatch.setattr("sys.argv", [*command[:2], "nowhere.npz"])
    with pytest.raises(SystemExit, match=r"nowhere\.npz"):
        main()


@pytest.mark.slow
def test_joints_of_people_who_cross_go_to_their_owners_and_ids_last(penn: list[Track]):
    """The targets of docs/benchmarks.md, with a margin for three scenes of their seeds."""
    ours, nearest_place = ("ours", "ours"), ("nearest neighbour", "nearest box")
    tallies = measure(penn, load_residuals(), 5, 300, [10, 11, 12], [ours, nearest_place]).tallies

    def own(name: tuple[str, str]) -> float:
        return sum(tally.own for tally in tallies[name]) / sum(tally.found for tally in tallies[name])

    assert own(ours) > 0.96
    assert own(ours) > own(nearest_place) + 0.05
    person_frames = sum(tally.person_frames for tally in tallies[ours])
    assert sum(tally.switches for tally in tallies[ours]) < 2e-3 * person_frames


def test_tables_give_mean_and_spread(penn: list[Track]):
    results = measure(penn, load_residuals(), 2, 10, [0, 1], [("ours", "ours"), ("nearest neighbour", "nearest box")])
    likeness, found = tables([results], [0, 1], 10)
    assert [row[0] for row in likeness.rows] == list(results.scenes[0])
    assert [row[:2] for row in found.rows] == list(results.tallies)
    for table, words in ((likeness, 1), (found, 2)):
        assert all("±" in cell for row in table.rows for cell in row[words:])
        assert all(len(row) == len(table.header) for row in table.rows)
