"""Notes of a report: how to read its figures, and what is missing."""

from benchmarks.run.bench_report import Run
from benchmarks.run.environment import Environment
from benchmarks.run.latency import JITTER, PERCENTILES, samples_needed
from benchmarks.run.measure import WARM_UP

F1_MISSING = "F1 was not measured; --data measures it."
_BUSY = 0.5


def notes(run: Run, environment: Environment, stages: bool) -> list[str]:
    """The notes of a report, before F1 is measured.

    Args:
        run: the run.
        environment: of the report.
        stages: whether any stages were recorded.
    """
    needs = ", ".join(f"p{percentile} {samples_needed(percentile)}" for percentile in PERCENTILES)
    lines = [
        "End to end: from decoding a frame to its parts, on real frames. Outliers are kept.",
        "Frames are processed back to back, not at the camera's rate.",
        f"The start, which is opening the session and {WARM_UP} warm-up frames, is reported separately.",
        f"A percentile is reported if two samples lie beyond it with 99% confidence: {needs} frames. "
        f"{JITTER[0].upper()}{JITTER[1:]}. Late: end to end longer than the frame interval of a camera with "
        f"{run.camera_fps:g} frames per second.",
        _about_stages(run) if stages else "No stages: the run ended before a block with recorded stages.",
        "People: the most keypoints of any joint in the frame.",
        f"The source was read {run.passes} times in a loop; the memory was not reset at its start."
        if run.passes > 1
        else "The source was read once.",
    ]
    if environment.state.load is not None and environment.state.load > _BUSY:
        lines.append(
            f"The machine's load was {environment.state.load:g} before the measurement: other programs may have "
            "slowed it down."
        )
    if "tensorrt" in (run.backend, run.provider):
        lines.append("This benchmark has not run with TensorRT on a GPU yet.")
    if run.stopped_early:
        lines.append("Stopped early: the run is shorter than requested.")
    return [*lines, F1_MISSING]


def _about_stages(run: Run) -> str:
    text = "Stages: recorded on separate frames, in blocks between the timed frames, because recording takes time"
    if run.backend == "tensorrt":
        graphs = ", without CUDA graphs" if run.cuda_graphs else ""
        return f"{text}. After each stage the host waits for the GPU{graphs}."
    if run.provider == "cpu":
        return f"{text}. On the CPU there is no upload or download."
    if run.cuda_graphs:
        return f"{text}. ONNX Runtime waits for the GPU after each graph, with or without recording."
    return f"{text}. With ONNX Runtime, read_decoder includes the download of the results."
