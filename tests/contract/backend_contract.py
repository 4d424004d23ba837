"""Tests that every backend must pass.

A subclass provides the fixture ``backend``: a backend with a small edge bundle, 160x96 with 4 slots, 8 peaks per joint,
30 centres and random weights.
"""

import copy

import cv2
import numpy as np

from runtime.backends.base import Backend
from stm_skeletons.detections import Detections


def make_image(seed: int) -> np.ndarray:
    """Return blobs of colour, different for every seed; noise would look alike to a network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 96), interpolation=cv2.INTER_CUBIC), np.uint8)


def detect_maps(backend: Backend, seed: int, valid: tuple[bool, ...]) -> np.ndarray:
    detect(backend, make_image(seed), valid)
    return backend.read_maps(0)


def detect(backend: Backend, frame: np.ndarray, valid: tuple[bool, ...]) -> Detections:
    """Return a copy of the detections in a frame."""
    backend.frame(0)[:] = frame
    backend.detect({0: valid})
    return copy.deepcopy(backend.results(0))


NONE, FIRST, SECOND = (False,) * 4, (True, False, False, False), (False, True, False, False)
SHAPES = {
    "peaks": (17, 8, 3),
    "edge_scores": (19, 8, 8),
    "previous": (4, 17, 8, 2),
    "centres": (30, 3),
    "centre_joints": (30, 17, 2),
}
MAX_ROUNDING = 1e-3
"""Network pixels; larger than any movement by rounding."""


class BackendContract:
    """The tests; the fixture ``backend`` comes from the subclass."""

    def test_outputs_have_the_bundles_shapes(self, backend: Backend):
        found = detect(backend, make_image(0), NONE)
        arrays = vars(found)
        assert {name: array.shape for name, array in arrays.items()} == SHAPES
        assert backend.read_maps(0).shape == (37, 24, 40)
        for name, array in arrays.items():
            assert array.dtype == np.float32, name
            assert np.isfinite(array).all(), name
            assert array.any(), name
        for name, best_first in (("peaks", found.peaks), ("centres", found.centres[None])):
            assert (np.diff(best_first[..., 2], axis=1) <= 0).all(), name

    def test_results_are_of_the_latest_frame_and_in_the_same_arrays(self, backend: Backend):
        first = detect(backend, make_image(0), NONE)
        addresses = {name: array.ctypes.data for name, array in vars(backend.results(0)).items()}
        second = detect(backend, make_image(1), NONE)
        for name, array in vars(backend.results(0)).items():
            assert array.ctypes.data == addresses[name], name
            assert (array != getattr(first, name)).any(), name
            np.testing.assert_array_equal(array, getattr(second, name))
        again = detect(backend, make_image(0), NONE)
        for name, array in vars(again).items():
            np.testing.assert_array_equal(array, getattr(first, name))
        np.testing.assert_array_equal(backend.frame(0), make_image(0), "the frame can be read after the results")

    def test_previous_positions_equal_current_ones_for_unreadable_slots(self, backend: Backend):
        for slot, seed in enumerate((0, 1, 2, 3)):
            detect_maps(backend, seed, NONE)
            backend.memorise({0: slot})
        for valid in (NONE, SECOND):
            found = detect(backend, make_image(4), valid)
            for slot in range(4):
                moved = np.abs(found.previous[slot] - found.peaks[..., :2]).max()
                assert (moved > 1) if valid[slot] else (moved <= MAX_ROUNDING), (valid, slot)

    def test_previous_positions_refer_to_the_slots_own_image(self, backend: Backend):
        """Each slot has the same image, shifted left or right by a token: even random features mostly match."""
        wide = np.pad(make_image(2), ((0, 0), (16, 16), (0, 0)), mode="reflect")
        now = wide[:, 16:-16]
        for slot, then in enumerate((wide[:, 32:], wide[:, :-32], now)):
            detect(backend, then, NONE)
            backend.memorise({0: slot})
        found = detect(backend, now, (True, True, True, False))
        moved_x, moved_y = np.median(found.previous - found.peaks[..., :2], axis=(1, 2)).T
        np.testing.assert_allclose(moved_x[:2], [-16, 16], atol=10)
        np.testing.assert_allclose(moved_x[2:], 0, atol=1)
        np.testing.assert_allclose(moved_y, 0, atol=1)

    def test_slot_keeps_the_memorised_frame(self, backend: Backend):
        detect_maps(backend, 0, NONE)
        backend.memorise({0: 0})
        detect_maps(backend, 1, NONE)
        backend.memorise({0: 1})
        with_first, with_second = detect_maps(backend, 2, FIRST), detect_maps(backend, 2, SECOND)
        assert np.abs(with_first - with_second).max() > 1e-3
        # The same frame written into the other slot reads the same.
        detect_maps(backend, 0, NONE)
        backend.memorise({0: 1})
        np.testing.assert_allclose(detect_maps(backend, 2, SECOND), with_first, atol=1e-5)
        np.testing.assert_allclose(detect_maps(backend, 2, FIRST), with_first, atol=1e-5)

    def test_a_slot_can_be_read_back(self, backend: Backend):
        detect_maps(backend, 0, NONE)
        backend.memorise({0: 2})
        key, value = backend.read_slot(0, 2)
        assert (key.shape, value.shape) == ((60, 64), (60, 96))
        assert key.any()
        assert value.any()
        assert not backend.read_slot(0, 1)[0].any()
        detect_maps(backend, 1, NONE)
        backend.memorise({0: 2})
        assert (backend.read_slot(0, 2)[0] != key).any(), "the first read returned a copy"

    def test_memorising_changes_one_slot_only(self, backend: Backend):
        detect_maps(backend, 0, NONE)
        for slot in range(4):
            backend.memorise({0: slot})
        before = detect_maps(backend, 2, (True, True, False, True))
        detect_maps(backend, 1, NONE)
        backend.memorise({0: 2})
        np.testing.assert_array_equal(detect_maps(backend, 2, (True, True, False, True)), before)

    def test_written_maps_are_memorised_instead_of_decoded_ones(self, backend: Backend):
        decoded = detect_maps(backend, 0, NONE)
        backend.memorise({0: 0})
        with_decoded = detect_maps(backend, 1, FIRST)
        backend.frame(0)[:] = make_image(0)
        backend.detect({0: NONE})
        given = np.random.default_rng(0).random(decoded.shape, np.float32)
        backend.write_maps(0, given)
        np.testing.assert_array_equal(backend.read_maps(0), given)
        backend.memorise({0: 0})
        assert np.abs(detect_maps(backend, 1, FIRST) - with_decoded).max() > 1e-3

    def test_addresses_never_change_and_bank_slots_are_aligned(self, backend: Backend):
        before = backend.addresses()
        for seed in range(10):
            detect_maps(backend, seed, FIRST)
            backend.memorise({0: seed % 4})
        assert backend.addresses() == before
        assert before["memory_keys/0"] % 256 == 0
        assert before["memory_values/0"] % 256 == 0

    def test_closing_twice_is_harmless(self, backend: Backend):
        backend.close()
        backend.close()
