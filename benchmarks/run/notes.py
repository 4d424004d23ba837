"""How to read a report, in sentences: what the figures are, and what is missing."""

from benchmarks.run.bench_report import Run
from benchmarks.run.environment import Environment
from benchmarks.run.latency import JITTER, PERCENTILES, samples_needed
from benchmarks.run.measure import WARM_UP

F1_MISSING = "F1 not measured here: --data"
_BUSY = 0.5


def notes(run: Run, environment: Environment, stages: bool) -> list[str]:
    """The sentences of a report, before F1 is measured.

    Args:
        run: what was run.
        environment: of the report.
        stages: whether any were recorded.
    """
    needs = ", ".join(f"p{percentile} {samples_needed(percentile)}" for percentile in PERCENTILES)
    lines = [
        "End to end is decoding and what follows until the parts are there, of real frames; nothing is clipped.",
        "Frames follow each other as fast as they are taken, not at the camera's rate.",
        f"The first {WARM_UP} frames and opening the session are told apart, as the start.",
        f"A percentile is told where two samples lie beyond it with 99 % confidence: {needs} frames. "
        f"{JITTER[0].upper()}{JITTER[1:]}. Miss: end to end longer than a frame of a camera with "
        f"{run.camera_fps:g} frames a second.",
        _about_stages(run) if stages else "No stages: the run ended before a block of frames with stages.",
        "People: the largest number of keypoints of any one joint in the frame.",
        f"The source was read {run.passes} times, from one to the next as over a cut in a film."
        if run.passes > 1
        else "The source was read once.",
    ]
    if environment.state.load is not None and environment.state.load > _BUSY:
        lines.append(f"Before the measuring the machine's load was {environment.state.load:g}: others may use it.")
    if "tensorrt" in (run.backend, run.provider):
        lines.append("This benchmark has not yet been run with TensorRT on a GPU.")
    if run.stopped_early:
        lines.append("Stopped early: shorter than asked for.")
    return [*lines, F1_MISSING]


def _about_stages(run: Run) -> str:
    text = "Stages are of other frames, in blocks between the undisturbed ones: recording them takes time"
    if run.backend == "tensorrt":
        graphs = ", and CUDA graphs are not used then" if run.cuda_graphs else ""
        return f"{text}. The GPU is waited for after each{graphs}."
    if run.provider == "cpu":
        return f"{text}. On the CPU nothing is uploaded or downloaded."
    if run.cuda_graphs:
        return f"{text}. ONNX Runtime waits for the GPU after each graph, recorded or not."
    return f"{text}. ONNX Runtime downloads what is found as a part of read_decoder."
