"""Predict the speed of a bundle on devices, and hold the prediction against this CPU."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.predict.arithmetic import arithmetic_rates
from benchmarks.predict.count import Graph, count_graph
from benchmarks.predict.cpu import cpu_rates, micro_runs, rates_from
from benchmarks.predict.devices import Device, find_device
from benchmarks.predict.fuse import ONNX_RUNTIME_CPU, TENSORRT, Kernel, fuse
from benchmarks.predict.inputs import feeds_of, noise_frames, read_frames
from benchmarks.predict.layouts import layout_copies
from benchmarks.predict.micro import REORDER
from benchmarks.predict.report import CpuCheck, DevicePrediction, GraphPrediction, Measured, Report
from benchmarks.predict.roofline import Efficiency, Rates, gpu_rates, kernel_times
from benchmarks.predict.tables import markdown
from benchmarks.predict.timing import Runner, time_in_turns
from benchmarks.run.environment import processor_name
from runtime.session import Session
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import BenchmarkError, SinkError
from stm_skeletons.files import whole_file

CPU = "cpu"
STEP = "step"
ROUNDS = 25
Say = Callable[[str], None]
Graphs = dict[str, Graph]


def predict(
    bundle: Bundle, names: Sequence[str], threads: int = 2, video: str | None = None, say: Say = print
) -> Report:
    """Predict a bundle on devices.

    Args:
        bundle: what is to run.
        names: ids of devices.json, or "cpu" for this machine, which is measured too and takes a minute.
        threads: of the CPU.
        video: frames for the CPU's measurement; smooth noise without.
        say: told what takes long.

    Raises:
        BenchmarkError: an unknown device, no device, or a bundle that is not predicted on it.
        SourceError: the video cannot be read.
    """
    if not names:
        raise BenchmarkError("no device to predict for; give --device, for instance orin-nano-8gb or cpu")
    chosen = [None if name == CPU else find_device(name) for name in dict.fromkeys(names)]
    if None in chosen and bundle.info.precision != "fp32":
        raise BenchmarkError(
            f"{bundle.folder} is {bundle.info.precision}, which the CPU runs in other types than the graph says; "
            "predict an fp32 bundle on cpu"
        )
    graphs = {name: count_graph(onnx.load(bundle.graph_file(name))) for name in GRAPH_NAMES}
    predictions, check = [], None
    for device in chosen:
        if device is None:
            prediction, check = _on_cpu(bundle, graphs, threads, video, say)
        else:
            prediction = _on_gpu(bundle, graphs, device)
        predictions.append(prediction)
    return Report(
        bundle=bundle.folder.name,
        precision=bundle.info.precision,
        size=bundle.info.size,
        devices=tuple(predictions),
        check=check,
    )


def write_report(report: Report, folder: Path) -> None:
    """predict.json, predict.md and roofline.png; whatever else is in the folder stays. Raises SinkError."""
    from benchmarks.predict.plot import draw

    _make_folder(folder)
    for name, write in (
        ("predict.json", lambda file: file.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")),
        ("predict.md", lambda file: file.write_text(markdown(report), encoding="utf-8")),
        ("roofline.png", lambda file: draw(report, file)),
    ):
        with whole_file(folder / name) as partial:
            write(partial)


def _make_folder(folder: Path) -> None:
    """Raises SinkError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot write the folder {folder}: {error.strerror}; name another one") from error


def _on_gpu(bundle: Bundle, graphs: Graphs, device: Device) -> DevicePrediction:
    precision = bundle.info.precision
    tf32 = precision == "int8"  # as the engine builder has it
    efficiency = Efficiency()
    rates, peaks = gpu_rates(device, tf32, efficiency), gpu_rates(device, tf32, None)
    roof = {"fp16": device.fp16_tensor_tflops, "fp32": device.fp32_tflops}.get(
        precision, device.tf32_tensor_tflops or device.fp32_tflops
    )
    return DevicePrediction(
        device=device.id,
        name=device.name,
        power_mode=device.power_mode,
        peak_gflops=roof * 1e3,
        bandwidth_gbs=device.bandwidth_gbs,
        basis=f"published peaks, {device.source}, {device.url}; {device.launch_us:g} us a kernel assumed",
        published=device,
        efficiency=efficiency,
        graphs=tuple(_graph(name, graph, fuse(graph, TENSORRT), rates, peaks) for name, graph in graphs.items()),
    )


def _graph(name: str, graph: Graph, kernels: list[Kernel], rates: Rates, peaks: Rates | None) -> GraphPrediction:
    times = kernel_times(kernels, rates)
    total = sum(time.seconds for time in times)
    bound: dict[str, float] = defaultdict(float)
    kinds: dict[str, float] = defaultdict(float)
    for time in times:
        bound[time.bound] += time.seconds / total
        kinds[time.kernel.kind] += time.seconds * 1e3
    floor = None if peaks is None else sum(time.seconds for time in kernel_times(kernels, peaks)) * 1e3
    return GraphPrediction(
        graph=name,
        nodes=len(graph.nodes),
        kernels=len(kernels),
        operations=graph.operations,
        bytes=sum(kernel.bytes for kernel in kernels),
        milliseconds=total * 1e3,
        floor_milliseconds=floor,
        bound=dict(bound),
        kinds=dict(kinds),
    )


def _on_cpu(
    bundle: Bundle, graphs: Graphs, threads: int, video: str | None, say: Say
) -> tuple[DevicePrediction, CpuCheck]:
    frames = read_frames(video) if video else noise_frames(bundle.info.height, bundle.info.width)
    say("measuring this CPU; keep it free of other work")
    with Session.open(bundle, threads=threads) as session:
        feeds = feeds_of(bundle, session, frames, threads)
        runs = {name: Runner(bundle.graph_file(name).read_bytes(), feeds, threads) for name in GRAPH_NAMES}
        film = cycle(frames)
        step = {STEP: lambda: session.step(next(film))}
        times = time_in_turns({**micro_runs(threads), **runs, **step}, ROUNDS)
    measured = rates_from(times, threads)
    rates, blocked = cpu_rates(measured), REORDER in measured.kernels
    prediction = DevicePrediction(
        device=CPU,
        name=processor_name(),
        power_mode=f"{threads} threads",
        peak_gflops=measured.peak_gflops,
        bandwidth_gbs=measured.cached_gbs,
        basis="rates of single operators, measured in ONNX Runtime",
        published=None,
        efficiency=None,
        graphs=tuple(
            _graph(name, graph, fuse(graph, ONNX_RUNTIME_CPU) + layout_copies(graph, blocked), rates, None)
            for name, graph in graphs.items()
        ),
    )
    seconds = {name: times[name] for name in GRAPH_NAMES}
    check = CpuCheck(
        machine=processor_name(),
        inputs=f"inputs of the graphs from {video}" if video else "inputs of the graphs from moving noise",
        rates=measured,
        graphs=tuple(_measured(graph.graph, graph.milliseconds, seconds[graph.graph]) for graph in prediction.graphs),
        frame=_measured("frame (all graphs)", prediction.milliseconds, np.sum(list(seconds.values()), axis=0)),
        step_ms=float(np.median(times[STEP])) * 1e3,
        arithmetic=arithmetic_rates(
            bundle, feeds, {name: float(np.median(one)) for name, one in seconds.items()}, measured
        ),
    )
    return prediction, check


def _measured(what: str, predicted_ms: float, seconds: NDArray[np.float64]) -> Measured:
    low, median, high = np.percentile(seconds * 1e3, [5, 50, 95])
    return Measured(
        what=what, predicted_ms=predicted_ms, median_ms=float(median), low_ms=float(low), high_ms=float(high)
    )
