import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from backend_contract import BackendContract
from group_contract import GroupContract, OpenGroup

from runtime.backends import BackendOptions, choose_backend, open_backend
from runtime.backends.base import Backend
from runtime.machine import has_bf16
from runtime.session import Session
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError
from stm_skeletons.people import People, no_people

pytest.importorskip("openvino")

OPTIONS = BackendOptions("openvino", threads=1)


class TestOpenVino(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(Bundle.open(edge_bundle), OPTIONS)
        yield opened
        opened.close()


def with_precision(bundle: str | Path, precision: str) -> Bundle:
    """A bundle that claims this precision, without the checks of the export."""
    opened = Bundle.open(bundle)
    return Bundle(opened.folder, opened.info.model_copy(update={"precision": precision}))


needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16 units")


@needs_bf16
class TestBf16(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(with_precision(edge_bundle, "bf16"), OPTIONS)
        yield opened
        opened.close()


class TestGroups(GroupContract):
    exact = False

    @pytest.fixture
    def open_group(self) -> OpenGroup:
        return lambda bundle, cameras: SessionGroup.open(
            bundle, cameras, OPTIONS, min_score=0.0, min_keypoint_score=0.0
        )


def test_parts_equal_those_of_onnx_runtime(clip: Path):
    """The shipped model on real frames, each with its own memory."""
    capture = cv2.VideoCapture(str(clip))
    with (
        Session.open("edge", OPTIONS) as ours,
        Session.open("edge", BackendOptions("onnxruntime", threads=1)) as theirs,
    ):
        for _ in range(15):
            frame = np.asarray(capture.read()[1], np.uint8)
            found, expected = ours.step(frame), theirs.step(frame)
            np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=1e-3)
            np.testing.assert_array_equal(found.keypoint_types, expected.keypoint_types)
            np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.1)
            np.testing.assert_array_equal(found.people.ids, expected.people.ids)


def test_second_start_uses_the_cache_and_a_damaged_cache_is_harmless(
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


def test_bundles_that_cannot_run_are_refused_in_one_line(
    edge_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = Bundle.open(edge_bundle)
    fp16_bundle = with_precision(edge_bundle, "fp16")
    with pytest.raises(BackendError, match="is FP16, which is for GPUs; for a CPU, export with --precision fp32, bf16"):
        open_backend(fp16_bundle, OPTIONS)
    broken = tmp_path / "broken"
    shutil.copytree(edge_bundle, broken)
    (broken / "read_decoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"OpenVINO cannot load .*read_decoder\.onnx") as caught:
        open_backend(Bundle(broken, bundle.info), OPTIONS)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"OpenVINO is not installed .*pip install 'stm-skeletons\[openvino\]'"):
        open_backend(bundle, OPTIONS)


@needs_bf16
def test_bf16_maps_are_near_fp32_but_not_equal(clip: Path):
    """The shipped model on real frames, each with its own memory. Sure people of one are people of the other, too."""
    capture = cv2.VideoCapture(str(clip))
    sure = 0
    with Session.open(with_precision("edge", "bf16"), OPTIONS) as ours, Session.open("edge", OPTIONS) as theirs:
        for _ in range(10):
            frame = np.asarray(capture.read()[1], np.uint8)
            found = []
            for session in (ours, theirs):
                session.step(frame)
                found.append(session.people() or no_people(17))
            sure += all_found(found[0], found[1]) + all_found(found[1], found[0])
            differences = np.abs(ours.maps() - theirs.maps())
            assert 1e-4 < np.sqrt((differences**2).mean()) < 5e-3
    assert sure > 60


def all_found(people: People, others: People) -> int:
    """Number of people who score at least 0.25; each must be among the others, at most 4 network pixels away."""
    sure = people.chosen(people.scores >= 0.25)
    distances = np.linalg.norm(sure.keypoints[:, None, :, :2] - others.keypoints[None, :, :, :2], axis=-1)
    assert (np.median(distances, axis=-1).min(axis=1) <= 4).all()
    return len(sure)


def test_bf16_needs_openvino_and_bf16_units(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = with_precision(edge_bundle, "bf16")
    with pytest.raises(BackendError, match="bf16, which ONNX Runtime does not support; use --backend openvino"):
        open_backend(bundle, BackendOptions("onnxruntime"))
    monkeypatch.setattr("runtime.backends.openvino.has_bf16", lambda: False)
    with pytest.raises(BackendError, match="bf16, but this processor has no bf16 units; export with --precision"):
        open_backend(bundle, OPTIONS)


@pytest.mark.parametrize(
    ("precision", "provider", "installed", "machine", "chosen"),
    [
        ("fp32", "cpu", "2026.4", "x86_64", "openvino"),
        ("int8", "cpu", "2026.4", "x86_64", "openvino"),
        ("fp32", "cpu", "2026.4", "aarch64", "onnxruntime"),
        ("fp32", "cpu", None, "x86_64", "onnxruntime"),
        ("fp16", "cpu", "2026.4", "x86_64", "onnxruntime"),
        ("fp32", "cuda", "2026.4", "x86_64", "onnxruntime"),
        ("bf16", "cpu", None, "aarch64", "openvino"),
    ],
)
def test_fastest_backend_is_the_default(
    edge_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    provider: str,
    installed: str | None,
    machine: str,
    chosen: str,
):
    monkeypatch.setattr("runtime.backends.installed_version", lambda _package: installed)
    monkeypatch.setattr("platform.machine", lambda: machine)
    bundle = with_precision(edge_bundle, precision)
    assert choose_backend(BackendOptions(provider=provider, threads=3), bundle) == BackendOptions(chosen, provider, 3)
    explicit = BackendOptions("tensorrt", provider)
    assert choose_backend(explicit, bundle) == explicit
