"""Engines through the command line: whatever is wrong is one line with what to do, and nothing is left behind.

Each command is a process of its own. What needs a GPU has the simulated driver and the stand-in for TensorRT there, on
machines with a real one too: that cannot be taken away or made small.
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
# The simulated driver must be there before pycuda looks for the real one.
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
    """The one line on standard error of a command that must end with exit code 2."""
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(SAYS)
    return result.stderr.removeprefix(SAYS).rstrip("\n")


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, and its folders."""
    return {str(path): sha256(path) if path.is_file() else "" for path in folder.rglob("*")}


@pytest.fixture
def bundle(edge_bundle: Path, tmp_path: Path) -> Path:
    """A copy to write into, in a folder whose name a shell would split."""
    return Path(
        shutil.copytree(edge_bundle, tmp_path / "my bundles" / "edge", ignore=shutil.ignore_patterns("engines"))
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rebuild"], "--engines and --rebuild require --backend tensorrt"),
        (["--engines", "somewhere"], "--engines and --rebuild require --backend tensorrt"),
        (["--no-cuda-graphs"], "requires --backend tensorrt or --provider cuda"),
        (["--backend", "tensorrt", "--provider", "cuda"], "--provider applies to --backend onnxruntime only"),
    ],
)
def test_options_of_the_other_backend_are_refused(clip: Path, bundle: Path, options: list[str], said: str):
    before = contents(bundle)
    assert said in refusal(stm("run", clip, "--model", bundle, "--parts", bundle / "p.jsonl", *options))
    assert contents(bundle) == before


def test_without_pycuda_nothing_runs_on_tensorrt(clip: Path, bundle: Path):
    before = contents(bundle)
    command = ("run", clip, "--model", bundle, "--backend", "tensorrt", "--parts", bundle / "p.jsonl")
    said = refusal(stm(*command, WITHOUT="pycuda"))
    assert "pycuda is not installed" in said
    assert "pip install pycuda" in said
    assert contents(bundle) == before


@pytest.mark.gpu
def test_building_needs_no_pycuda(simulated: Stm, bundle: Path):
    result = simulated("build", bundle, "--target", "native", WITHOUT="pycuda")
    assert result.returncode == 0, result.stderr
    info = open_engines(Bundle.open(bundle), bundle / "engines" / "native").info
    assert (info.compute_capability, info.device) == ("sm87", "Orin, 16 multiprocessors")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody can write to")
def test_a_read_only_folder_of_engines_is_told_how_to_write_elsewhere(bundle: Path):
    pytest.importorskip("tensorrt_rtx", reason="needs stm-skeletons[rtx]")
    before = contents(bundle)
    said = refusal(stm("build", bundle, "--target", "sm86", "--engines", "/sys/kernel/engines"))
    assert said.startswith("cannot write /sys/kernel/engines/sm86: ")
    assert "--engines FOLDER" in said
    assert contents(bundle) == before


def test_info_lists_the_engines_and_what_the_gate_found(bundle: Path):
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
    told = info()
    assert "fp32 for Orin, 16 multiprocessors by tensorrt 10.3.0: 1.3, 1.2, 1.4 MB, hashes ok" in told
    assert "read_decoder.engine differs from the built engine" in told
    assert "F1 0.9988 compared with FP32 over 300 frames of street.mp4" in told
    (bundle / "gate.json").write_text(made_gate(keypoints=0, f1=None).model_dump_json())
    assert "no keypoints compared with FP32 over 300 frames of street.mp4" in info()
    (bundle / "gate.json").write_text("[]")
    assert "gate.json cannot be read" in info()


def test_where_only_tensorrt_rtx_is_installed_its_engines_are_taken(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundle may have come from a board with that board's engines in it."""
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
    assert find_engines(opened, "sm89").info.target == "native", "there are no others"
    add_engines(Bundle.open(bundle), "sm89", "tensorrt_rtx", "1.7.1.116")
    assert find_engines(opened, "sm89").info.target == "sm89"
    monkeypatch.setitem(sys.modules, "tensorrt", both)
    assert find_engines(opened, "sm89").info.target == "native"


@pytest.fixture(scope="session")
def simulated() -> Stm:
    """``stm`` on a simulated Jetson Orin with a stand-in for TensorRT 10.3.0, unless the keywords say otherwise."""
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
    """A copy to damage, in a folder whose name a shell would split."""
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


def cut_off(engines: Path) -> None:
    file = engines / "read_decoder.engine"
    file.write_bytes(file.read_bytes()[:-1000])


def replace_query_encoder(engines: Path, content: bytes) -> None:
    """With the right hash: as if it had been built so."""
    (engines / "query_encoder.engine").write_bytes(content)
    digest = sha256(engines / "query_encoder.engine")
    change_sidecar(engines, lambda info: info["engines"]["query_encoder"].update(sha256=digest))


def foreign(engines: Path) -> None:
    replace_query_encoder(engines, b"ftrt" + bytes(5000))


def another_graphs(engines: Path) -> None:
    replace_query_encoder(engines, (engines / "memory_encoder.engine").read_bytes())


def another_bundles(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"]["memory_encoder"].update(graph_sha256="0" * 64))


def another_boards(engines: Path) -> None:
    change_sidecar(engines, lambda info: info.update(device="Xavier"))


def lost(engines: Path) -> None:
    (engines / "memory_encoder.engine").unlink()


def without_sidecar(engines: Path) -> None:
    (engines / "engines.json").unlink()


def half_a_sidecar(engines: Path) -> None:
    file = engines / "engines.json"
    file.write_text(file.read_text()[:300])


def sidecar_without_an_engine(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"].pop("read_decoder"))


def sidecar_that_points_elsewhere(engines: Path) -> None:
    change_sidecar(engines, lambda info: info["engines"]["read_decoder"].update(file="../read_decoder.engine"))


def sidecar_of_an_unknown_target(engines: Path) -> None:
    change_sidecar(engines, lambda info: info.update(target="native; reboot"))


DAMAGES: dict[Callable[[Path], None], str] = {
    cut_off: "read_decoder.engine differs from the built engine (SHA-256 mismatch)",
    foreign: "query_encoder.engine: IRuntime::deserializeCudaEngine: Error Code 1: Serialization",
    another_graphs: "query_encoder.engine lacks tensor features_p2, but bundle.json lists features_p2 float32 ",
    another_boards: "built on Xavier, but this GPU is Orin, 16 multiprocessors",
    another_bundles: "the engine of memory_encoder was built from another bundle",
    lost: "memory_encoder.engine is missing",
    without_sidecar: "has no engines (engines.json is missing)",
    half_a_sidecar: "engines.json cannot be read",
    sidecar_without_an_engine: "engines.json is not valid: ",
    sidecar_that_points_elsewhere: "'../read_decoder.engine' must be in the engines' folder",
    sidecar_of_an_unknown_target: "unknown target 'native; reboot'",
}


@pytest.mark.gpu
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the bundle", "elsewhere"])
def test_engines_that_are_damaged_are_refused_with_the_command_that_rebuilds_them(
    simulated: Stm, with_engines: Path, clip: Path, damage: Callable[[Path], None], elsewhere: bool
):
    root, options = with_engines / "engines", []
    if elsewhere:
        root = root.rename(with_engines.parent / "engines of mine")
        options = ["--engines", str(root)]
    damage(root / "native")
    before = contents(with_engines.parent)
    said = refusal(simulated(*run_on(with_engines, clip, *options)))
    assert DAMAGES[damage] in said
    command = said[said.index("stm-skeletons build") :]
    assert shlex.split(command) == ["stm-skeletons", "build", str(with_engines), "--target", "native", *options]
    assert contents(with_engines.parent) == before


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"STANDIN_TENSORRT_VERSION": "11.1"},
            "built by tensorrt 10.3.0, but 11.1 is installed; build them again on this machine: ",
        ),
        (
            {"NULLGPU_DEVICE": "rtx3080"},
            "built for sm87, but this GPU (NVIDIA GeForce RTX 3080, 68 multiprocessors) is sm86; build for it: ",
        ),
        ({"NULLGPU_DEVICE": "none"}, "no NVIDIA GPU answers: "),
        ({"SIMULATED_DRIVER": ""}, "NVIDIA's driver is not installed"),
        ({"NULLGPU_MEM_MB": "8"}, "not enough GPU memory for the weights of query_encoder.engine (19 MB): "),
        ({"WITHOUT": "tensorrt"}, "tensorrt is not installed"),
    ],
    ids=lambda value: next(iter(value)) + "=" + next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_another_machine_is_one_line(
    simulated: Stm, with_engines: Path, clip: Path, changes: dict[str, str], said: str
):
    before = contents(with_engines)
    told = refusal(simulated(*run_on(with_engines, clip), **changes))
    assert said in told
    if "build" in said:
        assert told.endswith(f"stm-skeletons build '{with_engines}' --target native")
    assert contents(with_engines) == before


@pytest.mark.gpu
def test_what_keeps_a_build_from_starting_is_one_line(simulated: Stm, bundle: Path, tmp_path: Path):
    before = contents(tmp_path)

    def refused(*options: str | Path, **changes: str) -> str:
        said = refusal(simulated("build", bundle, "--target", "native", *options, **changes))
        assert contents(tmp_path) == before, "nothing is left"
        return said

    none = "cannot build engines for this machine's GPU: the driver is installed but no GPU responds: "
    assert refused(NULLGPU_DEVICE="none").startswith(none)
    assert "tensorrt is not installed" in refused(WITHOUT="tensorrt")
    said = refused(NULLGPU_DEVICE="rtx3080", NULLGPU_MEM_MB="10")
    assert re.search(r"building needs about \d+ MB of memory, but 10 MB are free on the GPU; stop other", said)
    said = refused("--timing-cache", tmp_path / "missing" / "cache")
    assert "missing does not exist; create it first" in said
    assert "it is a folder" in refused("--timing-cache", tmp_path)
    (tmp_path / "taken").write_text("mine")
    before = contents(tmp_path)
    said = refused("--engines", tmp_path / "taken")
    assert said.startswith(f"cannot write {tmp_path / 'taken' / 'native'}: ")
    assert said.endswith("write the engines elsewhere with --engines FOLDER")


@pytest.mark.gpu
def test_rebuild_builds_what_does_not_fit_and_leaves_what_does(simulated: Stm, with_engines: Path, clip: Path):
    engines = with_engines / "engines" / "native"
    before = contents(engines)
    fits = simulated(*run_on(with_engines, clip, "--rebuild"))
    assert (fits.returncode, fits.stderr) == (0, ""), "nothing to say"
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
    assert simulated(*run_on(with_engines, clip, "--rebuild"), **other).stderr == "", "they fit now"


@pytest.mark.gpu
def test_rebuild_that_fails_is_an_error_and_leaves_what_was_there(simulated: Stm, with_engines: Path, clip: Path):
    cut_off(with_engines / "engines" / "native")
    before = contents(with_engines)
    result = simulated(*run_on(with_engines, clip, "--rebuild"), NULLGPU_DEVICE="rtx3080", NULLGPU_MEM_MB="10")
    assert (result.returncode, result.stdout) == (2, "")
    why, error = result.stderr.splitlines()
    assert "SHA-256 mismatch" in why
    assert "building needs about" in error
    assert contents(with_engines) == before
