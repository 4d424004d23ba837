import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from backend_contract import BackendContract
from group_contract import GroupContract, OpenGroup

from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.session import Session
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError

pytest.importorskip("openvino")

OPTIONS = BackendOptions("openvino", threads=1)


class TestOpenVino(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(Bundle.open(edge_bundle), OPTIONS)
        yield opened
        opened.close()


class TestGroups(GroupContract):
    exact = False

    @pytest.fixture
    def open_group(self) -> OpenGroup:
        return lambda bundle, cameras: SessionGroup.open(
            bundle, cameras, OPTIONS, min_score=0.0, min_keypoint_score=0.0
        )


def test_parts_are_those_of_onnx_runtime(clip: Path):
    """The shipped model on real frames, each on its own memory."""
    capture = cv2.VideoCapture(str(clip))
    with Session.open("edge", OPTIONS) as ours, Session.open("edge", BackendOptions(threads=1)) as theirs:
        for _ in range(15):
            frame = np.asarray(capture.read()[1], np.uint8)
            found, wanted = ours.step(frame), theirs.step(frame)
            np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=1e-3)
            np.testing.assert_array_equal(found.keypoint_types, wanted.keypoint_types)
            np.testing.assert_allclose(found.keypoints, wanted.keypoints, atol=0.1)
            np.testing.assert_array_equal(found.people.ids, wanted.people.ids)


def test_a_second_start_compiles_nothing_and_a_damaged_cache_does_no_harm(
    edge_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "stm-skeletons" / "openvino"
    Session.open(edge_bundle, OPTIONS).close()
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(written) == 3
    Session.open(edge_bundle, OPTIONS).close()
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    for file in written:
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:500])
    with Session.open(edge_bundle, OPTIONS) as session:
        session.step(np.zeros((96, 160, 3), np.uint8))
        assert session.maps().any()


def test_what_it_cannot_run_is_one_line(edge_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = Bundle.open(edge_bundle)
    half = Bundle(bundle.folder, bundle.info.model_copy(update={"precision": "fp16"}))
    with pytest.raises(BackendError, match="is in FP16, which is for GPUs: export with --precision fp32"):
        open_backend(half, OPTIONS)
    broken = tmp_path / "broken"
    shutil.copytree(edge_bundle, broken)
    (broken / "read_decoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"OpenVINO cannot load .*read_decoder\.onnx") as caught:
        open_backend(Bundle(broken, bundle.info), OPTIONS)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"OpenVINO is not installed .*pip install 'stm-skeletons\[openvino\]'"):
        open_backend(bundle, OPTIONS)
