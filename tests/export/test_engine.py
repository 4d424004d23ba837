"""The builder with the real TensorRT-RTX compiler. Engines are built here, never run."""

import ast
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from pace import slowdown
from ungated import export_ungated

from benchmarks.predict.count import kernels
from export.engines.build import build_engines
from export.engines.compile import Settings, compile_graph
from export.engines.log import failed_node, layer_name, layer_table, planned_activations
from export.engines.memory_check import check_memory, needed_bytes
from runtime.gpu import GpuInfo, NoGpu
from runtime.machine import DiskSwap, SystemMemory, is_jetson
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.engines import RTX_TARGETS, open_engines
from stm_skeletons.errors import BackendError, ExportError
from stm_skeletons.files import sha256

pytest.importorskip("tensorrt_rtx", reason="needs stm-skeletons[rtx]")

ROOT = Path(__file__).parents[2]
API_FILE = ROOT / "tests" / "gpu" / "tensorrt-python-api.json"
MAX_BUILD_SECONDS = 5
"""Maximum build time of an engine."""
ORIN = GpuInfo("Orin", "sm87", "12.6", 8 << 30, integrated=True)
RTX = GpuInfo("RTX", "sm86", "12.6", 8 << 30, integrated=False)


def slow(value: str):
    """Quick tests build one of each kind; ``-m slow`` builds all."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def make_fp16_bundle(request: pytest.FixtureRequest, clip: Path, tmp_path_factory: pytest.TempPathFactory):
    """Make small FP16 bundles with random weights, one per variant. Other tests check their precision."""
    bundles: dict[str, Bundle] = {}

    def make(variant: str) -> Bundle:
        if variant not in bundles:
            weights = request.getfixturevalue("edge_weights" if variant == "edge" else "resnet_weights")
            width, height = (160, 96) if variant == "edge" else (96, 64)
            folder, options = tmp_path_factory.mktemp("fp16") / variant, {"slots": 4, "every": 3, "peaks": 8}
            bundles[variant] = export_ungated(weights, folder, width=width, height=height, video=str(clip), **options)
        return bundles[variant]

    return make


@pytest.fixture
def edge_copy(edge_bundle: Path, tmp_path: Path) -> Path:
    """A writable copy of the edge bundle."""
    return Path(shutil.copytree(edge_bundle, tmp_path / "edge", ignore=shutil.ignore_patterns("engines")))


def replace_graph(bundle: Path, name: str, model: onnx.ModelProto | bytes) -> None:
    """Replace a graph and its hash in bundle.json, as another exporter could have done."""
    file = bundle / f"{name}.onnx"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    description = json.loads((bundle / "bundle.json").read_text())
    description["graphs"][name]["sha256"] = sha256(file)
    (bundle / "bundle.json").write_text(json.dumps(description))


def graph_of(operator: str) -> onnx.ModelProto:
    """frame -> cast -> operator -> query_key."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["full"], "/cast", to=TensorProto.FLOAT),
        helper.make_node(operator, ["full"], ["query_key"], "/odd/one"),
    ]
    inputs = [helper.make_tensor_value_info("frame", TensorProto.UINT8, [96, 160, 3])]
    outputs = [helper.make_tensor_value_info("query_key", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "odd", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("target", ["sm86", slow("sm89"), slow("sm120")])
@pytest.mark.parametrize("name", ["edge_bundle", slow("resnet_bundle")])
def test_every_graph_builds_and_its_sidecar_opens(
    name: str, target: str, request: pytest.FixtureRequest, tmp_path: Path
):
    bundle = Bundle.open(request.getfixturevalue(name))
    report = build_engines(bundle, target, tmp_path)
    engines = open_engines(bundle, tmp_path / target)
    info = engines.info
    assert (info.package, info.target, info.compute_capability, info.device) == ("tensorrt_rtx", target, target, None)
    assert (info.precision, info.flags) == ("fp32", ("STRONGLY_TYPED", "no TF32"))
    max_seconds = MAX_BUILD_SECONDS * slowdown()
    for graph in GRAPH_NAMES:
        spec = info.engines[graph]
        assert spec.seconds < max_seconds
        assert spec.layers_after is not None
        assert 0 < spec.layers_after < spec.layers_before
        assert len(report.layers[graph]) == spec.layers_after
        for output in bundle.info.graphs[graph].outputs:
            assert [line for line in report.layers[graph] if f"Name: {output.name}, Dimensions" in line], (
                "the output is computed"
            )
        assert spec.activation_bytes is not None
        assert spec.activation_bytes > 0
        assert engines.engine_file(graph).stat().st_size == spec.bytes > 10_000
    names = sorted(file.name for file in (tmp_path / target).iterdir())
    assert names == ["engines.json", *sorted(f"{graph}.engine" for graph in GRAPH_NAMES)]
    assert report.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm75", "sm86", "sm89", "sm120"])
def test_memory_read_of_resnet50_in_fp16_is_one_fused_attention_kernel(make_fp16_bundle, target: str, tmp_path: Path):
    bundle = make_fp16_bundle("resnet50")
    report = build_engines(bundle, target, tmp_path)
    check_fp16(bundle, tmp_path / target)
    table = report.layers["read_decoder"]
    assert len([line for line in table if "_gemm_mha" in layer_name(line)]) == 1
    softmax = [layer_name(line) for line in table if "/Softmax]" in line]
    assert len(softmax) == 1
    assert "_gemm_mha" in softmax[0]


@pytest.mark.slow
def test_memory_read_in_fp32_is_not_fused(resnet_bundle: Path, tmp_path: Path):
    """Shows that the test above does not pass for every layer table."""
    table = build_engines(Bundle.open(resnet_bundle), "sm86", tmp_path).layers["read_decoder"]
    assert not [line for line in table if "_gemm_mha" in layer_name(line)]
    assert [line for line in table if "/Softmax]" in line]


@pytest.mark.parametrize("target", ["sm75", slow("sm86"), slow("sm89"), slow("sm120")])
def test_memory_read_of_edge_in_fp16_has_the_expected_kernels(make_fp16_bundle, target: str, tmp_path: Path):
    bundle = make_fp16_bundle("edge")
    report = build_engines(bundle, target, tmp_path)
    check_fp16(bundle, tmp_path / target)
    check_memory_read_of_edge(report.layers["read_decoder"])


@pytest.mark.parametrize("target", ["sm86", slow("sm89"), slow("sm120")])
def test_edge_in_fp32_builds_although_it_is_made_for_cpus(edge_bundle: Path, target: str, tmp_path: Path):
    """With matrix products in place of sums and GridSample."""
    table = build_engines(Bundle.open(edge_bundle), target, tmp_path).layers["read_decoder"]
    assert len([line for line in table if "LayerType: gemm" in line]) > 1
    assert not [line for line in table if "/GridSample" in line]


def check_fp16(bundle: Bundle, engines: Path) -> None:
    info = open_engines(bundle, engines).info
    assert info.precision == "fp16"
    max_seconds = MAX_BUILD_SECONDS * slowdown()
    assert all(spec.seconds < max_seconds for spec in info.engines.values())


def check_memory_read_of_edge(table: list[str]) -> None:
    """Matching is the only matrix product. Its softmax kernel also gives its confidence; one search the best place."""
    (product,) = (line for line in table if "LayerType: gemm" in line)
    assert "/MatMul]" in product
    (softmax,) = (line for line in table if "[ONNX Layer: /Softmax]" in line)
    assert "LayerType: kgen" in softmax
    assert softmax.count("[ONNX Layer: /ReduceSum") == 1
    (search,) = (line for line in table if "[ONNX Layer: /ArgMax]" in line)
    assert "LayerType: kgen" in search
    samplings = [line for line in table if "/GridSample" in line]
    assert ["LayerType: kgen" in line for line in samplings] == [True, True]


def test_predicted_number_of_kernels_is_close_to_the_compilers(make_fp16_bundle, tmp_path: Path):
    """For FP16, as on GPUs. The prediction is too high for several small steps on the same values, as within a cell."""
    bundle = make_fp16_bundle("edge")
    layers = build_engines(bundle, "sm86", tmp_path).layers
    names = [layer_name(line) for name in GRAPH_NAMES for line in layers[name]]
    real = [name for name in names if not name.startswith(("__mye", "exit^", "entry^"))]  # the rest is bookkeeping
    counted = sum(len(kernels(onnx.load(bundle.graph_file(name)))) for name in GRAPH_NAMES)
    assert counted == pytest.approx(len(real), rel=0.4)


def test_engines_are_written_into_the_bundle_by_default(edge_copy: Path):
    build_engines(Bundle.open(edge_copy), "sm121")
    assert open_engines(Bundle.open(edge_copy), edge_copy / "engines" / "sm121").info.target == "sm121"


def test_turing_accepts_only_fp16(edge_bundle: Path, tmp_path: Path):
    with pytest.raises(ExportError, match=r"has precision fp32.*sm75.*--precision fp16"):
        build_engines(Bundle.open(edge_bundle), "sm75", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("sm87", r"run --target jetson on the board"),
        ("jetson", r"not a Jetson.*--target native.*sm86"),
        ("sm90", r"unknown target 'sm90'; choose one of: jetson, native, sm75"),
        ("../etc", r"unknown target '\.\./etc'"),
    ],
)
def test_targets_that_cannot_be_built_here_are_refused(edge_bundle: Path, target: str, message: str):
    assert not is_jetson()
    with pytest.raises(ExportError, match=message):
        build_engines(Bundle.open(edge_bundle), target)
    assert not (edge_bundle / "engines").exists()


def test_missing_package_is_named(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendError, match=r"tensorrt_rtx is not installed.*pip install 'stm-skeletons\[rtx\]'"):
        build_engines(Bundle.open(edge_bundle), "sm86")


@pytest.mark.parametrize("operator", ["NonZero", "Unique"])
def test_operator_missing_in_tensorrt_is_named(edge_copy: Path, operator: str):
    replace_graph(edge_copy, "query_encoder", graph_of(operator))
    with pytest.raises(
        ExportError, match=rf"query_encoder\.onnx: node /odd/one \({operator}\).*lacks this operator"
    ) as error:
        build_engines(Bundle.open(edge_copy), "sm86")
    assert "\n" not in str(error.value)
    assert not (edge_copy / "engines").exists()


def test_file_without_a_graph_is_refused(edge_copy: Path):
    replace_graph(edge_copy, "memory_encoder", b"no graph at all")
    with pytest.raises(ExportError, match=r"memory_encoder\.onnx: .*rejects it.*export the bundle again"):
        build_engines(Bundle.open(edge_copy), "sm86")


def test_graph_with_unexpected_tensors_is_refused(edge_copy: Path):
    replace_graph(edge_copy, "query_encoder", graph_of("Relu"))
    with pytest.raises(ExportError, match=r"TensorRT finds no output .*, but bundle.json lists|has no"):
        build_engines(Bundle.open(edge_copy), "sm86")


@pytest.mark.parametrize(("field", "value", "shown"), [("shape", (60, 63), "60, 63"), ("dtype", "float16", "float16")])
def test_graph_with_unexpected_shapes_or_types_is_refused(edge_bundle: Path, field: str, value, shown: str):
    bundle = Bundle.open(edge_bundle)
    graph = bundle.info.graphs["memory_encoder"]
    first, *rest = graph.outputs
    other = graph.model_copy(update={"outputs": (first.model_copy(update={field: value}), *rest)})
    settings = Settings("tensorrt_rtx", "fp32", "sm86", None)
    with pytest.raises(ExportError, match=rf"TensorRT finds output memory_key float32 .*lists memory_key .*{shown}"):
        compile_graph(
            bundle.graph_file("memory_encoder"), other, settings, b"", lambda _a, _b, _c: None, threading.Event()
        )


def test_failed_build_keeps_the_existing_engines(edge_copy: Path, tmp_path: Path):
    build_engines(Bundle.open(edge_copy), "sm86", tmp_path / "built")
    before = {file.name: sha256(file) for file in (tmp_path / "built" / "sm86").iterdir()}
    replace_graph(edge_copy, "memory_encoder", graph_of("NonZero"))
    with pytest.raises(ExportError):
        build_engines(Bundle.open(edge_copy), "sm86", tmp_path / "built")
    assert {file.name: sha256(file) for file in (tmp_path / "built" / "sm86").iterdir()} == before
    assert [file.name for file in (tmp_path / "built").iterdir()] == ["sm86"]


def test_unwritable_folder_is_reported_in_one_line(edge_copy: Path, monkeypatch: pytest.MonkeyPatch):
    (edge_copy / "engines").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot write .*; write the engines elsewhere with --engines FOLDER"):
        build_engines(Bundle.open(edge_copy), "sm86")
    assert (edge_copy / "engines").read_text() == "in the way"


def test_full_disk_leaves_no_files(edge_copy: Path, monkeypatch: pytest.MonkeyPatch):
    write = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if path.name == "read_decoder.engine":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ExportError, match=r"No space left on device; write the engines elsewhere"):
        build_engines(Bundle.open(edge_copy), "sm86", edge_copy / "engines" / "of" / "mine")
    assert not (edge_copy / "engines").exists()


def test_stopped_build_ends_at_once_and_leaves_no_files(edge_copy: Path):
    stop = threading.Event()
    steps = []

    def step(phase: str, done: int, total: int) -> None:
        steps.append((phase, done, total))
        stop.set()

    with pytest.raises(KeyboardInterrupt):
        build_engines(Bundle.open(edge_copy), "sm86", step=step, stop=stop)
    assert not (edge_copy / "engines").exists()
    assert steps
    assert all(0 <= done <= total for _, done, total in steps)


def test_workspace_size_is_recorded_and_checked(edge_bundle: Path, tmp_path: Path):
    bundle = Bundle.open(edge_bundle)
    assert build_engines(bundle, "sm86", tmp_path, workspace_mb=64).engines.info.workspace_mb == 64
    with pytest.raises(ExportError, match=r"--workspace-mb is 0, must be between"):
        build_engines(bundle, "sm86", tmp_path, workspace_mb=0)


def test_timing_cache_is_ignored_when_building_ahead_of_time(edge_bundle: Path, tmp_path: Path):
    warnings: list[str] = []
    build_engines(Bundle.open(edge_bundle), "sm86", tmp_path, timing_cache=tmp_path / "cache", warn=warnings.append)
    assert [text.partition(":")[0] for text in warnings] == ["--timing-cache is ignored"]
    assert not (tmp_path / "cache").exists()


def test_low_memory_is_reported_before_the_build(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = Bundle.open(edge_bundle)
    needed = needed_bytes(bundle)

    def with_free(available: int, swap: int) -> str | None:
        monkeypatch.setattr("export.engines.memory_check.system_memory", lambda: SystemMemory(8 << 30, available))
        monkeypatch.setattr("export.engines.memory_check.disk_swap", lambda: DiskSwap(8 << 30, swap))
        return check_memory(bundle, ORIN, 512)

    both = needed.device + needed.host
    assert with_free(both + (513 << 20), 0) is None
    for available in (both + (500 << 20), needed.device + 1):
        warning = with_free(available, both)
        assert warning is not None
        assert "sudo swapon" in warning
        assert "\n" not in warning
    with pytest.raises(ExportError, match=r"needs about 1\.\d GB of memory, but 1\.\d GB are free including .*swapon"):
        with_free(needed.device + 1, needed.host // 2)
    with pytest.raises(
        ExportError, match=r"needs about 1\.\d GB .*free without swap, which a GPU cannot use; stop other"
    ):
        with_free(needed.device - 1, 8 << 30)
    monkeypatch.setattr("export.engines.memory_check.system_memory", lambda: None)
    with pytest.raises(ExportError, match="does not report how much memory is free"):
        check_memory(bundle, ORIN, 512)


def test_low_memory_of_a_graphics_card_is_reported_before_the_build(edge_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = Bundle.open(edge_bundle)

    def with_free(free: int) -> str | None:
        monkeypatch.setattr("export.engines.memory_check.device_memory", lambda: (free, 8 << 30))
        return check_memory(bundle, RTX, None)

    assert with_free(8 << 30) is None
    with pytest.raises(ExportError, match="free on the GPU; stop other programs on it"):
        with_free(1 << 20)


def test_unavailable_gpu_is_reported_in_one_line(edge_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_gpu() -> GpuInfo:
        raise NoGpu("no driver")

    monkeypatch.setattr("export.engines.build.find_gpu", no_gpu)
    with pytest.raises(ExportError, match=r"^cannot build engines for this machine's GPU: no driver$"):
        build_engines(Bundle.open(edge_bundle), "native", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_layers_memory_and_failed_node_are_read_from_the_log():
    table = (
        "Layers:\nName: a + b, LayerType: kgen, Metadata: [ONNX Layer: /a]\n"
        "Name: _gemm_mha_v2, LayerType: kgen, Inputs: []\n\nBindings:\nx\ny"
    )
    lines = layer_table(["noise", table])
    assert [layer_name(line) for line in lines] == ["a + b", "_gemm_mha_v2"]
    assert layer_table(["noise"]) == []
    assert planned_activations(["Total Activation Memory: 1024 bytes", "x"]) == 1024
    assert planned_activations(["x"]) is None
    older = [
        'While parsing node number 7 [NonZero -> "y"]:',
        '--- Begin node ---\ninput: "x"\nname: "/n"\nop_type: "N"',
    ]
    assert failed_node(older) == ("/n", "NonZero")
    assert failed_node(["nothing"]) == ("", "")


def test_build_command_runs_without_torch_and_onnx(edge_bundle: Path, tmp_path: Path):
    """As on a board: importing any of them fails."""
    blocked = "; ".join(
        f"sys.modules[{name!r}] = None" for name in ("torch", "onnx", "onnxslim", "safetensors", "scipy")
    )
    code = f"import sys; {blocked}; from stm_skeletons.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, "build", str(edge_bundle), "--engines", str(tmp_path)]
    result = subprocess.run([*command, "--target", "sm89"], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (result.returncode, result.stdout) == (0, "")
    *graphs, last = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in graphs] == list(GRAPH_NAMES)
    assert last == f"stm-skeletons: wrote {tmp_path / 'sm89'} (engines built but not run)"
    refused = subprocess.run([*command, "--target", "sm87"], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1


def test_every_target_exists_in_tensorrt_rtx():
    import tensorrt_rtx

    capabilities = getattr(tensorrt_rtx, "ComputeCapability", None)
    assert all(hasattr(capabilities, target.upper()) for target in RTX_TARGETS)


def modules_using_tensorrt() -> list[Path]:
    """Return every module of the board that imports TensorRT or gets its objects."""
    files = [*sorted((ROOT / "export" / "engines").glob("*.py")), *sorted((ROOT / "runtime").rglob("*.py"))]
    return [file for file in files if "import_tensorrt" in file.read_text() or "import tensorrt" in file.read_text()]


def unguarded_names(source: str) -> set[str]:
    """Return names of TensorRT that some supported version lacks, used without ``getattr(x, "name", None)``."""
    versions = json.loads(API_FILE.read_text())
    names = [{*classes, *(name for members in classes.values() for name in members)} for classes in versions.values()]
    # The list has these names only for 8.6.1, but 10.13's stubs and tensorrt_rtx have them too.
    somewhere_missing = set.union(*names) - set.intersection(*names) - {"ILogger", "name", "value", "itemsize"}
    tree = ast.parse(source)
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & somewhere_missing
    # Names of the module itself must also be guarded unless all versions list them.
    classes = set.intersection(*(set(version) for version in versions.values())) | {"ILogger", "__version__"}
    modules = {"tensorrt", "trt", "module"}
    return (
        found
        | {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        }
        - classes
    )


@pytest.mark.parametrize("file", modules_using_tensorrt(), ids=lambda file: file.name)
def test_names_missing_in_a_supported_tensorrt_version_are_guarded(file: Path):
    assert unguarded_names(file.read_text(encoding="utf-8")) == set()


def test_check_of_names_finds_unguarded_ones():
    names = {file.name for file in modules_using_tensorrt()}
    assert {"build.py", "compile.py", "tensorrt_module.py", "engine_runner.py", "loaded_engines.py"} <= names
    assert unguarded_names("config.max_workspace_size = 1") == {"max_workspace_size"}
    assert unguarded_names("flags.set_flag(tensorrt.BuilderFlag.FP16)") == {"FP16"}
    assert unguarded_names("class M(tensorrt.IProgressMonitor): pass") == {"IProgressMonitor"}
    assert unguarded_names("engine.device_memory_size") == {"device_memory_size"}
    assert unguarded_names("getattr(engine, 'device_memory_size', None); tensorrt.Runtime(log)") == set()
