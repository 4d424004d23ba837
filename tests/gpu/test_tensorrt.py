"""The TensorRT backend: the same parts as ONNX Runtime, no allocations per frame, no leaks, no races.

Runs on a simulated driver unless there is a GPU. Its schedules are hostile: "lazy" runs queued work only when a call
waits for it, "random" in any order that streams and events allow, "eager" at once, as a careless test double would.
"""

import copy
import ctypes
import gc
import importlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from backend_contract import FIRST, NONE, BackendContract, detect_maps, make_image

from benchmarks.run.memory import MemorySampler
from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.backends.cuda import Gpu
from runtime.session import Session
from runtime.session_group import SessionGroup
from runtime.stages import RecordedStages, Stages
from stm_skeletons.bundle import Bundle
from stm_skeletons.engines import engines_folder
from stm_skeletons.errors import BackendError, EngineError, StmError
from stm_skeletons.memory_policy import readable_slots, write_slot
from stm_skeletons.parts import Parts

pytestmark = pytest.mark.gpu

SCHEDULES = ("eager", "lazy", "random:1", "random:2")
GRAPHS = pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "calls"])
SCORE, PIXELS = 1e-4, 0.05
OUT_OF_MEMORY, ILLEGAL_ADDRESS = 2, 700


@pytest.fixture(params=SCHEDULES)
def schedule(request: pytest.FixtureRequest, gpu) -> str:
    """Every schedule of the simulated driver; a GPU has its own."""
    if gpu.simulated:
        gpu.schedule(request.param)
    elif request.param != SCHEDULES[0]:
        pytest.skip("a GPU has its own schedule")
    return request.param


@pytest.fixture(scope="session")
def frames(clip: Path) -> list[np.ndarray]:
    """The 100 frames of the sample clip, 320x240."""
    capture = cv2.VideoCapture(str(clip))
    found = []
    while (answer := capture.read())[0]:
        found.append(cv2.resize(answer[1], (320, 240), interpolation=cv2.INTER_AREA))
    return found


@pytest.mark.usefixtures("schedule")
class TestTensorRT(BackendContract):
    @pytest.fixture(params=[True, False], ids=["graphs", "calls"])
    def backend(self, request: pytest.FixtureRequest, fp32_bundle: Bundle) -> Iterator[Backend]:
        opened = open_backend(fp32_bundle, BackendOptions("tensorrt", cuda_graphs=request.param))
        yield opened
        opened.close()

    def test_consecutive_detections_read_their_own_slots(self, backend: Backend):
        """Nothing waits between them, so the first list of slots may not have been uploaded yet."""
        detect_maps(backend, 0, NONE)
        backend.memorise({0: 0})
        backend.frame(0)[:] = make_image(1)
        backend.detect({0: NONE})
        backend.memorise({0: 1})
        backend.detect({0: FIRST})
        backend.results(0)
        in_a_row = backend.read_slot(0, 1)
        detect_maps(backend, 1, NONE)
        backend.memorise({0: 1})
        for found, wanted in zip(in_a_row, backend.read_slot(0, 1), strict=True):
            np.testing.assert_array_equal(found, wanted)


def on_tensorrt(bundle: Bundle, cuda_graphs: bool = True) -> Session:
    """Open a session that reports all detections, like ``on_the_cpu``."""
    return Session.open(
        bundle, BackendOptions("tensorrt", cuda_graphs=cuda_graphs), min_score=0.0, min_keypoint_score=0.0
    )


def on_the_cpu(bundle: Bundle) -> Session:
    return Session.open(bundle, BackendOptions("onnxruntime", threads=1), min_score=0.0, min_keypoint_score=0.0)


def assert_same(found: Parts, wanted: Parts, score: float = SCORE, pixels: float = PIXELS) -> None:
    """Compare parts and people."""
    ours, theirs = found.people, wanted.people
    same = (
        np.array_equal(found.keypoint_types, wanted.keypoint_types)
        and np.abs(found.keypoint_scores - wanted.keypoint_scores).max(initial=0) <= score
        and np.abs(found.keypoints - wanted.keypoints).max(initial=0) <= pixels
        and np.array_equal(found.edge_types, wanted.edge_types)
        and np.abs(found.edge_scores - wanted.edge_scores).max(initial=0) <= score
        and np.array_equal(ours.ids, theirs.ids)
        and np.array_equal(ours.peaks, theirs.peaks)
        and np.abs(ours.scores - theirs.scores).max(initial=0) <= score
        and np.abs(ours.keypoints - theirs.keypoints).max(initial=0) <= pixels
    )
    assert same, f"other parts: {found} instead of {wanted}"


def step_both(gpu, ours: Session, theirs: Session, frame: np.ndarray) -> None:
    """Step both sessions and compare the results.

    A real GPU sums in another order and really rounds to FP16, so there only the maps are compared, each side on its
    own predictions: the order of many low peaks is not defined.
    """
    found, wanted = ours.step(frame), theirs.step(frame)
    if gpu.simulated:
        assert_same(found, wanted)
    else:
        bound = 2e-2 if ours.info.precision == "fp16" else 1e-3
        np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=bound)


def compare_sessions(gpu, bundle: Bundle, frames: list[np.ndarray], count: int, cuda_graphs: bool) -> None:
    """Run ``count`` frames on both backends and compare each frame."""
    with on_tensorrt(bundle, cuda_graphs) as ours, on_the_cpu(bundle) as theirs:
        addresses = ours.addresses()
        for number in range(count):
            step_both(gpu, ours, theirs, frames[number % len(frames)])
        assert ours.addresses() == addresses
        if gpu.simulated:
            np.testing.assert_allclose(ours.maps(), theirs.maps(), atol=SCORE)
            for slot in range(bundle.info.slots):
                for found, wanted in zip(ours.slot(slot), theirs.slot(slot), strict=True):
                    np.testing.assert_allclose(found, wanted, atol=1e-3)


@GRAPHS
@pytest.mark.parametrize("network", ["fp32_bundle", "fp16_bundle", "resnet50", "stm"])
def test_all_detections_match_onnx_runtime(
    request: pytest.FixtureRequest, gpu, frames, network: str, cuda_graphs: bool
):
    """Compares every output of the backend, also those that a session does not read."""
    gpu.schedule("lazy")  # skips on a real GPU, where the order of many low peaks is not defined
    bundle: Bundle = request.getfixturevalue(network)
    slots, every = bundle.info.slots, bundle.info.every
    outputs = {spec.name for spec in bundle.info.graphs["read_decoder"].outputs}
    options = (BackendOptions("tensorrt", cuda_graphs=cuda_graphs), BackendOptions("onnxruntime", threads=1))
    ours, theirs = (open_backend(bundle, each) for each in options)
    with closing(ours), closing(theirs):
        for number, frame in enumerate(frames[:8]):
            for backend in (ours, theirs):
                backend.frame(0)[:] = cv2.resize(frame, bundle.info.size)
                backend.detect({0: readable_slots(number, slots, every)})
                backend.memorise({0: write_slot(number, slots, every)})
            found, wanted = vars(ours.results(0)), vars(theirs.results(0))
            for name in wanted:
                np.testing.assert_allclose(found[name], wanted[name], atol=SCORE, err_msg=name)
                assert wanted[name].any() == (name in outputs), name


def test_every_bundle_runs(gpu, fp32_bundle, fp32_batch, fp16_bundle, resnet50, resnet50_batch, stm, frames):
    """All bundles of these tests; with STM_SKELETONS_GPU_BUNDLES, new ones are kept for a machine without PyTorch."""
    for bundle in (fp32_bundle, fp32_batch, fp16_bundle, resnet50, resnet50_batch, stm):
        with SessionGroup.open(bundle, bundle.info.batch, BackendOptions("tensorrt")) as group:
            frame: np.ndarray = frames[0]
            group.step(dict.fromkeys(range(bundle.info.batch), frame))
            assert group.maps(bundle.info.batch - 1).any()


@GRAPHS
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_frames_give_the_parts_of_onnx_runtime(gpu, fp32_bundle: Bundle, frames, count: int, cuda_graphs: bool):
    if gpu.simulated:
        gpu.schedule("random:3")
    compare_sessions(gpu, fp32_bundle, frames, count, cuda_graphs)


@GRAPHS
@pytest.mark.parametrize("network", ["fp32_bundle", "fp16_bundle", "resnet50"])
def test_every_schedule_gives_the_parts_of_onnx_runtime(
    request: pytest.FixtureRequest, gpu, schedule: str, frames, network: str, cuda_graphs: bool
):
    compare_sessions(gpu, request.getfixturevalue(network), frames, 30, cuda_graphs)


def test_network_without_outputs_is_waited_for_too(gpu, schedule: str, stm: Bundle, frames):
    """Without keypoint maps nothing is downloaded, but the next frame must not overwrite this one too early."""
    compare_sessions(gpu, stm, frames, 6, cuda_graphs=True)


def test_a_seed_gives_the_parts_of_onnx_runtime(gpu, schedule: str, fp32_bundle: Bundle, frames):
    poses = np.random.default_rng(0).uniform(20, 220, (2, 17, 3))
    with on_tensorrt(fp32_bundle) as ours, on_the_cpu(fp32_bundle) as theirs:
        for start in (0, 5):
            ours.seed(poses)
            theirs.seed(poses)
            for frame in frames[start : start + 8]:
                step_both(gpu, ours, theirs, frame)


@GRAPHS
def test_frames_letterboxed_ahead_give_the_parts_of_onnx_runtime(
    gpu, schedule: str, fp32_bundle: Bundle, frames, cuda_graphs: bool
):
    """The upload of the current frame may not have begun yet."""
    with on_tensorrt(fp32_bundle, cuda_graphs) as ours, on_the_cpu(fp32_bundle) as theirs:
        for number in range(10):
            found = ours.step(frames[number], lambda number=number: frames[number + 1])
            wanted = theirs.step(frames[number])
            if gpu.simulated:
                assert_same(found, wanted)


@GRAPHS
def test_a_frame_is_one_upload_one_download_and_one_wait(gpu, fp32_bundle: Bundle, frames, cuda_graphs: bool):
    """Counted by the driver after start-up: nothing else is allocated, created or copied."""
    gpu.schedule("lazy")
    count = 50
    with on_tensorrt(fp32_bundle, cuda_graphs) as session:
        session.step(frames[0])
        before, live = gpu.calls(), gpu.live()
        work = {name: gpu.count(name) for name in ("h2d", "d2h", "d2d", "syncs")}
        for number in range(count):
            session.step(frames[number])
        done = {name: gpu.count(name) - earlier for name, earlier in work.items()}
        calls = {name: n - before.get(name, 0) for name, n in gpu.calls().items() if n > before.get(name, 0)}
        assert done == {"h2d": count, "d2h": count, "d2d": count, "syncs": count}
        assert calls["cuStreamSynchronize"] == count
        assert calls["cuMemcpyHtoDAsync"] == count
        assert calls["cuMemcpyDtoHAsync"] == count
        assert not [name for name in calls if "Alloc" in name or "Create" in name or "Free" in name], calls
        assert calls.get("cuGraphLaunch", 0) == (2 * count if cuda_graphs else 0)
        assert gpu.live() == live


@GRAPHS
def test_recorded_stages_have_device_times_and_change_no_parts(
    gpu, schedule: str, resnet50: Bundle, frames, cuda_graphs: bool
):
    """Each stage is waited for, so nothing is queued afterwards; when recording ends, graphs are replayed again."""
    stages = RecordedStages()
    with on_tensorrt(resnet50, cuda_graphs) as ours, on_the_cpu(resnet50) as theirs:
        for number in range(12):
            ours.record(stages if 4 <= number < 8 else Stages())
            before = gpu.calls().get("cuGraphLaunch", 0) if gpu.simulated else 0
            step_both(gpu, ours, theirs, frames[number])
            if gpu.simulated:
                replayed = gpu.calls().get("cuGraphLaunch", 0) - before
                assert replayed == (2 if cuda_graphs and not 4 <= number < 8 else 0)
                assert not (4 <= number < 8 and gpu.pending()), "the last stage has been waited for"
        assert min(stages.milliseconds.values()) > 0


def test_the_next_upload_does_not_wait_for_memorising(gpu, resnet50: Bundle, frames):
    """Purpose of the second stream: work of frame n may still be queued when frame n+1 arrives."""
    gpu.schedule("lazy")
    with on_tensorrt(resnet50) as session:
        session.step(frames[0])
        assert gpu.pending() > 0, "memorising is still queued, because nothing has waited for it"


def test_other_users_of_the_gpu_do_not_wait_for_the_session(gpu, resnet50: Bundle, frames):
    """Most programs use the default stream, which would wait for an ordinary stream."""
    gpu.schedule("lazy")
    other = Gpu()
    with on_tensorrt(resnet50) as session:
        session.step(frames[0])
        queued = gpu.pending()
        assert queued > 0
        with other.active():
            other.allocate(256, "")  # clears it, on the default stream
        assert gpu.pending() == queued
    other.close()


def test_engines_run_before_they_are_recorded(gpu, fp32_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    """TensorRT initialises in its first run, with calls that cannot be recorded."""
    import tensorrt

    run = tensorrt.IExecutionContext.execute_async_v3
    is_recorded: list[bool] = []

    def watched(context, stream: int) -> bool:
        status = ctypes.c_int()
        assert gpu.driver.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)) == 0
        is_recorded.append(bool(status.value))
        return run(context, stream)

    monkeypatch.setattr(tensorrt.IExecutionContext, "execute_async_v3", watched)
    on_tensorrt(fp32_bundle).close()
    detect, memorise = [False, False, True, True], [False, True]
    assert is_recorded == detect + memorise * fp32_bundle.info.slots


def test_refused_capture_disables_graphs_cleanly(gpu, fp32_bundle: Bundle, frames, caplog):
    for stage in ("begin", "end", "instantiate"):
        caplog.clear()
        gpu.refuse_capture(stage)
        with on_tensorrt(fp32_bundle) as ours, on_the_cpu(fp32_bundle) as theirs:
            assert [record.message for record in caplog.records if "CUDA graphs disabled" in record.message]
            for frame in frames[:5]:
                assert_same(ours.step(frame), theirs.step(frame))
            assert gpu.calls().get("cuGraphLaunch", 0) == 0
            assert gpu.live()["graph_execs"] == 0
        gpu.refuse_capture(None)


def attempt(bundle: Bundle, frames: list[np.ndarray], cuda_graphs: bool, gpu) -> int:
    """Open, step twice, close. Returns the number of fallible driver calls before closing."""
    with on_tensorrt(bundle, cuda_graphs) as session:
        session.step(frames[0])
        session.step(frames[1])
        return gpu.fallible()


@GRAPHS
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for good"])
def test_failure_of_any_driver_call_is_noticed_and_leaks_nothing(
    gpu, fp32_bundle: Bundle, frames, caplog: pytest.LogCaptureFixture, cuda_graphs: bool, sticky: bool
):
    """Each failing call ends in one of our errors, or in a warning where it is not essential (recording, releasing).

    Or in neither, if pycuda retries: it collects garbage when memory is short.
    """
    gpu.schedule("lazy")
    gpu.fail_call(0)
    calls = attempt(fp32_bundle, frames, cuda_graphs, gpu)
    closing = gpu.fallible() - calls
    assert calls > 30
    assert closing > 0
    live = gpu.live()
    for number in range(1, calls + closing + 1):
        caplog.clear()
        error = ""
        gpu.fail_call(number, OUT_OF_MEMORY, sticky=sticky)
        try:
            attempt(fp32_bundle, frames, cuda_graphs, gpu)
        except StmError as caught:
            error = str(caught)
        failed = gpu.failed()
        gpu.fail_call(0)
        assert failed is not None
        failure = f"the failure of {failed}, call {number},"
        assert "\n" not in error
        tried_again = not sticky and failed.startswith(("cuMemAlloc", "cuMemHostAlloc"))
        assert error or caplog.records or tried_again, f"{failure} went unnoticed"
        if not error:
            assert tried_again or number > calls or (cuda_graphs and "CUDA graphs disabled" in caplog.text), failure
        assert gpu.live() == live, f"{failure} leaks objects"


def test_gpu_lost_during_a_run_is_an_error_and_leaks_nothing(gpu, fp32_bundle: Bundle, frames):
    """As after an illegal address: all later calls fail, except those that release objects."""
    live = gpu.live()
    session = on_tensorrt(fp32_bundle)
    session.step(frames[0])
    gpu.fail_call(1, ILLEGAL_ADDRESS, sticky=True)
    with pytest.raises(BackendError, match="an illegal memory access was encountered"):
        session.step(frames[1])
    session.close()
    gpu.fail_call(0)
    del session
    assert gpu.live() == live


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_many_sessions_leak_nothing(gpu, fp32_bundle: Bundle, frames, count: int):
    live = gpu.live() if gpu.simulated else {}
    for number in range(count):
        with on_tensorrt(fp32_bundle, cuda_graphs=number % 2 == 0) as session:
            session.step(frames[number % 100])
        if gpu.simulated and number % 10 == 9:
            assert gpu.live() == live


def test_concurrent_sessions_are_independent_and_close_in_any_order(
    schedule: str, fp32_bundle: Bundle, resnet50, frames
):
    alone = []
    with on_tensorrt(fp32_bundle) as session:
        alone = [session.step(frame) for frame in frames[10:16]]
    first, second, third = on_tensorrt(fp32_bundle), on_tensorrt(resnet50), on_tensorrt(fp32_bundle, False)
    for number in range(3):
        first.step(frames[number])
        second.step(frames[number])
        assert_same(third.step(frames[10 + number]), alone[number])
    first.close()
    for number in range(3, 6):
        second.step(frames[number])
        assert_same(third.step(frames[10 + number]), alone[number])
    third.close()
    second.step(frames[6])
    second.close()


def test_errors_are_reported_after_the_first_session_is_closed(gpu, fp32_bundle: Bundle, resnet50: Bundle, frames):
    """TensorRT keeps sending messages to the first logger of the process, even if later sessions bring another."""
    gpu.schedule("eager")  # skips on a real GPU
    messages = []
    first = on_tensorrt(fp32_bundle, False)
    with on_tensorrt(resnet50, False) as second:
        first.close()
        del first
        gc.collect()
        for call in range(1, 8):  # the upload and other calls before the first engine, then the engine
            gpu.fail_call(call)
            with pytest.raises(BackendError) as caught:
                second.step(frames[0])
            messages.append(str(caught.value))
        gpu.fail_call(0)
    assert [text for text in messages if "TensorRT failed in query_encoder: " in text and "out of memory" in text], (
        messages
    )


def current_context() -> int | None:
    found = ctypes.c_void_p()
    assert ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(found)) == 0
    return found.value


def test_cuda_context_of_the_caller_stays_current(gpu, fp32_bundle: Bundle, frames):
    cuda: Any = importlib.import_module("pycuda.driver")

    cuda.init()
    theirs = cuda.Device(0).make_context()
    try:
        before = current_context()
        with on_tensorrt(fp32_bundle) as session:
            assert current_context() == before
            session.step(frames[0])
            assert current_context() == before
        assert current_context() == before
    finally:
        theirs.pop()
        theirs.detach()


def test_no_context_is_left_current(gpu, fp32_bundle: Bundle, frames):
    with on_tensorrt(fp32_bundle) as session:
        session.step(frames[0])
        assert current_context() is None
    assert current_context() is None


def in_another_thread(action: Callable[[], object]) -> BaseException | None:
    """Return the exception that it raised."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_step_in_another_thread_is_rejected(gpu, fp32_bundle: Bundle, frames):
    with on_tensorrt(fp32_bundle) as session:
        error = in_another_thread(lambda: session.step(frames[0]))
        session.step(frames[0])
    message = "a GPU session must be used from the thread that opened it; open one session per thread"
    assert isinstance(error, BackendError)
    assert str(error) == message


@GRAPHS
def test_another_thread_may_close_or_drop_a_session(
    gpu, schedule: str, fp32_bundle: Bundle, frames, cuda_graphs: bool, capfd
):
    """Garbage collection does so in any thread."""
    live = gpu.live() if gpu.simulated else {}
    sessions = [on_tensorrt(fp32_bundle, cuda_graphs), on_tensorrt(fp32_bundle, cuda_graphs)]
    sessions[0].step(frames[0])
    sessions[1].step(frames[0])
    assert in_another_thread(sessions[0].close) is None
    with pytest.raises(BackendError, match="is closed"):
        sessions[0].step(frames[0])
    assert in_another_thread(sessions.clear) is None
    if gpu.simulated:
        assert gpu.live() == live
    assert "PyCUDA WARNING" not in capfd.readouterr().err


def test_results_stay_valid_after_closing(gpu, fp32_bundle: Bundle, frames):
    """Arrays that the caller kept must not be freed memory."""
    backend = open_backend(fp32_bundle, BackendOptions("tensorrt"))
    backend.frame(0)[:] = make_image(0)
    backend.detect({0: NONE})
    found = backend.results(0)
    before = copy.deepcopy(found)
    backend.close()
    for name, array in vars(found).items():
        np.testing.assert_array_equal(array, getattr(before, name))
    if gpu.simulated:
        pointer = ctypes.c_void_p(found.peaks.ctypes.data)
        size = ctypes.c_size_t()
        assert gpu.driver.cuMemHostGetFlags(ctypes.byref(size), pointer) != 0, "the results are in ordinary memory"


@GRAPHS
def test_next_frame_after_an_error_waits_for_unfinished_copies(
    gpu, fp32_bundle: Bundle, frames, monkeypatch: pytest.MonkeyPatch, cuda_graphs: bool
):
    """The frame that is being uploaded is not overwritten, although its results were not read."""
    gpu.schedule("lazy")
    with on_tensorrt(fp32_bundle, cuda_graphs) as ours, on_the_cpu(fp32_bundle) as theirs:
        step_both(gpu, ours, theirs, frames[0])
        with monkeypatch.context() as patch:
            patch.setattr("runtime.backends.tensorrt.TensorRTBackend.memorise", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ours.step(frames[1])
        assert gpu.pending() > 0, "the upload is queued"
        before = gpu.count("syncs")
        backend = ours._group._backend
        assert backend is not None
        backend.frame(0)
        assert gpu.count("syncs") == before + 1
        step_both(gpu, ours, theirs, frames[1])


def interrupted(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_closing_waits_for_its_own_stream_only(gpu, fp32_bundle: Bundle, frames):
    """Waiting for the whole context would break recordings of other threads, and last as long as their work."""
    session = on_tensorrt(fp32_bundle)
    session.step(frames[0])
    before = gpu.calls()
    session.close()
    waited = {name for name, count in gpu.calls().items() if count > before.get(name, 0) and "Synchronize" in name}
    assert waited == {"cuStreamSynchronize"}


def test_closed_session_raises_an_error(gpu, fp32_bundle: Bundle, frames):
    session = on_tensorrt(fp32_bundle)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="the session is closed; open a new one"):
        session.step(frames[0])


@pytest.mark.parametrize(
    ("short_of", "message"),
    [
        ("arena", r"not enough GPU memory: need one block of \d+ MB, .* MB are free; export with fewer --slots"),
        (
            "weights",
            r"not enough GPU memory for the weights of query_encoder.engine \(\d+ MB\): .*; stop other programs",
        ),
    ],
)
def test_out_of_memory_error_says_how_much_is_needed_and_what_to_do(
    gpu, fp32_bundle: Bundle, short_of: str, message: str
):
    cuda: Any = importlib.import_module("pycuda.driver")

    gpu.fill(False)  # skips on a real GPU; and the large allocations here should not be written to
    with on_tensorrt(fp32_bundle):
        used = gpu.live()["device_bytes"]
    left = used - 100_000 if short_of == "arena" else 100_000
    theirs = cuda.Device(0).make_context()
    try:
        hog = cuda.mem_alloc(cuda.mem_get_info()[0] - left)
        try:
            with pytest.raises(BackendError, match=message):
                on_tensorrt(fp32_bundle)
        finally:
            hog.free()
    finally:
        theirs.pop()
        theirs.detach()


def test_unwritten_slots_stay_zero(gpu, fp32_bundle: Bundle, frames):
    """New memory is filled with NaN here, so leftovers of start-up would show."""
    with on_tensorrt(fp32_bundle) as session:
        session.step(frames[0])
        for slot in range(1, fp32_bundle.info.slots):
            for array in session.slot(slot):
                assert not array.any()


@pytest.mark.parametrize("wrong", ["bytes", "bundle", "version", "gpu", "device"])
def test_unsuitable_engines_are_rejected_without_deserialising(
    gpu, fp32_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
):
    """The engines would work: only one entry of the sidecar, or one byte after an engine, is different."""
    import tensorrt

    engines = tmp_path / "native"
    shutil.copytree(engines_folder(fp32_bundle, "native"), engines)
    sidecar = json.loads((engines / "engines.json").read_text())
    if wrong == "bytes":
        with (engines / "memory_encoder.engine").open("ab") as file:
            file.write(b"0")
    elif wrong == "bundle":
        sidecar["engines"]["memory_encoder"]["graph_sha256"] = "0" * 64
    else:
        sidecar[{"version": "tensorrt_version", "gpu": "compute_capability", "device": "device"}[wrong]] = "another"
    (engines / "engines.json").write_text(json.dumps(sidecar))
    monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", lambda *_: pytest.fail("deserialised"))
    words = {
        "bytes": "memory_encoder.engine differs from the built engine",
        "bundle": "the engine of memory_encoder was built from another bundle",
        "version": "built by tensorrt another, but",
        "gpu": "built for another, but this GPU",
        "device": "built on another, but this GPU",
    }
    with pytest.raises(EngineError, match=f"{words[wrong]}.*stm-skeletons build"):
        Session.open(fp32_bundle, BackendOptions("tensorrt", engines=tmp_path))


def test_gpu_memory_is_sampled_during_a_session(gpu, fp32_bundle: Bundle, frames):
    with on_tensorrt(fp32_bundle) as session:
        session.step(frames[0])
        with MemorySampler(0.0, device=True, capacity=8) as sampler:
            for frame in frames[:5]:
                session.step(frame)
    in_use = sampler.samples[:, 3]
    assert np.isfinite(in_use).all()
    assert (in_use > 1).all(), "in MB, including the session's memory"
