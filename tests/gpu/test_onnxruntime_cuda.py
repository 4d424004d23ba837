"""ONNX Runtime on a real GPU: the contract of every backend, and the CPU's results. There is no simulation."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from backend_contract import BackendContract

from benchmarks.run.memory import MemorySampler
from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.gpu import NoGpu, find_gpu
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
    @pytest.fixture(params=[True, False], ids=["graphs", "calls"])
    def backend(self, request: pytest.FixtureRequest, edge_bundle: Path) -> Iterator[Backend]:
        options = BackendOptions("onnxruntime", "cuda", cuda_graphs=request.param)
        opened = open_backend(Bundle.open(edge_bundle), options)
        yield opened
        opened.close()


def frames_of(clip: Path, count: int) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(clip))
    return [capture.read()[1] for _ in range(count)]


def test_100_frames_give_the_maps_and_parts_of_the_cpu(clip: Path):
    """The shipped model; each side uses its own predictions and memory."""
    with (
        Session.open("edge", BackendOptions(provider="cuda")) as ours,
        Session.open("edge", BackendOptions("onnxruntime")) as theirs,
    ):
        addresses = ours.addresses()
        keypoints = 0
        for frame in frames_of(clip, 100):
            found, wanted = ours.step(frame), theirs.step(frame)
            np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=1e-3)
            # A keypoint at the threshold may fall on either side.
            assert abs(len(found.keypoints) - len(wanted.keypoints)) <= 2
            keypoints += len(wanted.keypoints)
        assert keypoints > 1000
        assert ours.addresses() == addresses


@pytest.mark.parametrize("network", ["edge_bundle", "resnet_bundle"])
def test_cuda_graphs_give_the_results_of_single_calls(request: pytest.FixtureRequest, clip: Path, network: str):
    """All slots are used twice, in two threads that record their own graphs."""
    bundle: Path = request.getfixturevalue(network)

    def maps(cuda_graphs: bool) -> list[np.ndarray]:
        with Session.open(bundle, BackendOptions(provider="cuda", cuda_graphs=cuda_graphs)) as session:
            found = []
            for frame in frames_of(clip, 15):
                session.step(frame)
                found.append(session.maps())
            return found

    wanted = maps(cuda_graphs=False)
    with ThreadPoolExecutor(1) as another:
        for found in (maps(cuda_graphs=True), another.submit(maps, cuda_graphs=True).result()):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_sessions_record_at_the_same_time(edge_bundle: Path, clip: Path):
    """Cameras that start while others run do not break each other's recording."""
    images = frames_of(clip, 12)
    start = threading.Barrier(4)

    def last_maps(_number: int) -> np.ndarray:
        start.wait()
        with Session.open(edge_bundle, BackendOptions(provider="cuda")) as session:
            for image in images:
                session.step(image)
            return session.maps()

    with ThreadPoolExecutor(4) as cameras:
        first, *others = cameras.map(last_maps, range(4))
    for maps in others:
        np.testing.assert_allclose(maps, first, atol=1e-3)


def test_gpu_memory_does_not_grow(clip: Path):
    images = frames_of(clip, 20)
    with Session.open("edge", BackendOptions(provider="cuda")) as session:
        for image in images:
            session.step(image)
        with MemorySampler(0.0, device=True, capacity=600) as sampler:  # samples at the start and at the end
            for number in range(500):
                session.step(images[number % len(images)])
        used = sampler.samples[:, 3]
    assert np.isfinite(used).all()
    assert np.ptp(used) == 0
