"""Builds one TensorRT engine from one ONNX graph, with ``tensorrt`` 8.6, 10 and 11, and with ``tensorrt_rtx``.

Names that some versions lack are read with ``getattr(x, "name", None)``; a test enforces that.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.engines.graph_bytes import float_types, with_plain_weights
from export.engines.islands import has_strong_typing, hold_fp32_layers
from export.engines.log import BuildLog, failed_node, in_one_line, layer_table, planned_activations
from runtime.tensorrt_module import activation_bytes, describe_tensor, import_tensorrt, shared_logger
from stm_skeletons.bundle import GraphSpec
from stm_skeletons.engines import Package
from stm_skeletons.errors import ExportError, one_line

if TYPE_CHECKING:
    import tensorrt as trt

Step = Callable[[str, int, int], None]
"""Called with the build's progress: phase, steps done, total steps."""


@dataclass(frozen=True)
class Settings:
    """Settings for the graphs of one bundle."""

    package: Package
    precision: str
    """The bundle's: "fp32" or "fp16"."""
    compute_capability: str | None
    """Target of an ahead-of-time build, such as "sm86"; None builds for this machine's GPU."""
    workspace_mb: int | None
    """Limit for a layer's scratch memory; None leaves it to TensorRT."""


@dataclass(frozen=True)
class Compiled:
    """An engine in memory, and what TensorRT reported about it."""

    plan: memoryview
    """A view of TensorRT's own memory: engines are large, and boards have little memory."""
    layers_before: int
    layers_after: int | None
    layers: list[str]
    """Lines of the layer table after fusion; empty if TensorRT gives none."""
    activation_bytes: int | None
    seconds: float
    flags: tuple[str, ...]
    timing_cache: bytes
    """The cache after this build; empty if there is none."""
    notes: tuple[str, ...]
    """Notes for the user."""


def compile_graph(
    file: Path, graph: GraphSpec, settings: Settings, timing_cache: bytes, step: Step, stop: threading.Event
) -> Compiled:
    """Parse a graph, check it against the bundle, and build its engine.

    Args:
        file: the ONNX graph.
        graph: its inputs and outputs as listed in bundle.json.
        settings: package, types, limits.
        timing_cache: a serialised timing cache, or empty.
        step: called with progress, from any thread.
        stop: when set, the build stops at TensorRT's next step; before TensorRT 10, after the build.

    Raises:
        ExportError: the parser or the builder rejects the graph, or its tensors do not match the bundle.
        BackendError: the package is not installed.
        KeyboardInterrupt: ``stop`` was set.
    """
    log = BuildLog()
    with shared_logger(settings.package).forwarded_to(log.record):
        compiled = _build(file, graph, settings, timing_cache, step, stop, log)
        # Builder, network, parser and configuration are released by now: the engine may need their memory.
        about = _read_log(log) if settings.compute_capability else _inspect(settings, compiled.plan, log)
    count, layers, activations = about
    return replace(compiled, layers_after=count, layers=layers, activation_bytes=activations)


def _build(
    file: Path,
    graph: GraphSpec,
    settings: Settings,
    timing_cache: bytes,
    step: Step,
    stop: threading.Event,
    log: BuildLog,
) -> Compiled:
    """Everything that needs the builder. Properties of the engine itself follow later."""
    builder, network, flags = _make_network(settings, log)
    model = with_plain_weights(_read(file))
    # The parser owns the weights' memory, so it must outlive the build.
    parser = _parse(file, model, settings, network, log)
    _compare(file, graph, network)
    config, more_flags = _configure(builder, settings)
    if settings.precision == "fp16" and not has_strong_typing(settings.package):
        held, notes = hold_fp32_layers(settings.package, config, network, float_types(model), file.stem)
        more_flags += held
    else:
        notes = ()
    del model
    if settings.compute_capability is None:
        notes += _use_timing_cache(config, timing_cache)
    monitor = _watch(settings.package, config, step, stop)
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if stop.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise ExportError(f"{file}: TensorRT cannot build it: {log.last_error()}{_advice(settings, log.last_error())}")
    compiled = Compiled(
        plan=memoryview(plan),
        layers_before=network.num_layers,
        layers_after=None,
        layers=[],
        activation_bytes=None,
        seconds=seconds,
        flags=(*flags, *more_flags),
        timing_cache=_read_timing_cache(config) if settings.compute_capability is None else b"",
        notes=notes,
    )
    del parser, monitor
    return compiled


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ExportError(f"{file} cannot be read ({one_line(error)}); export the bundle again") from error


def _make_network(settings: Settings, log: BuildLog) -> "tuple[trt.Builder, trt.INetworkDefinition, tuple[str, ...]]":
    """Create a builder and an empty, strongly typed network; return them with the flags that were set.

    TensorRT 8.6 has no strong typing: there the graph's types are hints (see ``islands``).
    """
    tensorrt = import_tensorrt(settings.package)
    kinds = tensorrt.NetworkDefinitionCreationFlag
    wanted = {name: getattr(kinds, name, None) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED")}
    there = {name: flag for name, flag in wanted.items() if flag is not None}
    try:
        builder = tensorrt.Builder(shared_logger(settings.package))
        network = builder.create_network(sum(1 << int(flag) for flag in there.values()))
    except (TypeError, RuntimeError) as error:  # pybind11 raises these if the library returns no object
        raise ExportError(f"{settings.package} cannot start here: {log.last_error()} ({error})") from error
    return builder, network, tuple(there)


def _parse(
    file: Path, model: bytes, settings: Settings, network: "trt.INetworkDefinition", log: BuildLog
) -> "trt.OnnxParser":
    tensorrt = import_tensorrt(settings.package)
    parser = tensorrt.OnnxParser(network, shared_logger(settings.package))
    if parser.parse(model):
        return parser
    if parser.num_errors == 0:
        raise ExportError(f"{file}: TensorRT cannot read it: {log.last_error()}")
    error = parser.get_error(0)
    found = failed_node(log.messages)
    name, operator = (
        getattr(error, attribute, lambda: "")() or text
        for attribute, text in zip(("node_name", "node_operator"), found, strict=True)
    )
    where = f"node {name or error.node()} ({operator})" if operator else "the file"
    version = f"{settings.package} {tensorrt.__version__}"
    if "UNSUPPORTED" in str(error.code()):
        raise ExportError(
            f"{file}: {where}: {version} lacks this operator, or this form of it ({in_one_line(error.desc())}); "
            "rewrite it with other operators (export/graphs.py), or use a newer TensorRT"
        )
    raise ExportError(
        f"{file}: {where}: {version} rejects it: {in_one_line(error.desc())}; export the bundle again with this "
        "version of stm-skeletons"
    )


def _compare(file: Path, graph: GraphSpec, network: "trt.INetworkDefinition") -> None:
    """Compare parsed tensors with bundle.json: TensorRT 8.6 silently misreads some graphs, and the shapes show it."""
    sides = (
        ("input", graph.inputs, [network.get_input(index) for index in range(network.num_inputs)]),
        ("output", graph.outputs, [network.get_output(index) for index in range(network.num_outputs)]),
    )
    for kind, specs, tensors in sides:
        found = {tensor.name: describe_tensor(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors}
        listed = {spec.name: str(spec) for spec in specs}
        for name in sorted(found.keys() | listed.keys()):
            if found.get(name) != listed.get(name):
                parsed = f"finds {kind} {found[name]}" if name in found else f"finds no {kind} {name}"
                expected = f"lists {listed[name]}" if name in listed else f"has no {kind} {name}"
                raise ExportError(f"{file}: TensorRT {parsed}, but bundle.json {expected}; export the bundle again")


def _configure(builder: "trt.Builder", settings: Settings) -> "tuple[trt.IBuilderConfig, tuple[str, ...]]":
    tensorrt = import_tensorrt(settings.package)
    config = builder.create_builder_config()
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    if settings.workspace_mb is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    # No TF32, so that results can be compared with ONNX Runtime.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    flags = ["no TF32"]
    if settings.compute_capability is not None:
        ahead: Any = config  # these attributes exist only in tensorrt_rtx
        ahead.num_compute_capabilities = 1
        known = getattr(tensorrt, "ComputeCapability", None)
        capability = getattr(known, settings.compute_capability.upper(), None)
        if capability is None:
            raise ExportError(
                f"{settings.package} {tensorrt.__version__} cannot build for {settings.compute_capability}; install "
                "the version that can: pip install 'stm-skeletons[rtx]'"
            )
        ahead.set_compute_capability(capability, 0)
    return config, tuple(flags)


def _watch(package: Package, config: "trt.IBuilderConfig", step: Step, stop: threading.Event) -> object:
    """Make TensorRT (10 and later) report progress and check ``stop``. The result must outlive the build."""
    base = getattr(import_tensorrt(package), "IProgressMonitor", None)
    if base is None:
        return None

    class Monitor(base):
        def __init__(self) -> None:
            super().__init__()
            self._sizes: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            self._sizes[phase_name] = num_steps
            step(phase_name, 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            size = self._sizes.pop(phase_name, 1)
            step(phase_name, size, size)

        def step_complete(self, phase_name: str, number: int) -> bool:
            step(phase_name, number + 1, self._sizes.get(phase_name, number + 1))
            return not stop.is_set()

    monitor = Monitor()
    watched: Any = config
    setattr(watched, "progress_monitor", monitor)  # noqa: B010 - absent from TensorRT 8.6
    return monitor


def _use_timing_cache(config: "trt.IBuilderConfig", content: bytes) -> tuple[str, ...]:
    """Load measured kernel times. A cache of another TensorRT or GPU is replaced, which a note reports."""
    cache = config.create_timing_cache(content)
    if cache is not None and config.set_timing_cache(cache, False):
        return ()
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return ("the timing cache belongs to another TensorRT or GPU; measuring again",)


def _read_timing_cache(config: "trt.IBuilderConfig") -> bytes:
    cache = config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def _read_log(log: BuildLog) -> tuple[int | None, list[str], int | None]:
    """(layers after fusion, their table, planned activation bytes), read from TensorRT-RTX's messages."""
    layers = layer_table(log.messages)
    return len(layers) or None, layers, planned_activations(log.messages)


def _inspect(settings: Settings, plan: memoryview, log: BuildLog) -> tuple[int | None, list[str], int | None]:
    """The same for an engine for this machine's GPU, by loading the plan just built; runs nothing."""
    tensorrt = import_tensorrt(settings.package)
    try:
        runtime = tensorrt.Runtime(shared_logger(settings.package))
    except (TypeError, RuntimeError) as error:
        raise ExportError(f"{settings.package} cannot start here: {log.last_error()} ({error})") from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        error = log.last_error()
        raise ExportError(f"TensorRT cannot load the engine that it built: {error}{_advice(settings, error)}")
    text = engine.create_engine_inspector().get_engine_information(tensorrt.LayerInformationFormat.ONELINE)
    size = activation_bytes(engine)
    return engine.num_layers, layer_table([text]), size


def _advice(settings: Settings, error: str) -> str:
    if "FP32" in error and settings.compute_capability == "sm75":
        return "; Turing (sm75) needs FP16: export with --precision fp16"
    if any(word in error.lower() for word in ("memory", "workspace")):
        return "; lower --workspace-mb, or stop other programs"
    return ""
