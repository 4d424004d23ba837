"""What every backend must do. A test class that inherits from this one gives the fixture ``backend``: a backend that
holds a small edge bundle, 160x96 with 4 slots, 8 peaks a joint and random weights."""

import cv2
import numpy as np

from runtime.backends.base import Backend


def picture(seed: int) -> np.ndarray:
    """Blobs of colour, others for every seed; pure noise would look alike to any network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 96), interpolation=cv2.INTER_CUBIC), np.uint8)


def look(backend: Backend, seed: int, valid: tuple[bool, ...]) -> np.ndarray:
    backend.frame[:] = picture(seed)
    backend.detect(valid)
    backend.results()
    return backend.read_maps()


NONE, FIRST, SECOND = (False,) * 4, (True, False, False, False), (False, True, False, False)


class BackendContract:
    """Tests; the fixture ``backend`` comes from the class that inherits."""

    def test_outputs_have_the_bundles_shapes(self, backend: Backend):
        backend.frame[:] = picture(0)
        backend.detect(NONE)
        peaks, edge_scores = backend.results()
        assert peaks.shape == (17, 8, 3)
        assert edge_scores.shape == (19, 8, 8)
        assert backend.read_maps().shape == (37, 24, 40)
        assert np.isfinite(peaks).all()
        assert (np.diff(peaks[..., 2], axis=1) <= 0).all(), "best first"

    def test_a_slot_holds_what_was_written_into_it(self, backend: Backend):
        look(backend, 0, NONE)
        backend.memorise(0)
        look(backend, 1, NONE)
        backend.memorise(1)
        with_first, with_second = look(backend, 2, FIRST), look(backend, 2, SECOND)
        assert np.abs(with_first - with_second).max() > 1e-3
        # The same frame written into the other slot reads the same.
        look(backend, 0, NONE)
        backend.memorise(1)
        np.testing.assert_allclose(look(backend, 2, SECOND), with_first, atol=1e-5)
        np.testing.assert_allclose(look(backend, 2, FIRST), with_first, atol=1e-5)

    def test_a_slot_can_be_read_back(self, backend: Backend):
        look(backend, 0, NONE)
        backend.memorise(2)
        key, value = backend.read_slot(2)
        assert (key.shape, value.shape) == ((60, 64), (60, 128))
        assert key.any()
        assert value.any()
        assert not backend.read_slot(1)[0].any()
        look(backend, 1, NONE)
        backend.memorise(2)
        assert (backend.read_slot(2)[0] != key).any(), "what was given is a copy"

    def test_writing_a_slot_changes_no_other(self, backend: Backend):
        look(backend, 0, NONE)
        for slot in range(4):
            backend.memorise(slot)
        before = look(backend, 2, (True, True, False, True))
        look(backend, 1, NONE)
        backend.memorise(2)
        np.testing.assert_array_equal(look(backend, 2, (True, True, False, True)), before)

    def test_given_maps_are_memorised_instead_of_decoded_ones(self, backend: Backend):
        decoded = look(backend, 0, NONE)
        backend.memorise(0)
        with_decoded = look(backend, 1, FIRST)
        backend.frame[:] = picture(0)
        backend.detect(NONE)
        given = np.random.default_rng(0).random(decoded.shape, np.float32)
        backend.write_maps(given)
        np.testing.assert_array_equal(backend.read_maps(), given)
        backend.memorise(0)
        assert np.abs(look(backend, 1, FIRST) - with_decoded).max() > 1e-3

    def test_addresses_never_change_and_bank_slots_are_aligned(self, backend: Backend):
        before = backend.addresses()
        for seed in range(10):
            look(backend, seed, FIRST)
            backend.memorise(seed % 4)
        assert backend.addresses() == before
        assert before["memory_keys"] % 256 == 0
        assert before["memory_values"] % 256 == 0

    def test_closing_twice_is_fine(self, backend: Backend):
        backend.close()
        backend.close()
