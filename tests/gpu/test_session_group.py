"""Many cameras on one GPU: batches, one wait per step, weights loaded once. See also test_tensorrt.py."""

from pathlib import Path

import numpy as np
import pytest
from group_contract import GroupContract, OpenGroup, make_frame
from ungated import export_ungated

from export.engines.build import build_engines
from runtime.backends import BackendOptions
from runtime.backends.arena import plan_arena
from runtime.backends.tensorrt import TensorRTBackend
from runtime.session import Session
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BackendError
from stm_skeletons.memory_policy import write_slot

pytestmark = pytest.mark.gpu

CAMERAS = 4
GRAPHS = pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "calls"])


def open_group(bundle: Bundle, cameras: int, cuda_graphs: bool = True) -> SessionGroup:
    return SessionGroup.open(
        bundle, cameras, BackendOptions("tensorrt", cuda_graphs=cuda_graphs), min_score=0.0, min_keypoint_score=0.0
    )


def frames_of(cameras: int, number: int) -> dict[int, np.ndarray]:
    return {camera: make_frame(camera, number) for camera in range(cameras)}


@pytest.fixture(params=["lazy", "random:1"])
def schedule(request: pytest.FixtureRequest, gpu) -> None:
    if gpu.simulated:
        gpu.schedule(request.param)
    elif request.param != "lazy":
        pytest.skip("a GPU has its own schedule")


@pytest.mark.usefixtures("schedule")
class TestTensorRT(GroupContract):
    @pytest.fixture(autouse=True)
    def _arithmetic(self, gpu) -> None:
        self.exact = gpu.simulated  # a GPU uses different kernels for different batch sizes

    @pytest.fixture(params=[True, False], ids=["graphs", "calls"])
    def open_group(self, request: pytest.FixtureRequest) -> OpenGroup:
        return lambda bundle, cameras: open_group(bundle, cameras, request.param)

    @pytest.fixture
    def bundles(self, fp32_bundle: Bundle, fp32_batch: Bundle) -> tuple[Bundle, Bundle]:
        return fp32_bundle, fp32_batch


@pytest.mark.usefixtures("schedule")
class TestMemoryOfFrames(GroupContract):
    """The network's memory encoder reads the frames themselves, so the next batch must not overwrite them."""

    exact = False

    @pytest.fixture
    def open_group(self) -> OpenGroup:
        return open_group

    @pytest.fixture
    def bundles(self, resnet50: Bundle, resnet50_batch: Bundle) -> tuple[Bundle, Bundle]:
        return resnet50, resnet50_batch


@GRAPHS
def test_a_step_of_all_cameras_is_two_launches_and_one_wait(gpu, fp32_batch: Bundle, cuda_graphs: bool):
    """With separate sessions, every camera needs that many."""
    gpu.schedule("lazy")
    with open_group(fp32_batch, CAMERAS, cuda_graphs) as group:
        group.step(frames_of(CAMERAS, 0))
        together = count_work(gpu, lambda: group.step(frames_of(CAMERAS, 1)))
        group.step({0: make_frame(0, 2)})  # from now on the cameras are at different frames
        apart = count_work(gpu, lambda: group.step({camera: make_frame(camera, 3) for camera in (0, 1, 2)}))
    sessions = [open_group(fp32_batch, 1, cuda_graphs) for _ in range(CAMERAS)]
    for session in sessions:
        session.step({0: make_frame(0, 0)})
    alone = count_work(gpu, lambda: [session.step({0: make_frame(0, 1)}) for session in sessions])
    for session in sessions:
        session.close()
    launches = {"cuGraphLaunch": 2} if cuda_graphs else {"cuLaunchHostFunc": 1 + CAMERAS + 1}
    assert together == {"h2d": 1, "d2h": 1, "syncs": 1, **launches}
    launches = {"cuGraphLaunch": 1 + 3 + 1} if cuda_graphs else {"cuLaunchHostFunc": 1 + 3 + 1}
    assert apart == {"h2d": 1, "d2h": 1, "syncs": 1, **launches}
    launches = {"cuGraphLaunch": 2 * CAMERAS} if cuda_graphs else {"cuLaunchHostFunc": 3 * CAMERAS}
    assert alone == {"h2d": CAMERAS, "d2h": CAMERAS, "syncs": CAMERAS, **launches}


def count_work(gpu, step) -> dict[str, int]:
    """Return copies, waits and launches of a step. The stand-in's kernels are host functions, one per engine."""
    before = gpu.calls() | {name: gpu.count(name) for name in ("h2d", "d2h", "syncs")}
    step()
    after = gpu.calls() | {name: gpu.count(name) for name in ("h2d", "d2h", "syncs")}
    counted = ("h2d", "d2h", "syncs", "cuGraphLaunch", "cuLaunchHostFunc")
    assert not [name for name in after if "Alloc" in name and after[name] > before.get(name, 0)]
    return {name: after[name] - before.get(name, 0) for name in counted if after.get(name, 0) > before.get(name, 0)}


def test_second_session_shares_the_weights_of_the_first(gpu, fp32_bundle: Bundle, monkeypatch):
    """It has its own contexts and memory. The engines stay loaded while a session is open."""
    import tensorrt

    loaded: list[int] = []
    load = tensorrt.Runtime.deserialize_cuda_engine
    monkeypatch.setattr(
        tensorrt.Runtime, "deserialize_cuda_engine", lambda *given: loaded.append(1) or load(*given), raising=True
    )
    start = gpu.live() if gpu.simulated else {}
    sessions = [open_group(fp32_bundle, 1)]
    assert len(loaded) == 3
    with_one = gpu.live()["device_bytes"] if gpu.simulated else 0
    sessions.append(open_group(fp32_bundle, 1))
    assert len(loaded) == 3
    if gpu.simulated:
        weights = sum(fp32_bundle.graph_file(name).stat().st_size for name in fp32_bundle.info.graphs)
        own = gpu.live()["device_bytes"] - with_one
        assert 0 < own <= with_one - start["device_bytes"] - 0.9 * weights
    wanted = sessions[1].step({0: make_frame(1, 0)})[0]
    sessions[0].step({0: make_frame(0, 0)})
    sessions.pop(0).close()
    sessions[0].reset(0)
    np.testing.assert_array_equal(sessions[0].step({0: make_frame(1, 0)})[0].keypoints, wanted.keypoints)
    sessions.pop().close()
    if gpu.simulated:
        assert gpu.live() == start
    with open_group(fp32_bundle, 1):
        assert len(loaded) == 6, "the engines had been released"


@pytest.mark.parametrize("cameras", [1, 2, 4, 8])
def test_gpu_memory_matches_the_plan_and_weights_are_loaded_once(gpu, fp32_batch: Bundle, cameras: int):
    """The figures of docs/benchmarks.md, "GPU memory per camera"."""
    if not gpu.simulated:
        pytest.skip("other programs use the GPU too")
    with open_group(fp32_batch, 1):
        before = gpu.live()["device_bytes"]
        with open_group(fp32_batch, cameras) as group:
            backend = group._backend
            assert isinstance(backend, TensorRTBackend)
            plan = plan_arena(fp32_batch.info, backend._engines.activation_bytes, cameras)
            assert 0 <= gpu.live()["device_bytes"] - before - plan.size < 4096, "rounded up to the driver's pages"


def test_graphs_replayed_in_any_order_give_the_results_of_calls(gpu, schedule, fp32_batch: Bundle):
    """All graphs of an engine are recorded in one execution context, in one order, and replayed in other orders."""
    random = np.random.default_rng(4)
    with open_group(fp32_batch, CAMERAS) as replayed, open_group(fp32_batch, CAMERAS, cuda_graphs=False) as called:
        for number in range(20):
            for camera in range(CAMERAS):
                if random.random() < 0.1:  # so that slots are written in another order
                    replayed.reset(camera)
                    called.reset(camera)
            chosen = np.flatnonzero(random.random(CAMERAS) < 0.7)
            frames = {int(camera): make_frame(int(camera), number) for camera in chosen}
            replayed.step(frames)
            called.step(frames)
            for camera in range(CAMERAS):
                np.testing.assert_array_equal(replayed.maps(camera), called.maps(camera))
                for slot in range(fp32_batch.info.slots):
                    for ours, theirs in zip(replayed.slot(camera, slot), called.slot(camera, slot), strict=True):
                        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("peaks", [1, 7, 13])
def test_blocks_of_any_size_are_aligned_for_tensorrt(
    request: pytest.FixtureRequest, gpu, tmp_path: Path, clip: Path, peaks: int
):
    """Activations at multiples of 512 bytes, tensors at multiples of 256; FP16 and the peaks make sizes odd."""
    pytest.importorskip("torch")
    weights, options = request.getfixturevalue("edge_weights"), {"slots": 3, "every": 2, "peaks": peaks}
    bundle = export_ungated(weights, tmp_path / "edge", width=160, height=96, video=str(clip), **options)
    build_engines(bundle, "native")
    with Session.open(bundle, BackendOptions("tensorrt")) as session:
        session.step(make_frame(0, 0))
        assert session.maps().any()


def test_unaligned_slots_are_copied_into_place(gpu, tmp_path: Path, clip: Path):
    """The slots of a narrow ``resnet50`` in FP16 are not multiples of 256 bytes."""
    torch = pytest.importorskip("torch")
    from training.model import ModelConfig, build
    from training.model.weights import save_weights

    torch.manual_seed(0)
    save_weights(
        tmp_path / "narrow.safetensors", build(ModelConfig(variant="resnet50", width=0.1)), "random, for tests"
    )
    weights, options = tmp_path / "narrow.safetensors", {"slots": 4, "every": 2, "peaks": 4}
    bundle = export_ungated(weights, tmp_path / "narrow", width=96, height=64, video=str(clip), **options)
    key = bundle.info.graphs["memory_encoder"].tensor("memory_value")
    assert int(np.prod(key.shape)) * 2 % 256 != 0
    build_engines(bundle, "native")
    with (
        open_group(bundle, 1) as ours,
        SessionGroup.open(bundle, 1, BackendOptions("onnxruntime", threads=1)) as theirs,
    ):
        for number in range(5):
            frame = make_frame(0, number)[:64, :96]
            ours.step({0: frame})
            theirs.step({0: frame})
            slot = write_slot(number, 4, 2)
            for found, wanted in zip(ours.slot(0, slot), theirs.slot(0, slot), strict=True):
                np.testing.assert_allclose(found, wanted, atol=2e-2)


def test_failed_context_creation_leaks_nothing(gpu, fp32_bundle: Bundle, monkeypatch):
    """Checked while the error is kept, because its traceback refers to the objects created before."""
    import tensorrt

    if not hasattr(tensorrt.ICudaEngine, "create_execution_context_without_device_memory"):
        pytest.skip("this TensorRT creates contexts in another way")
    live = gpu.live() if gpu.simulated else {}
    create, created = tensorrt.ICudaEngine.create_execution_context_without_device_memory, []

    def only_one(engine):
        created.append(1)
        return create(engine) if len(created) == 1 else None

    monkeypatch.setattr(tensorrt.ICudaEngine, "create_execution_context_without_device_memory", only_one)
    with pytest.raises(BackendError, match="TensorRT cannot create an execution context for read_decoder") as caught:
        open_group(fp32_bundle, 1)
    if gpu.simulated:
        assert gpu.live() == live
    assert caught.value.__traceback__ is not None


def test_rejected_activation_memory_is_an_error(gpu, fp32_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    """The setter returns nothing; the error is only in TensorRT's log."""
    monkeypatch.setattr("runtime.backends.arena.ALIGNMENT", 256)
    gpu.schedule("eager")  # skips on a real GPU
    messages = []
    for extra in (0, 1):  # one of the addresses is a multiple of 512 by chance
        monkeypatch.setattr("runtime.backends.tensorrt.plan_arena", shifted_plan(256 * extra))
        try:
            open_group(fp32_bundle, 1).close()
        except BackendError as error:
            messages.append(str(error))
    assert len(messages) == 1
    assert "TensorRT rejects the activation memory of query_encoder" in messages[0]
    assert "not aligned to 512 bytes" in messages[0]


def shifted_plan(by: int):
    """A ``plan_arena`` whose activations begin ``by`` bytes later."""
    from dataclasses import replace

    from runtime.backends.arena import Block, plan_arena

    def plan(*given):
        arena = plan_arena(*given)
        return replace(
            arena,
            activations=Block(arena.activations.start + by, arena.activations.size),
            size=arena.size + by,
        )

    return plan
