import pytest
from hypothesis import given
from hypothesis import strategies as st

from stm_skeletons.memory_policy import readable_slots, write_slot


@given(st.integers(2, 12), st.integers(1, 9), st.integers(0, 200))
def test_readable_slots_are_first_previous_and_latest_of_the_ring(slots, every, length):
    frame_in_slot: dict[int, int] = {}
    for frame in range(length):
        readable = readable_slots(frame, slots, every)
        assert len(readable) == slots
        frames = [frame_in_slot[slot] for slot in range(slots) if readable[slot]]
        ring = list(range(every, frame, every))[-(slots - 2) :] if slots > 2 else []
        expected = {*ring, 0, frame - 1} if frame else set()
        assert set(frames) == expected
        assert len(frames) == len(expected), "no frame is read twice"
        frame_in_slot[write_slot(frame, slots, every)] = frame


@given(st.integers(3, 12), st.integers(1, 9))
def test_ring_slots_are_written_one_after_another(slots, every):
    written = [write_slot(n * every, slots, every) for n in range(1, 3 * slots)]
    assert written == [2 + n % (slots - 2) for n in range(len(written))]


@given(st.integers(2, 12), st.integers(1, 9), st.integers(1, 10_000))
def test_the_first_frame_is_never_overwritten(slots, every, frame):
    assert write_slot(frame, slots, every) != 0


@pytest.mark.parametrize(("frame", "slots", "every"), [(-1, 4, 5), (0, 1, 5), (0, 4, 0)])
def test_invalid_arguments_are_refused(frame, slots, every):
    with pytest.raises(ValueError, match="must be >= 0"):
        write_slot(frame, slots, every)
    with pytest.raises(ValueError, match="must be >= 0"):
        readable_slots(frame, slots, every)
