import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stm_skeletons.errors import FrameError
from stm_skeletons.geometry import PADDING_GREY, Letterbox, check_frame

sides = st.integers(1, 4000)
network = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda size: (32 * size[0], 32 * size[1]))


@given(sides, sides, network, st.lists(st.tuples(st.floats(-100, 5000), st.floats(-100, 5000)), min_size=1))
def test_inverse_is_exact(width, height, network, points):
    letterbox = Letterbox((width, height), network)
    xy = np.array(points)
    np.testing.assert_allclose(letterbox.to_source(letterbox.to_network(xy)), xy, atol=1e-9 * max(width, height, 5000))


@given(sides, sides, network)
def test_frame_is_centred_inside_and_touches_two_sides(width, height, network):
    letterbox = Letterbox((width, height), network)
    left, top, inner_width, inner_height = letterbox.inner
    assert inner_width == network[0] or inner_height == network[1]
    assert abs(network[0] - inner_width - 2 * left) <= 1
    assert abs(network[1] - inner_height - 2 * top) <= 1
    corners = letterbox.to_network(np.array([[0, 0], [width, height]]))
    np.testing.assert_allclose(corners, [[left, top], [left + inner_width, top + inner_height]])


@pytest.mark.parametrize("size", [(768, 576), (576, 768), (100, 60), (448, 256), (1, 1), (3000, 7)])
def test_pixels_and_points_are_mapped_alike(size):
    width, height = size
    frame = np.full((height, width, 3), 10, np.uint8)
    row, column = height * 2 // 3, width // 4
    block = max(1, min(size) // 12)
    frame[row : row + block, column : column + block] = 250
    letterbox = Letterbox(size, (448, 256))
    out = np.zeros((256, 448, 3), np.uint8)
    letterbox.apply(frame, out)
    bright = np.clip(out[..., 0].astype(float) - 10, 0, None)
    left, top, inner_width, inner_height = letterbox.inner
    inside = np.zeros_like(bright, bool)
    inside[top : top + inner_height, left : left + inner_width] = True
    assert (out[~inside] == PADDING_GREY).all()
    bright[~inside] = 0
    if min(size) < 12:
        return
    rows, columns = np.indices(bright.shape) + 0.5
    centre = np.array([(columns * bright).sum(), (rows * bright).sum()]) / bright.sum()
    expected = letterbox.to_network(np.array([column + block / 2, row + block / 2]))
    np.testing.assert_allclose(centre, expected, atol=0.1)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[0, 0, 0]],
        None,
    ],
)
def test_invalid_frames_are_refused(frame):
    with pytest.raises(FrameError):
        check_frame(frame)
