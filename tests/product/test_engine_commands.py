"""Engines on the command line: every error is one line that says what to do, and leaves no files behind.

Each command runs in its own process. Commands that need a GPU use the simulated driver and the stand-in for TensorRT,
even on machines with a real GPU, because that cannot be removed or made small.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from engine_files import add_engines
from gates import made_gate
from gpu_build import build_or_skip

from runtime.backends.fitting_engines import find_engines
from stm_skeletons.bundle import Bundle
from stm_skeletons.engines import open_engines
from stm_skeletons.errors import EngineError
from stm_skeletons.files import sha256

GPU_TESTS = Path(__file__).parents[1] / "gpu"
# Load the simulated driver before pycuda looks for the real one.
COMMAND = """
import ctypes, os, sys
if driver := os.environ.get("SIMULATED_DRIVER"):
    ctypes.CDLL(driver, ctypes.RTLD_GLOBAL)
for name in os.environ.get("WITHOUT", "").split():
    sys.modules[name] = None
from stm_skeletons.cli import main
main()
"""
SAYS = "stm-skeletons: "
Stm = Callable[..., subprocess.CompletedProcess[str]]


def stm(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """Return the error line of a command that has failed with exit code 2."""
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(SAYS)
    return result.stderr.removeprefix(SAYS).rstrip("\n")


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, and its folders."""
    return {str(path): sha256(path) if path.is_file() else "" for path in folder.rglob("*")}


@pytest.fixture
def bundle(edge_bundle: Path, tmp_path: Path) -> Path:
    """A writable copy, in a folder with a space in its name."""
    return Path(
        shutil.copytree(edge_bundle, tmp_path / "my bundles" / "edge", ignore=shutil.ignore_patterns("engines"))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rebuild"], "--engines and --rebuild require --backend tensorrt"),
        (["--engines", "somewhere"], "--engines and --rebuild require --backend tensorrt"),
        (["--no-cuda-graphs"], "requires --backend tensorrt or --provider cuda"),
        (["--backend", "tensorrt", "--provider", "cuda"], "--provider applies to --backend onnxruntime only"),
    ],
)
def test_options_of_other_backends_are_rejected(clip: Path, bundle: Path, options: list[str], message: str):
    before = contents(bundle)
    assert message in refusal(stm("run", clip, "--model", bundle, "--parts", bundle / "p.jsonl", *options))
    assert contents(bundle) == before


def test_tensorrt_without_pycuda_is_an_error(clip: Path, bundle: Path):
    before = contents(bundle)
    command = ("run", clip, "--model", bundle, "--backend", "tensorrt", "--parts", bundle / "p.jsonl")
    message = refusal(stm(*command, WITHOUT="pycuda"))
    assert "pycuda is not installed" in message
    assert "pip install pycuda" in message
    assert contents(bundle) == before


@pytest.mark.gpu
def test_building_needs_no_pycuda(simulated: Stm, bundle: Path):
    result = simulated("build", bundle, "--target", "native", WITHOUT="pycuda")
    assert result.returncode == 0, result.stderr
    info = open_engines(Bundle.open(bundle), bundle / "engines" / "native").info
    assert (info.compute_capability, info.device) == ("sm87", "Orin, 16 multiprocessors")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root cannot write to")
def test_error_for_a_read_only_engines_folder_suggests_another(bundle: Path):
    pytest.importorskip("tensorrt_rtx", reason="needs stm-skeletons[rtx]")
    before = contents(bundle)
    message = refusal(stm("build", bundle, "--target", "sm86", "--engines", "/sys/kernel/engines"))
    assert message.startswith("cannot write /sys/kernel/engines/sm86: ")
    assert "--engines FOLDER" in message
    assert contents(bundle) == before


def test_info_lists_the_engines_and_the_gates_result(bundle: Path):
    def info() -> str:
        result = stm("info", bundle, COLUMNS="400")
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    assert "engines native" not in info()
    assert "compared with FP32" not in info()
    add_engines(Bundle.open(bundle), "native", "tensorrt", "10.3.0", "Orin, 16 multiprocessors")
    damaged = add_engines(Bundle.open(bundle), "sm89", "tensorrt_rtx", "1.7.1.116")
    (damaged / "read_decoder.engine").write_bytes(b"cut")
    (bundle / "gate.json").write_text(made_gate(f1=0.99876).model_dump_json())
    printed = info()
    assert "fp32 for Orin, 16 multiprocessors by tensorrt 10.3.0: 1.3, 1.2, 1.4 MB, hashes ok" in printed
    assert "read_decoder.engine differs from the built engine" in printed
    assert "F1 0.9988 compared with FP32 over 300 frames of street.mp4" in printed
    (bundle / "gate.json").write_text(made_gate(keypoints=0, f1=None).model_dump_json())
    assert "no keypoints compared with FP32 over 300 frames of street.mp4" in info()
    (bundle / "gate.json").write_text("[]")
    assert "gate.json cannot be read" in info()


def test_engines_of_the_installed_tensorrt_package_are_used(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundle may come from a board and still contain the board's engines."""
    opened = Bundle.open(bundle)
    rtx, both = ModuleType("tensorrt_rtx"), ModuleType("tensorrt")
    rtx.Runtime = both.Runtime = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"has no engines .*; build them: .* --target sm89$"):
        find_engines(opened, "sm89")
    with pytest.raises(EngineError, match=r" --target native$"):
        find_engines(opened, "sm87")
    add_engines(Bundle.open(bundle), "native", "tensorrt", "10.3.0", "Orin, 16 multiprocessors")
    assert find_engines(opened, "sm89").info.target == "native", "there are no other engines"
    add_engines(Bundle.open(bundle), "sm89", "tensorrt_rtx", "1.7.1.116")
    assert find_engines(opened, "sm89").info.target == "sm89"
    monkeypatch.setitem(sys.modules, "tensorrt", both)
    assert find_engines(opened, "sm89").info.target == "native"


@pytest.fixture(scope="session")
def simulated() -> Stm:
    """``stm`` on a simulated Jetson Orin with a stand-in for TensorRT 10.3.0; keywords change the environment."""
    built = build_or_skip()
    folders = [str(GPU_TESTS / "standin"), *([] if built.pycuda is None else [str(built.pycuda)])]
    defaults = {
        "SIMULATED_DRIVER": str(built.library),
        "PYTHONPATH": os.pathsep.join(folders),
        "NULLGPU_DEVICE": "orin",
        "STANDIN_TENSORRT_VERSION": "10.3.0",
    }

    def run(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return stm(*arguments, **{**defaults, **changes})

    return run


@pytest.fixture(scope="session")
def built_bundle(simulated: Stm, edge_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with native engines of the simulated Orin."""
    folder = tmp_path_factory.mktemp("built") / "edge"
    shutil.copytree(edge_bundle, folder, ignore=shutil.ignore_patterns("engines"))
    result = simulated("build", folder, "--target", "native")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def with_engines(built_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage, in a folder with a space in its name."""
    return Path(shutil.copytree(built_bundle, tmp_path / "my bundles" / "edge"))


def run_on(model: Path, clip: Path, *options: str | Path) -> list[str | Path]:
    """A short run on TensorRT that writes into the model's own folder."""
    arguments: list[str | Path] = ["run", clip, "--model", model, "--backend", "tensorrt", "--max-frames", "2"]
    return [*arguments, "--parts", model / "parts.jsonl", "--force", "--quiet", *options]


def change_sidecar(engines: Path, change: Callable[[dict], None]) -> None:
    file = engines / "engines.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def truncate_engine(engines: Path) -> None:
    file = engines / "read_decoder.engine"
    file.write_bytes(file.read_bytes()[:-1000])


def replace_query_encoder(engines: Path, content: bytes) -> None:
    """Update the hash too, as if the engine had been built that way."""
    (engines / "query_encoder.engine").write_bytes(content)
    digest = sha256(engines / "query_encoder.engine")
    change_sidecar(engines, lambda info: info["engines"]["query_encoder"].update(sha256=digest))


def write_foreign_engine(engines: Path) -> None:
    replace_query_encoder(engines, b"ftrt" + bytes(5000))


def swap_engines(engines: Path) -> None:
    replace_query_encoder(engines, (engines / "memory_encoder.engine").read_bytes())


def change_graph_hash(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"]["memory_encoder"].update(graph_sha256="0" * 64))


def change_board(engines: Path) -> None:
    change_sidecar(engines, lambda info: info.update(device="Xavier"))


def delete_engine(engines: Path) -> None:
    (engines / "memory_encoder.engine").unlink()


def delete_sidecar(engines: Path) -> None:
    (engines / "engines.json").unlink()


def truncate_sidecar(engines: Path) -> None:
    file = engines / "engines.json"
    file.write_text(file.read_text()[:300])


def remove_engine_from_sidecar(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"].pop("read_decoder"))


def point_sidecar_elsewhere(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"]["read_decoder"].update(file="../read_decoder.engine"))


def set_unknown_target(engines: Path) -> None:
    change_sidecar(engines, lambda info: info.update(target="native; reboot"))


DAMAGES: dict[Callable[[Path], None], str] = {
    truncate_engine: "read_decoder.engine differs from the built engine (SHA-256 mismatch)",
    write_foreign_engine: "query_encoder.engine: IRuntime::deserializeCudaEngine: Error Code 1: Serialization",
    swap_engines: "query_encoder.engine lacks tensor features_p2, but bundle.json lists features_p2 float32 ",
    change_board: "built on Xavier, but this GPU is Orin, 16 multiprocessors",
    change_graph_hash: "the engine of memory_encoder was built from another bundle",
    delete_engine: "memory_encoder.engine is missing",
    delete_sidecar: "has no engines (engines.json is missing)",
    truncate_sidecar: "engines.json cannot be read",
    remove_engine_from_sidecar: "engines.json is not valid: ",
    point_sidecar_elsewhere: "'../read_decoder.engine' must be in the engines' folder",
    set_unknown_target: "unknown target 'native; reboot'",
}


@pytest.mark.gpu
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the bundle", "elsewhere"])
def test_damaged_engines_are_rejected_with_the_rebuild_command(
    simulated: Stm, with_engines: Path, clip: Path, damage: Callable[[Path], None], elsewhere: bool
):
    root, options = with_engines / "engines", []
    if elsewhere:
        root = root.rename(with_engines.parent / "engines of mine")
        options = ["--engines", str(root)]
    damage(root / "native")
    before = contents(with_engines.parent)
    message = refusal(simulated(*run_on(with_engines, clip, *options)))
    assert DAMAGES[damage] in message
    command = message[message.index("stm-skeletons build") :]
    assert shlex.split(command) == ["stm-skeletons", "build", str(with_engines), "--target", "native", *options]
    assert contents(with_engines.parent) == before


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"STANDIN_TENSORRT_VERSION": "11.1"},
            "built by tensorrt 10.3.0, but 11.1 is installed; build them again on this machine: ",
        ),
        (
            {"NULLGPU_DEVICE": "rtx3080"},
            "built for sm87, but this GPU (NVIDIA GeForce RTX 3080, 68 multiprocessors) is sm86; build for it: ",
        ),
        ({"NULLGPU_DEVICE": "none"}, "no NVIDIA GPU responds: "),
        ({"SIMULATED_DRIVER": ""}, "no NVIDIA driver"),
        ({"NULLGPU_MEM_MB": "8"}, "not enough GPU memory for the weights of query_encoder.engine (19 MB): "),
        ({"WITHOUT": "tensorrt"}, "tensorrt is not installed"),
    ],
    ids=lambda value: next(iter(value)) + "=" + next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_unsuitable_machine_is_reported_in_one_line(
    simulated: Stm, with_engines: Path, clip: Path, changes: dict[str, str], message: str
):
    before = contents(with_engines)
    error = refusal(simulated(*run_on(with_engines, clip), **changes))
    assert message in error
    if "build" in message:
        assert error.endswith(f"stm-skeletons build '{with_engines}' --target native")
    assert contents(with_engines) == before


@pytest.mark.gpu
def test_build_that_cannot_start_is_reported_in_one_line(simulated: Stm, bundle: Path, tmp_path: Path):
    before = contents(tmp_path)

    def refused(*options: str | Path, **changes: str) -> str:
        message = refusal(simulated("build", bundle, "--target", "native", *options, **changes))
        assert contents(tmp_path) == before, "no files are left behind"
        return message

    none = "cannot build engines for this machine's GPU: the driver is installed but no GPU responds: "
    assert refused(NULLGPU_DEVICE="none").startswith(none)
    assert "tensorrt is not installed" in refused(WITHOUT="tensorrt")
    message = refused(NULLGPU_DEVICE="rtx3080", NULLGPU_MEM_MB="10")
    assert re.search(r"building needs about \d+ MB of memory, but 10 MB are free on the GPU; stop other", message)
    message = refused("--timing-cache", tmp_path / "missing" / "cache")
    assert "missing does not exist; create it first" in message
    assert "it is a folder" in refused("--timing-cache", tmp_path)
    (tmp_path / "taken").write_text("mine")
    before = contents(tmp_path)
    message = refused("--engines", tmp_path / "taken")
    assert message.startswith(f"cannot write {tmp_path / 'taken' / 'native'}: ")
    assert message.endswith("write the engines elsewhere with --engines FOLDER")


@pytest.mark.gpu
def test_rebuild_replaces_only_unsuitable_engines(simulated: Stm, with_engines: Path, clip: Path):
    engines = with_engines / "engines" / "native"
    before = contents(engines)
    fits = simulated(*run_on(with_engines, clip, "--rebuild"))
    assert (fits.returncode, fits.stderr) == (0, ""), "prints nothing"
    assert contents(engines) == before
    other = {"NULLGPU_DEVICE": "rtx3080", "STANDIN_TENSORRT_VERSION": "11.1"}
    rebuilt = simulated(*run_on(with_engines, clip, "--rebuild"), **other)
    assert rebuilt.returncode == 0, rebuilt.stderr
    first, *_, last = rebuilt.stderr.splitlines()
    assert "built by tensorrt 10.3.0, but 11.1 is installed" in first
    assert first.endswith("(building now)")
    assert last == f"{SAYS}wrote {engines} (engines built but not run)"
    info = open_engines(Bundle.open(with_engines), engines).info
    assert (info.tensorrt_version, info.compute_capability) == ("11.1", "sm86")
    assert len((with_engines / "parts.jsonl").read_text().splitlines()) == 2
    assert simulated(*run_on(with_engines, clip, "--rebuild"), **other).stderr == "", "the engines fit now"


@pytest.mark.gpu
def test_failed_rebuild_is_an_error_and_keeps_the_old_files(simulated: Stm, with_engines: Path, clip: Path):
    truncate_engine(with_engines / "engines" / "native")
    before = contents(with_engines)
    result = simulated(*run_on(with_engines, clip, "--rebuild"), NULLGPU_DEVICE="rtx3080", NULLGPU_MEM_MB="10")
    assert (result.returncode, result.stdout) == (2, "")
    why, error = result.stderr.splitlines()
    assert "SHA-256 mismatch" in why
    assert "building needs about" in error
    assert contents(with_engines) == before
