"""Tests that every backend must pass.

A subclass provides the fixture ``backend``: a backend with a small edge bundle, 160x96 with 4 slots, 8 peaks per joint,
30 centres and random weights.
"""

import copy

import cv2
import numpy as np

from runtime.backends.base import Backend
from stm_skeletons.detections import Detections


def picture(seed: int) -> np.ndarray:
    """Return blobs of colour, different for every seed; to a network, all noise looks alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 96), interpolation=cv2.INTER_CUBIC), np.uint8)


def look(backend: Backend, seed: int, valid: tuple[bool, ...]) -> np.ndarray:
    detect(backend, picture(seed), valid)
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
STILL = 1e-3
"""Network pixels; larger than any movement by rounding."""


class BackendContract:
    """The tests; the fixture ``backend`` comes from the subclass."""

    def test_outputs_have_the_bundles_shapes(self, backend: Backend):
        found = detect(backend, picture(0), NONE)
        arrays = vars(found)
        assert {name: array.shape for name, array in arrays.items()} == SHAPES
        assert backend.read_maps(0).shape == (37, 24, 40)
        for name, array in arrays.items():
            assert array.dtype == np.float32, name
            assert np.isfinite(array).all(), name
            assert array.any(), name
        for name, best_first in (("peaks", found.peaks), ("centres", found.centres[None])):
            assert (np.diff(best_first[..., 2], axis=1) <= 0).all(), name

    def test_results_are_those_of_the_latest_frame_in_arrays_that_stay(self, backend: Backend):
        first = detect(backend, picture(0), NONE)
        places = {name: array.ctypes.data for name, array in vars(backend.results(0)).items()}
        second = detect(backend, picture(1), NONE)
        for name, array in vars(backend.results(0)).items():
            assert array.ctypes.data == places[name], name
            assert (array != getattr(first, name)).any(), name
            np.testing.assert_array_equal(array, getattr(second, name))
        again = detect(backend, picture(0), NONE)
        for name, array in vars(again).items():
            np.testing.assert_array_equal(array, getattr(first, name))
        np.testing.assert_array_equal(backend.frame(0), picture(0), "it can be looked at when the results are there")

    def test_a_peak_was_where_it_is_now_for_slots_that_cannot_be_read(self, backend: Backend):
        for slot, seed in enumerate((0, 1, 2, 3)):
            look(backend, seed, NONE)
            backend.memorise({0: slot})
        for valid in (NONE, SECOND):
            found = detect(backend, picture(4), valid)
            for slot in range(4):
                moved = np.abs(found.previous[slot] - found.peaks[..., :2]).max()
                assert (moved > 1) if valid[slot] else (moved <= STILL), (valid, slot)

    def test_previous_places_are_those_in_the_slots_own_picture(self, backend: Backend):
        """Each slot has the same image, shifted left or right by a token: even random features are mostly found
        again."""
        wide = np.pad(picture(2), ((0, 0), (16, 16), (0, 0)), mode="reflect")
        now = wide[:, 16:-16]
        for slot, then in enumerate((wide[:, 32:], wide[:, :-32], now)):
            detect(backend, then, NONE)
            backend.memorise({0: slot})
        found = detect(backend, now, (True, True, True, False))
        moved_x, moved_y = np.median(found.previous - found.peaks[..., :2], axis=(1, 2)).T
        np.testing.assert_allclose(moved_x[:2], [-16, 16], atol=10)
        np.testing.assert_allclose(moved_x[2:], 0, atol=1)
        np.testing.assert_allclose(moved_y, 0, atol=1)

    def test_a_slot_holds_what_was_written_into_it(self, backend: Backend):
        look(backend, 0, NONE)
        backend.memorise({0: 0})
        look(backend, 1, NONE)
        backend.memorise({0: 1})
        with_first, with_second = look(backend, 2, FIRST), look(backend, 2, SECOND)
        assert np.abs(with_first - with_second).max() > 1e-3
        # The same frame written into the other slot reads the same.
        look(backend, 0, NONE)
        backend.memorise({0: 1})
        np.testing.assert_allclose(look(backend, 2, SECOND), with_first, atol=1e-5)
        np.testing.assert_allclose(look(backend, 2, FIRST), with_first, atol=1e-5)

    def test_a_slot_can_be_read_back(self, backend: Backend):
        look(backend, 0, NONE)
        backend.memorise({0: 2})
        key, value = backend.read_slot(0, 2)
        assert (key.shape, value.shape) == ((60, 64), (60, 96))
        assert key.any()
        assert value.any()
        assert not backend.read_slot(0, 1)[0].any()
        look(backend, 1, NONE)
        backend.memorise({0: 2})
        assert (backend.read_slot(0, 2)[0] != key).any(), "what was given is a copy"

    def test_writing_a_slot_changes_no_other(self, backend: Backend):
        look(backend, 0, NONE)
        for slot in range(4):
            backend.memorise({0: slot})
        before = look(backend, 2, (True, True, False, True))
        look(backend, 1, NONE)
        backend.memorise({0: 2})
        np.testing.assert_array_equal(look(backend, 2, (True, True, False, True)), before)

    def test_given_maps_are_memorised_instead_of_decoded_ones(self, backend: Backend):
        decoded = look(backend, 0, NONE)
        backend.memorise({0: 0})
        with_decoded = look(backend, 1, FIRST)
        backend.frame(0)[:] = picture(0)
        backend.detect({0: NONE})
        given = np.random.default_rng(0).random(decoded.shape, np.float32)
        backend.write_maps(0, given)
        np.testing.assert_array_equal(backend.read_maps(0), given)
        backend.memorise({0: 0})
        assert np.abs(look(backend, 1, FIRST) - with_decoded).max() > 1e-3

    def test_addresses_never_change_and_bank_slots_are_aligned(self, backend: Backend):
        before = backend.addresses()
        for seed in range(10):
            look(backend, seed, FIRST)
            backend.memorise({0: seed % 4})
        assert backend.addresses() == before
        assert before["memory_keys/0"] % 256 == 0
        assert before["memory_values/0"] % 256 == 0

    def test_closing_twice_is_fine(self, backend: Backend):
        backend.close()
        backend.close()
