"""Plots of a comparison: ratios with their intervals, and times over the frames. Workstations only."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.compare.comparison import Comparison
from stm_skeletons.files import atomic_write

WINDOW = 20
"""Frames per point of the curves."""


def write_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ratios.png and times.png. Raises SinkError."""
    figures = {"ratios.png": _ratios(comparison), "times.png": _times(comparison)}
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        with atomic_write(folder / name) as partial:
            figure.savefig(partial, dpi=100)
    return [folder / name for name in figures]


def _ratios(comparison: Comparison) -> Figure:
    arms = comparison.arms
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(arms)), layout="constrained")
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        median, low, high = arm.ratio.median, arm.ratio.low, arm.ratio.high
        error = None if low is None or high is None else [[max(0, median - low)], [max(0, high - median)]]
        axes.barh(place, median, xerr=error, color="tab:grey" if place == 0 else "tab:blue", capsize=4)
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(f"time ratio to {arms[0].name}; median and 95% confidence interval")
    return figure


def _times(comparison: Comparison) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for arm in comparison.arms:
        times = np.array(arm.times)
        window = min(WINDOW, len(times))
        parts = np.array_split(times, max(1, len(times) // window))
        centres = np.cumsum([len(part) for part in parts]) - len(parts[0]) / 2
        axes.plot(centres, [np.median(part) for part in parts], label=arm.name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frame")
    axes.set_ylabel(f"ms, median of {WINDOW} frames")
    axes.legend()
    return figure
