"""A GPU for the tests marked ``gpu``: a real one if available, otherwise the simulated driver and TensorRT.

    pytest -m gpu tests/gpu

Nothing is built or loaded before a fixture needs it. STANDIN_TENSORRT_VERSION sets the simulated TensorRT version,
NULLGPU_DEVICE the simulated board (orin).
"""

import ctypes
import gc
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from gpu_build import build_or_skip
from ungated import export_ungated

from export.engines.build import build_engines
from stm_skeletons.bundle import Bundle

HERE = Path(__file__).parent
BUNDLES_VARIABLE = "STM_SKELETONS_GPU_BUNDLES"
"""Environment variable with a folder of bundles: fp32, fp32_batch, fp16, resnet50, resnet50_batch, stm. Existing ones
are used with their engines; missing ones are created there, for a machine without PyTorch."""
# On a board, without the tools that create unusual graphs.
collect_ignore = [] if importlib.util.find_spec("onnx") else ["test_build.py"]
_LIVE = (
    "device",
    "host",
    "device_bytes",
    "streams",
    "events",
    "graphs",
    "graph_execs",
    "modules",
    "contexts",
    "primary",
)
_STAGES = ("begin", "end", "instantiate")
_OUT_OF_MEMORY = 2
_REAL = """
import pycuda.driver as cuda, tensorrt
cuda.init()
cuda.Device(0)
tensorrt.Runtime
"""


class Gpu:
    """The device under test. Tests that need the simulated driver are skipped on a real one."""

    def __init__(self, path: Path | None, python_path: list[str]) -> None:
        """
        Args:
            path: the simulated driver; None for a real one.
            python_path: folders with pycuda if it is not installed; for subprocesses.
        """
        self.library, self.python_path = path, python_path
        # Loaded globally, before pycuda is imported: the linker then uses it as pycuda's libcuda.so.1.
        library = None if path is None else ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        self._driver = library
        if library is not None:
            library.nullgpu_count.restype = library.nullgpu_call_count.restype = ctypes.c_ulong
            library.nullgpu_fallible.restype = library.nullgpu_pending.restype = ctypes.c_ulong
            library.nullgpu_live.restype = ctypes.c_long
            library.nullgpu_call_name.restype = library.nullgpu_failed.restype = ctypes.c_char_p

    @property
    def simulated(self) -> bool:
        return self._driver is not None

    @property
    def driver(self) -> ctypes.CDLL:
        """The simulated libcuda.so.1; nullgpu/nullgpu.h lists its control functions."""
        if self._driver is None:
            pytest.skip("needs the simulated driver")
        return self._driver

    def schedule(self, name: str) -> None:
        """Set when queued work runs: "eager", "lazy" (when it is waited for) or "random:SEED"."""
        assert self.driver.nullgpu_schedule(name.encode()) == 0, f"unknown schedule {name}"

    def fill(self, on: bool) -> None:
        """Set whether new memory is filled with 0xff bytes (NaN as floats)."""
        self.driver.nullgpu_fill(int(on))

    def reset(self) -> None:
        """Reset counters and faults, allow captures, fill memory with 0xff, schedule "eager"."""
        self.driver.nullgpu_reset()
        self.fill(True)
        self.schedule("eager")

    def calls(self) -> dict[str, int]:
        """Return driver calls since the last reset, by name without version; nested calls count as well."""
        found: dict[str, int] = {}
        index = 0
        while name := self.driver.nullgpu_call_name(index):
            if count := self.driver.nullgpu_call_count(index):
                plain = re.sub(r"_v\d+$", "", name.decode())
                found[plain] = found.get(plain, 0) + count
            index += 1
        return found

    def count(self, name: str) -> int:
        """Return counters since the last reset: h2d, d2h, d2d, the same with _bytes, syncs, kernels, host_functions."""
        return self.driver.nullgpu_count(name.encode())

    def pending(self) -> int:
        """Return the number of queued operations that have not run."""
        return self.driver.nullgpu_pending()

    def live(self) -> dict[str, int]:
        """Return unreleased driver objects by kind, after collecting garbage."""
        gc.collect()
        return {kind: self.driver.nullgpu_live(kind.encode()) for kind in _LIVE}

    def fail_call(self, n: int, result: int = _OUT_OF_MEMORY, sticky: bool = False) -> None:
        """Make the n-th fallible call from now return a CUresult and do nothing; sticky: all later calls too."""
        self.driver.nullgpu_fail(ctypes.c_ulong(n), result, int(sticky))

    def fallible(self) -> int:
        """Return the number of fallible calls since the last ``fail_call`` or ``reset``."""
        return self.driver.nullgpu_fallible()

    def failed(self) -> str | None:
        """Return the name of the call that was made to fail."""
        name = self.driver.nullgpu_failed()
        return None if name is None else name.decode()

    def refuse_capture(self, stage: Literal["begin", "end", "instantiate"] | None) -> None:
        """Make the driver refuse CUDA graphs at a stage."""
        self.driver.nullgpu_refuse_capture(0 if stage is None else 1 + _STAGES.index(stage))


def _has_real_gpu() -> bool:
    """Run in another process, because a loaded driver cannot be replaced by the simulated one."""
    return subprocess.run([sys.executable, "-c", _REAL], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def device() -> Gpu:
    """The GPU of this test run; afterwards ``pycuda.driver`` and ``tensorrt`` can be imported."""
    if _has_real_gpu():
        return Gpu(None, [])
    built = build_or_skip()
    os.environ.setdefault("NULLGPU_DEVICE", "orin")
    gpu = Gpu(built.library, [] if built.pycuda is None else [str(built.pycuda)])
    sys.path += gpu.python_path
    sys.path.insert(0, str(HERE / "standin"))
    # A package of type stubs may have been imported under this name.
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt"]:
        del sys.modules[name]
    importlib.import_module("pycuda.driver")
    importlib.import_module("tensorrt")
    # Freeze existing objects: ``live`` collects garbage often and need not traverse all of PyTorch each time.
    gc.collect()
    gc.freeze()
    return gpu


@pytest.fixture
def gpu(device: Gpu) -> Iterator[Gpu]:
    """The device, reset; afterwards no driver callback may have failed, and no object may remain."""
    if not device.simulated:
        yield device
        return
    failures = importlib.import_module("tensorrt.device").failures
    failures.clear()
    device.reset()
    before = device.live()
    yield device
    device.reset()
    after = device.live()
    assert not failures, failures[0]
    assert after == before, "not everything was released"


def _with_engines(name: str, bundle: Bundle) -> Bundle:
    """A new bundle with engines; if bundles are given by folder, stored there without engines."""
    if folders := os.environ.get(BUNDLES_VARIABLE):
        shutil.copytree(bundle.folder, Path(folders, name))
    build_engines(bundle, "native")
    return bundle


def _copied(bundle: Path, folder: Path) -> Bundle:
    """A copy of a bundle that other tests use without engines."""
    shutil.copytree(bundle, folder / "bundle", ignore=shutil.ignore_patterns("engines"))
    return Bundle.open(folder / "bundle")


def _given(name: str) -> Bundle | None:
    folders = os.environ.get(BUNDLES_VARIABLE)
    return Bundle.open(Path(folders, name)) if folders and Path(folders, name).is_dir() else None


@pytest.fixture(scope="session")
def edge_bundle(request: pytest.FixtureRequest) -> Path:
    """Folder of the given FP32 bundle, or of a new one."""
    bundle = _given("fp32")
    return request.getfixturevalue("edge_bundle") if bundle is None else bundle.folder


@pytest.fixture(scope="session")
def fp32_bundle(request: pytest.FixtureRequest, device: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small edge bundle in FP32 with random weights, 160x96, 4 slots, and its native engines."""
    if bundle := _given("fp32"):
        return bundle
    return _with_engines("fp32", _copied(request.getfixturevalue("edge_bundle"), tmp_path_factory.mktemp("fp32")))


@pytest.fixture(scope="session")
def fp16_bundle(
    request: pytest.FixtureRequest, device: Gpu, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The same in FP16. Weights are random; other tests check the accuracy compared with FP32."""
    if bundle := _given("fp16"):
        return bundle
    weights, folder = request.getfixturevalue("edge_weights"), tmp_path_factory.mktemp("fp16") / "edge"
    options = {"slots": 4, "every": 3, "peaks": 8}
    return _with_engines("fp16", export_ungated(weights, folder, width=160, height=96, video=str(clip), **options))


@pytest.fixture(scope="session")
def resnet50(request: pytest.FixtureRequest, device: Gpu) -> Bundle:
    """96x64, 3 slots. Its memory encoder reads the frame itself, which the next frame must not overwrite too early."""
    if bundle := _given("resnet50"):
        return bundle
    return _with_engines("resnet50", Bundle.open(request.getfixturevalue("resnet_bundle")))


@pytest.fixture(scope="session")
def fp32_batch(request: pytest.FixtureRequest, device: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """``fp32_bundle`` for batches of four cameras."""
    if bundle := _given("fp32_batch"):
        return bundle
    return _with_engines(
        "fp32_batch", _copied(request.getfixturevalue("edge_batch_bundle"), tmp_path_factory.mktemp("fp32_batch"))
    )


@pytest.fixture(scope="session")
def resnet50_batch(request: pytest.FixtureRequest, device: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """``resnet50`` for batches of two."""
    if bundle := _given("resnet50_batch"):
        return bundle
    from export.export import Options, export_bundle

    weights, folder = request.getfixturevalue("resnet_weights"), tmp_path_factory.mktemp("resnet50") / "batch"
    options = Options(width=96, height=64, slots=3, every=2, peaks=5, batch=2)
    return _with_engines("resnet50_batch", export_bundle(weights, folder, options).bundle)


@pytest.fixture(scope="session")
def stm(device: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """96x64, 3 slots: the one-map network, which has no peaks or edge scores."""
    if bundle := _given("stm"):
        return bundle
    from export.export import Options, export_bundle
    from training.model import ModelConfig, build
    from training.model.weights import save_weights

    folder = tmp_path_factory.mktemp("stm")
    save_weights(folder / "stm.safetensors", build(ModelConfig(variant="stm", width=0.25)), "random, for tests")
    options = Options(width=96, height=64, slots=3, every=2)
    return _with_engines("stm", export_bundle(folder / "stm.safetensors", folder / "stm", options).bundle)
