"""Stages of a frame: recorded when asked, the same parts either way, nothing kept from frame to frame."""

import time
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import BackendOptions
from runtime.session import Session
from runtime.stages import STAGES, RecordedStages, Stages
from stm_skeletons.errors import BackendError


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 160, 3), np.uint8)


def test_the_stages_of_a_frame_are_parts_of_it(edge_bundle: Path):
    stages = RecordedStages()
    with Session.open(edge_bundle, BackendOptions(threads=1)) as session:
        session.record(stages)
        for seed in range(5):
            started = time.perf_counter()
            session.step(picture(seed))
            milliseconds = 1e3 * (time.perf_counter() - started)
            assert tuple(stages.milliseconds) == STAGES
            assert stages.milliseconds["query_encoder"] > 0
            assert stages.milliseconds["memory_encoder"] > 0
            assert sum(stages.milliseconds.values()) <= milliseconds, "nothing is kept from frame to frame"


def test_recording_changes_no_parts_and_ends_when_asked(edge_bundle: Path):
    stages = RecordedStages()
    with (
        Session.open(edge_bundle, BackendOptions(threads=1)) as one,
        Session.open(edge_bundle, BackendOptions(threads=1)) as other,
    ):
        one.record(stages)
        for seed in range(4):
            found, wanted = one.step(picture(seed)), other.step(picture(seed))
            np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
        before = dict(stages.milliseconds)
        one.record(Stages())
        one.step(picture(9))
        assert stages.milliseconds == before


def test_an_unknown_stage_and_a_closed_session_are_refused(edge_bundle: Path):
    with pytest.raises(KeyError):
        RecordedStages().done("lunch")
    session = Session.open(edge_bundle)
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.record(Stages())
