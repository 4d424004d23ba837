"""Builds a bundle's TensorRT engines, on the machine that runs them or ahead of time.

Also runs on boards: needs neither torch nor onnx. See docs/export.md.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from export.engines.compile import Compiled, Settings, Step, compile_graph
from export.engines.memory_check import INTEGRATED_WORKSPACE_MB, check_memory
from runtime.gpu import GpuInfo, NoGpu, find_gpu
from runtime.machine import is_jetson
from runtime.tensorrt_module import import_tensorrt, is_too_old
from stm_skeletons import __version__
from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName
from stm_skeletons.engines import FILE_NAME, NATIVE, RTX_TARGETS, Engines, EngineSet, EngineSpec, engines_folder
from stm_skeletons.errors import ExportError, SinkError, one_line
from stm_skeletons.files import atomic_folder, atomic_write, partial_path, sha256

JETSON = "jetson"
"""Synonym of NATIVE that is rejected on machines other than a Jetson."""


@dataclass(frozen=True)
class Report:
    """The written engines."""

    engines: Engines
    layers: dict[GraphName, list[str]]
    """Layer table of each engine after fusion; empty if TensorRT gives none."""
    notes: tuple[str, ...]
    """Notes for the user, one line each."""


def build_engines(
    bundle: Bundle,
    target: str,
    root: Path | None = None,
    workspace_mb: int | None = None,
    timing_cache: Path | None = None,
    step: Step = lambda _phase, _done, _total: None,
    warn: Callable[[str], None] = lambda _text: None,
    stop: threading.Event | None = None,
) -> Report:
    """Build a bundle's engines and write them atomically.

    Args:
        bundle: an opened bundle.
        target: "native" or "jetson" for the GPU of this machine, or one of RTX_TARGETS.
        root: folder of the engines, with one folder per target; inside the bundle by default.
        workspace_mb: limit for a layer's scratch memory; by default 512 on a GPU that shares the system's memory, else
            TensorRT's own limit.
        timing_cache: file of measured kernel times, read if it exists and written afterwards; native only.
        step: called with progress (phase, steps done, total steps), from any thread.
        warn: called with warnings as they arise, before the long part of the build.
        stop: when set, the build ends soon (before TensorRT 10: after the current engine) with KeyboardInterrupt, and
            nothing is written.

    Raises:
        ExportError: the target is unknown or needs another machine, memory is too small, TensorRT rejects a graph, or
            the folder cannot be written.
        BackendError: TensorRT's package is not installed.
        SinkError: the timing cache cannot be written.
    """
    settings, gpu = _settings(bundle, target, workspace_mb)
    stop = stop or threading.Event()
    notes: list[str] = []

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)
            warn(text)

    if gpu is not None:
        with _gpu_needed():
            warning = check_memory(bundle, gpu, settings.workspace_mb)
        if warning is not None:
            note(warning)
    if timing_cache is not None and gpu is None:
        note("--timing-cache is ignored: ahead-of-time builds measure nothing")
        timing_cache = None
    cache = _read_cache(timing_cache)
    folder = engines_folder(bundle, NATIVE if gpu is not None else target, root)
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        with atomic_folder(folder) as partial:
            compiled: dict[GraphName, Compiled] = {}
            for name in GRAPH_NAMES:
                compiled[name] = _write_engine(bundle, name, partial, settings, cache, step, stop)
                cache = compiled[name].timing_cache
                for text in compiled[name].notes:
                    note(text)
            info = _describe(bundle, settings, gpu, compiled, partial)
            (partial / FILE_NAME).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except SinkError as error:
        raise ExportError(f"{error}; write the engines elsewhere with --engines FOLDER") from error
    finally:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()  # fails, as intended, unless empty
    if timing_cache is not None and cache:
        with atomic_write(timing_cache) as partial:
            partial.write_bytes(cache)
    return Report(Engines(folder, info), {name: built.layers for name, built in compiled.items()}, tuple(notes))


def _write_engine(
    bundle: Bundle,
    name: GraphName,
    folder: Path,
    settings: Settings,
    cache: bytes,
    step: Step,
    stop: threading.Event,
) -> Compiled:
    """Build one engine into a folder and release its bytes: the next build needs the memory."""
    built = compile_graph(bundle.graph_file(name), bundle.info.graphs[name], settings, cache, step, stop)
    (folder / f"{name}.engine").write_bytes(built.plan)
    return replace(built, plan=memoryview(b""))


def _settings(bundle: Bundle, target: str, workspace_mb: int | None) -> tuple[Settings, GpuInfo | None]:
    """Return the build settings, and this machine's GPU if it is the target."""
    if workspace_mb is not None and not 1 <= workspace_mb <= 1 << 20:
        raise ExportError(f"--workspace-mb is {workspace_mb}, must be between 1 and {1 << 20}")
    precision = bundle.info.precision
    if precision in ("int8", "bf16"):
        raise ExportError(
            f"{bundle.folder} has precision {precision}, which is for CPUs; for TensorRT, export with --precision fp16"
        )
    if target in RTX_TARGETS:
        import_tensorrt("tensorrt_rtx")
        if target == "sm75" and precision != "fp16":
            raise ExportError(
                f"{bundle.folder} has precision {precision}, but TensorRT-RTX has no FP32 matrix products for sm75 "
                "(Turing); export with --precision fp16"
            )
        return Settings("tensorrt_rtx", precision, target, workspace_mb), None
    _check_native(target)
    with _gpu_needed():
        gpu = find_gpu()  # first, because without a driver importing TensorRT may fail as well
    version = import_tensorrt("tensorrt").__version__
    if is_too_old(version):
        raise ExportError(f"tensorrt {version} is too old: uint8 frames need 8.6 (JetPack 6.0) or newer")
    if workspace_mb is None and gpu.integrated:
        workspace_mb = INTEGRATED_WORKSPACE_MB
    return Settings("tensorrt", precision, None, workspace_mb), gpu


@contextmanager
def _gpu_needed() -> Iterator[None]:
    try:
        yield
    except NoGpu as problem:
        raise ExportError(f"cannot build engines for this machine's GPU: {problem}") from problem


def _check_native(target: str) -> None:
    if target == JETSON and not is_jetson():
        raise ExportError(
            f"this machine is not a Jetson: run --target {JETSON} on the board itself, use --target {NATIVE} for this "
            f"machine's GPU, or build ahead of time for one of: {', '.join(RTX_TARGETS)}"
        )
    if target in ("sm53", "sm62", "sm72", "sm87", "sm101", "sm110"):
        raise ExportError(
            f"{target} is a Jetson's GPU: its engines cannot be built ahead of time; run --target {JETSON} on the board"
        )
    if target not in (NATIVE, JETSON):
        raise ExportError(f"unknown target '{target}'; choose one of: {JETSON}, {NATIVE}, {', '.join(RTX_TARGETS)}")


def _read_cache(file: Path | None) -> bytes:
    if file is None:
        return b""
    partial_path(file)  # raises now, not minutes later, if the file cannot be written
    try:
        return file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise ExportError(f"cannot read the timing cache {file} ({one_line(error)}); give another file") from error


def _describe(
    bundle: Bundle, settings: Settings, gpu: GpuInfo | None, compiled: dict[GraphName, Compiled], folder: Path
) -> EngineSet:
    engines: dict[GraphName, EngineSpec] = {}
    for name, built in compiled.items():
        file = folder / f"{name}.engine"
        engines[name] = EngineSpec(
            file=file.name,
            sha256=sha256(file),
            graph_sha256=bundle.info.graphs[name].sha256,
            bytes=file.stat().st_size,
            activation_bytes=built.activation_bytes,
            layers_before=built.layers_before,
            layers_after=built.layers_after,
            seconds=round(built.seconds, 3),
        )
    return EngineSet(
        format=1,
        package=settings.package,
        tensorrt_version=import_tensorrt(settings.package).__version__,
        cuda_version=None if gpu is None else gpu.cuda,
        target=settings.compute_capability or NATIVE,
        compute_capability=settings.compute_capability or (gpu.compute_capability if gpu else ""),
        device=None if gpu is None else gpu.name,
        precision=settings.precision,
        flags=compiled["query_encoder"].flags,
        workspace_mb=settings.workspace_mb,
        created_by=f"stm-skeletons {__version__}",
        engines=engines,
    )
