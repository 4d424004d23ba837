from collections.abc import Iterator

import numpy as np
import pytest

from runtime.frames import Frame
from runtime.prefetch import Prefetch
from stm_skeletons.errors import SourceError


def frames(count: int, breaks: bool = False) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(number, number / 25, np.full((2, 3, 3), number, np.uint8))
    if breaks:
        raise SourceError("broken")


@pytest.mark.parametrize("fetched", [(), (0, 1, 2, 3, 4), (1, 3), (4,)])
def test_fetching_changes_nothing_of_what_comes(fetched: tuple[int, ...]):
    found = []
    source = Prefetch(frames(5))
    for frame in source:
        found.append(frame.number)
        if frame.number in fetched:
            image = source.fetch_image()
            assert image is source.fetch_image(), "once"
            assert image is None if frame.number == 4 else image is not None and image[0, 0, 0] == frame.number + 1
    assert found == [0, 1, 2, 3, 4]


def test_an_error_comes_in_its_turn():
    source = Prefetch(frames(2, breaks=True))
    assert next(source).number == 0
    assert source.fetch_image() is not None
    assert next(source).number == 1
    assert source.fetch_image() is None
    assert source.fetch_image() is None
    with pytest.raises(SourceError, match="broken"):
        next(source)
