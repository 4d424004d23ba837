import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends import BackendOptions
from runtime.session import Session
from stm_skeletons.errors import BackendError, FrameError, SeedError
from stm_skeletons.memory_policy import readable_slots, write_slot


@pytest.fixture(scope="module")
def session(edge_bundle: Path) -> Iterator[Session]:
    with Session.open(str(edge_bundle), BackendOptions(threads=1), min_score=0.0) as opened:
        yield opened


def noise_image(seed: int, height: int = 96, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_the_shipped_model_finds_people_on_a_real_frame(clip: Path):
    capture = cv2.VideoCapture(str(clip))
    _, image = capture.read()
    with Session.open("edge") as session:
        parts = session.step(np.asarray(image, np.uint8))
    assert parts.size == (768, 576)
    names = [parts.skeleton.joints[kind] for kind in parts.keypoint_types]
    assert names.count("left_shoulder") >= 3
    assert (parts.keypoints >= 0).all()
    assert (parts.keypoints <= (768, 576)).all()


@pytest.mark.parametrize(("model", "length"), [("small", 600), pytest.param("edge", 2500, marks=pytest.mark.soak)])
def test_buffers_stay_where_they_are_and_memory_and_time_stay_flat(
    model: str, length: int, edge_bundle: Path, clip: Path
):
    """A session's time is compared with that of a new one, interleaved: a machine may slow down by half in a minute."""
    capture = cv2.VideoCapture(str(clip))
    frames = [np.asarray(capture.read()[1], np.uint8) for _ in range(50)]
    bundle, resident = "edge" if model == "edge" else str(edge_bundle), {}

    def seconds(session: Session, image: np.ndarray) -> float:
        started = time.perf_counter()
        session.step(image)
        return time.perf_counter() - started

    with Session.open(bundle) as old:
        old.step(frames[0])
        addresses = old.addresses()
        for number in range(1, length + 1):
            old.step(frames[number % len(frames)])
            if number == length // 2:
                assert old.addresses() == addresses
            if number in (200, length):
                resident[number] = resident_bytes()
        with Session.open(bundle) as new:
            images = [frames[number % len(frames)] for number in range(50 + length // 5)]
            times = np.array([(seconds(old, image), seconds(new, image)) for image in images])[50:]
        assert old.addresses() == addresses
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    print(
        f"resident {resident[200] / 1e6:.1f} MB at frame 200, {resident[length] / 1e6:.1f} MB at frame {length}; "
        f"a frame takes {ratio:.3f} of its time in a new session"
    )
    assert resident[length] == pytest.approx(resident[200], rel=0.01)
    assert ratio < 1.15


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 25), st.integers(0, 100))
def test_session_follows_the_memory_policy(session: Session, length: int, seed: int):
    """Every step reads and writes the slots that the policy names, and nothing else touches the bank."""
    session.reset()
    backend = session._group._backend
    assert backend is not None
    calls: list[tuple] = []
    detect, memorise, results = backend.detect, backend.memorise, backend.results
    backend.detect = lambda valid: (calls.append(("read", valid)), detect(valid))[1]  # type: ignore[method-assign]
    backend.memorise = lambda slots: (calls.append(("write", slots)), memorise(slots))[1]  # type: ignore[method-assign]
    backend.results = lambda camera: (calls.append(("wait", camera)), results(camera))[1]  # type: ignore[method-assign]
    try:
        for number in range(length):
            session.step(noise_image(seed + number))
    finally:
        del backend.detect, backend.memorise, backend.results
    expected = []
    for number in range(length):
        # Waiting comes last: a GPU memorises while the host goes on.
        read, write = {0: readable_slots(number, 4, 3)}, {0: write_slot(number, 4, 3)}
        expected += [("read", read), ("write", write), ("wait", 0)]
    assert calls == expected


def test_frame_letterboxed_ahead_gives_the_same_result(edge_bundle: Path):
    """Also with another size, without a next frame, and with another frame than announced."""
    sizes = [(96, 160), (96, 160), (480, 640), (1080, 1920), (31, 17), (96, 160), (96, 160)]
    images = [noise_image(seed, *size) for seed, size in enumerate(sizes)]
    announced = {1: images[2], 2: images[3], 3: None, 4: images[0]}
    with Session.open(edge_bundle, min_score=0.0) as plain, Session.open(edge_bundle, min_score=0.0) as ahead:
        for number, image in enumerate(images):
            found = ahead.step(image, lambda number=number: announced.get(number))
            expected = plain.step(image)
            np.testing.assert_array_equal(ahead.maps(), plain.maps())
            np.testing.assert_array_equal(found.keypoints, expected.keypoints)
            assert found.size == expected.size == image.shape[1::-1]


def test_next_frame_is_requested_once_this_one_is_queued(session: Session):
    """That is, while a GPU works on it."""
    session.reset()
    backend = session._group._backend
    assert backend is not None
    calls: list[str] = []
    memorise, results = backend.memorise, backend.results
    backend.memorise = lambda slots: (calls.append("memorise"), memorise(slots))[1]  # type: ignore[method-assign]
    backend.results = lambda camera: (calls.append("results"), results(camera))[1]  # type: ignore[method-assign]
    try:
        session.step(noise_image(0), lambda: calls.append("coming"))
    finally:
        del backend.memorise, backend.results
    assert calls == ["memorise", "coming", "results"]


def test_runs_repeat_bit_for_bit_after_a_reset(session: Session):
    def run() -> list[np.ndarray]:
        session.reset()
        results = []
        for seed in range(8):
            session.step(noise_image(seed))
            results.append(session.maps())
        return results

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_parts_stay_correct_when_the_frame_size_changes():
    """The same scene at twice the size gives the same parts at twice the coordinates."""
    clip = Path(__file__).parents[2] / "examples" / "vtest-10s.avi"
    capture = cv2.VideoCapture(str(clip))
    frames = [np.asarray(capture.read()[1], np.uint8) for _ in range(3)]
    large = np.asarray(cv2.resize(frames[2], (1536, 1152), interpolation=cv2.INTER_NEAREST), np.uint8)
    with Session.open("edge") as session:
        expected = [session.step(frame) for frame in frames][-1]
        session.reset()
        session.step(frames[0])
        session.step(frames[1])
        found = session.step(large)
    assert found.size == (1536, 1152)
    assert len(found.keypoints) > 20
    # Different filters scale the two down, so a weak keypoint may come or go.
    matched = [np.abs(expected.keypoints - point / 2).max(axis=1).min() < 3 for point in found.keypoints]
    assert np.mean(matched) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (5, 2000), (2000, 5), (96, 160), (97, 33)])
def test_frames_of_any_size_are_accepted(session: Session, size: tuple[int, int]):
    parts = session.step(noise_image(0, *size))
    assert parts.size == (size[1], size[0])


def test_invalid_frame_is_refused_and_changes_nothing(session: Session):
    session.reset()
    session.step(noise_image(0))
    with pytest.raises(FrameError, match=r"uint8 \[height, width, 3\]"):
        session.step(np.zeros((4, 4), np.uint8))
    session.step(noise_image(1))
    after = session.maps()
    session.reset()
    session.step(noise_image(0))
    session.step(noise_image(1))
    np.testing.assert_array_equal(session.maps(), after)


def test_black_white_and_noise_give_finite_maps(session: Session):
    for frame in (np.zeros((96, 160, 3), np.uint8), np.full((96, 160, 3), 255, np.uint8), noise_image(3)):
        session.step(frame)
        assert np.isfinite(session.maps()).all()


def poses(*people: tuple[float, float]) -> np.ndarray:
    return np.array([[(x + i, y + 2 * i, 2) for i in range(17)] for x, y in people], float)


def test_seed_is_memorised_and_matters(session: Session):
    def maps_after(seed: np.ndarray | None) -> np.ndarray:
        session.reset()
        if seed is not None:
            session.seed(seed)
        session.step(noise_image(0))
        session.step(noise_image(1))
        return session.maps()

    unseeded, one, other = maps_after(None), maps_after(poses((20, 20))), maps_after(poses((100, 40)))
    assert np.abs(unseeded - one).max() > 1e-4
    assert np.abs(one - other).max() > 1e-4
    np.testing.assert_array_equal(maps_after(poses((20, 20))), one)


def test_seeding_resets_the_memory(session: Session):
    session.reset()
    for seed in range(5):
        session.step(noise_image(seed))
    session.seed(poses((20, 20)))
    session.step(noise_image(0))
    late = session.maps()
    session.reset()
    session.seed(poses((20, 20)))
    session.step(noise_image(0))
    np.testing.assert_array_equal(session.maps(), late)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 15, 3)), "shape"),
        (np.zeros((17, 3)), "shape"),
        (np.zeros((0, 17, 3)), "no person"),
        (np.zeros((2, 17, 3)), "no person"),
        (np.full((1, 17, 3), np.nan), "non-finite"),
        (np.full((1, 17, 3), 1e30), "out-of-range"),
    ],
)
def test_bad_seeds_are_refused(session: Session, array: np.ndarray, message: str):
    with pytest.raises(SeedError, match=message):
        session.seed(array)


def test_closed_session_raises_an_error(edge_bundle: Path):
    session = Session.open(str(edge_bundle))
    with session:
        session.step(noise_image(0))
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.step(noise_image(0))


def test_two_sessions_do_not_disturb_each_other(edge_bundle: Path):
    with (
        Session.open(str(edge_bundle), BackendOptions(threads=1)) as one,
        Session.open(str(edge_bundle), BackendOptions(threads=1)) as two,
    ):
        one.step(noise_image(0))
        for seed in range(5):
            two.step(noise_image(seed))
        one.step(noise_image(1))
        after = one.maps()
    with Session.open(str(edge_bundle), BackendOptions(threads=1)) as alone:
        alone.step(noise_image(0))
        alone.step(noise_image(1))
        np.testing.assert_array_equal(alone.maps(), after)
