import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.frames import Frame
from runtime.read_ahead import ReadAhead
from stm_skeletons.errors import SourceError


def frames(count: int, fails: bool = False) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(number, number / 25, np.full((2, 3, 3), number, np.uint8))
    if fails:
        raise SourceError("broken")


@pytest.mark.parametrize("fetched", [(), (0, 1, 2, 3, 4), (1, 3), (4,)])
def test_fetching_images_does_not_change_the_frames(fetched: tuple[int, ...]):
    found = []
    with ReadAhead(frames(5)) as source:
        for frame in source:
            found.append(frame.number)
            if frame.number in fetched:
                image = source.fetch_image()
                assert image is source.fetch_image(), "fetched once"
                assert image is None if frame.number == 4 else image is not None and image[0, 0, 0] == frame.number + 1
    assert found == [0, 1, 2, 3, 4]


def test_error_is_raised_after_the_frames_before_it():
    with ReadAhead(frames(2, fails=True)) as source:
        assert next(source).number == 0
        assert source.fetch_image() is not None
        assert next(source).number == 1
        assert source.fetch_image() is None
        assert source.fetch_image() is None
        with pytest.raises(SourceError, match="broken"):
            next(source)


def test_reader_is_at_most_two_frames_ahead():
    read = []

    def recorded() -> Iterator[Frame]:
        for frame in frames(100):
            read.append(frame.number)
            yield frame

    with ReadAhead(recorded()) as source:
        assert next(source).number == 0
        deadline = time.monotonic() + 5
        while len(read) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert read == [0, 1, 2], "1 is ready, 2 waits to replace it"
    assert not any(thread.name == "reads ahead" for thread in threading.enumerate())


def test_hanging_reader_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.read_ahead._PATIENCE", 0.05)
    release = threading.Event()

    def hanging() -> Iterator[Frame]:
        yield from frames(1)
        release.wait(20)

    started = time.monotonic()
    with ReadAhead(hanging()) as source:
        assert next(source).number == 0
    assert time.monotonic() - started < 5
    release.set()
