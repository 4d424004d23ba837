"""The plots of a report. Workstations only: needs matplotlib."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.run.bench_files import PLOTS
from benchmarks.run.bench_report import Report
from stm_skeletons.files import atomic_write, make_folder

# Okabe and Ito's colour-blind safe palette.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_SPAN = 10
"""Smallest range of the memory axis in MB."""
_PERCENTILES = ("p50", "p90", "p95", "p99")


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write every plot of a report atomically; creates the folder. Raises SinkError."""
    make_folder(folder)
    draw = {
        "latency.png": _latency,
        "stages.png": _stages,
        "people.png": _people,
        "frames.png": _frames,
        "memory.png": _memory,
    }
    written = []
    for name, caption in PLOTS.items():
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw[name](axes, report)
        axes.set_title(f"{caption}: {report.environment.bundle}, {report.environment.source}", fontsize=10)
        axes.grid(alpha=0.3)
        with atomic_write(folder / name) as partial:
            figure.savefig(partial, dpi=150)
        written.append(folder / name)
    return written


def _end_to_end(report: Report) -> np.ndarray:
    return np.array(report.raw.decode) + np.array(report.raw.frame)


def _latency(axes: Axes, report: Report) -> None:
    """The cumulative share on a logarithmic scale, which shows the tail better than a histogram."""
    times = np.sort(_end_to_end(report))
    axes.step(times, 1 - np.arange(len(times)) / len(times), where="post", color=_BLUE)
    axes.set_yscale("log")
    for name in _PERCENTILES:
        value = getattr(report.end_to_end, name)
        if value is not None:
            axes.axvline(value, color="grey", linewidth=0.8, linestyle=":")
            axes.text(value, 1, f" {name}", fontsize=8, va="top", rotation=90)
    if report.end_to_end.deadline is not None:
        axes.axvline(report.end_to_end.deadline, color=_ORANGE, label="deadline")
        axes.legend()
    axes.set_xlabel("end to end, ms")
    axes.set_ylabel("share of frames that take at least as long")


def _stages(axes: Axes, report: Report) -> None:
    names = list(report.stages)
    times = [report.raw.stages[name] for name in names]
    if times:
        # Whiskers reach to the extremes, so that outliers are shown.
        axes.boxplot(times, whis=(0, 100), medianprops={"color": _ORANGE})
    axes.set_xticks(range(1, len(names) + 1), [name.replace("_", "\n") for name in names], fontsize=8)
    axes.set_ylabel("ms; box: middle half of the frames, whiskers: all")


def _people(axes: Axes, report: Report) -> None:
    people, frame = np.array(report.raw.people), np.array(report.raw.frame)
    axes.scatter(people, frame, s=6, alpha=0.3, color=_BLUE, label="frames")
    known = [(group.people, group.p50) for group in report.people if group.p50 is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "o-", color=_ORANGE, label="median")
    axes.legend()
    axes.set_xlabel("people (most keypoints of any joint)")
    axes.set_ylabel("from decoded frame to parts, ms")


def _frames(axes: Axes, report: Report) -> None:
    times = _end_to_end(report)
    axes.plot(times, ".", markersize=3, color=_BLUE)
    if report.end_to_end.deadline is not None:
        axes.axhline(report.end_to_end.deadline, color=_ORANGE, label="deadline")
        axes.legend()
    axes.set_ylim(0, 1.1 * max(times.max(), report.end_to_end.deadline or 0))
    axes.set_xlabel("timed frame")
    axes.set_ylabel("end to end, ms")


def _memory(axes: Axes, report: Report) -> None:
    memory = report.raw.memory
    seconds = np.array(memory.seconds)
    for values, name, colour in (
        (memory.resident_mb, "resident", _BLUE),
        (memory.device_mb, "in use on the GPU", _GREEN),
    ):
        known = np.array(values, float)
        if np.isfinite(known).any():
            axes.plot(seconds / 60, known, color=colour, label=name)
            axes.legend()
    # An axis from zero would hide a leak; a range below _SPAN would show only noise.
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, (low + high) / 2 - _SPAN / 2), max(high, (low + high) / 2 + _SPAN / 2))
    axes.set_xlabel("minutes")
    axes.set_ylabel("MB")
