"""ONNX Runtime on a real GPU: the contract of every backend, and what the CPU finds. Nothing simulates it."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from backend_contract import BackendContract

from benchmarks.run.memory import MemorySampler
from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.doctor.gpu import NoGpu, find_gpu
from runtime.session import Session
from stm_skeletons.bundle import Bundle

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    try:
        find_gpu()
    except NoGpu as problem:
        pytest.skip(str(problem))


class TestCuda(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(Bundle.open(edge_bundle), BackendOptions("onnxruntime", "cuda"))
        yield opened
        opened.close()


def frames_of(clip: Path, count: int) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(clip))
    return [capture.read()[1] for _ in range(count)]


def test_a_hundred_frames_give_the_cpus_maps_and_parts(clip: Path):
    """The shipped model, each side on its own predictions and its own memory."""
    with Session.open("edge", provider="cuda") as ours, Session.open("edge") as theirs:
        addresses = ours.addresses()
        keypoints = 0
        for frame in frames_of(clip, 100):
            found, wanted = ours.step(frame), theirs.step(frame)
            np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=1e-3)
            # One at the threshold may fall on either side of it.
            assert abs(len(found.keypoints) - len(wanted.keypoints)) <= 2
            keypoints += len(wanted.keypoints)
        assert keypoints > 1000
        assert ours.addresses() == addresses


def test_nothing_grows_on_the_gpu(clip: Path):
    images = frames_of(clip, 20)
    with Session.open("edge", provider="cuda") as session:
        for image in images:
            session.step(image)
        with MemorySampler(0.0, device=True, capacity=600) as sampler:  # at its beginning and its end
            for number in range(500):
                session.step(images[number % len(images)])
        used = sampler.samples[:, 3]
    assert np.isfinite(used).all()
    assert np.ptp(used) == 0
