from pathlib import Path

import pytest
from group_contract import GroupContract, OpenGroup

from runtime.backends import BackendOptions
from runtime.session import Session
from runtime.session_group import SessionGroup


class TestOnnxRuntime(GroupContract):
    @pytest.fixture
    def open_group(self) -> OpenGroup:
        return lambda bundle, cameras: SessionGroup.open(
            bundle, cameras, BackendOptions("onnxruntime", threads=1), min_score=0.0, min_keypoint_score=0.0
        )


def test_single_camera_with_a_batch_bundle_is_warned_of_the_cost(edge_batch_bundle: Path, caplog):
    with Session.open(edge_batch_bundle):
        pass
    assert "encodes frames of 4 cameras at once, so a single camera takes as long as all" in caplog.text
