"""Stages of a frame: recorded on request, no effect on parts, nothing kept from frame to frame."""

import time
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import BackendOptions
from runtime.session import Session
from runtime.stages import STAGES, RecordedStages, Stages
from stm_skeletons.errors import BackendError


def noise_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 160, 3), np.uint8)


def test_stages_together_take_no_longer_than_the_frame(edge_bundle: Path):
    stages = RecordedStages()
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        session.record(stages)
        for seed in range(5):
            started = time.perf_counter()
            session.step(noise_image(seed))
            milliseconds = 1e3 * (time.perf_counter() - started)
            assert tuple(stages.milliseconds) == STAGES
            assert stages.milliseconds["query_encoder"] > 0
            assert stages.milliseconds["memory_encoder"] > 0
            assert sum(stages.milliseconds.values()) <= milliseconds, "nothing is kept from frame to frame"


def test_recording_changes_no_parts_and_ends_on_request(edge_bundle: Path):
    stages = RecordedStages()
    with (
        Session.open(edge_bundle, BackendOptions(threads=1)) as one,
        Session.open(edge_bundle, BackendOptions(threads=1)) as other,
    ):
        one.record(stages)
        for seed in range(4):
            found, expected = one.step(noise_image(seed)), other.step(noise_image(seed))
            np.testing.assert_array_equal(found.keypoints, expected.keypoints)
        before = dict(stages.milliseconds)
        one.record(Stages())
        one.step(noise_image(9))
        assert stages.milliseconds == before


def test_unknown_stage_and_closed_session_are_refused(edge_bundle: Path):
    with pytest.raises(KeyError):
        RecordedStages().done("lunch")
    session = Session.open(edge_bundle)
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.record(Stages())
