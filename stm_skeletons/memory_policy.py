"""Which slot a frame is memorised in, and which slots it may read: pure functions of the frame number.

Slot 0 keeps the first frame, slot 1 holds the previous frame, slots 2 .. T-1 are a ring that takes every ``every``-th
frame. A frame for the ring goes there *instead of* into slot 1, because it also serves as the previous frame. So every
frame is memorised once and nothing is copied. Slot 1 is then one frame too old and is not read. The memory is therefore
always the set that STM reads: the first frame, every n-th frame and the previous frame, each once.
"""


def write_slot(frame: int, slots: int, every: int) -> int:
    """Return the slot that frame number ``frame`` (from 0) is memorised in."""
    _check(frame, slots, every)
    if frame == 0:
        return 0
    if slots > 2 and frame % every == 0:
        return 2 + (frame // every - 1) % (slots - 2)
    return 1


def readable_slots(frame: int, slots: int, every: int) -> tuple[bool, ...]:
    """Return for each slot whether frame number ``frame`` may read it; all False for frame 0."""
    _check(frame, slots, every)
    if frame == 0:
        return (False,) * slots
    ring_writes = (frame - 1) // every if slots > 2 else 0
    previous_in_slot_1 = write_slot(frame - 1, slots, every) == 1
    return (True, previous_in_slot_1, *(i < ring_writes for i in range(slots - 2)))


def newest_slot(frame: int, slots: int, every: int) -> int:
    """Return the slot of the frame before number ``frame``; for frame 0 it is slot 0, which may not be read yet."""
    return write_slot(max(frame - 1, 0), slots, every)


def _check(frame: int, slots: int, every: int) -> None:
    if frame < 0 or slots < 2 or every < 1:
        raise ValueError(f"frame {frame} must be >= 0, slots {slots} >= 2 and every {every} >= 1")
