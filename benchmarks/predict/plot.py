"""The roofline plot: operations a byte against operations a second, a line for each device, a point for each graph."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.predict.report import TITLE, Report

_MARKERS = "osD^v"


def draw(report: Report, path: Path) -> None:
    """Write the plot (.png). Lines are published (or, on the CPU, measured) peaks; points are what is predicted."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    intensities = np.geomspace(0.1, 1000, 200)
    for number, one in enumerate(report.devices):
        colour = f"C{number % 10}"
        roof = np.minimum(one.peak_gflops, one.bandwidth_gbs * intensities)
        axes.plot(intensities, roof, color=colour, linewidth=1, label=one.name)
        for graph, marker in zip(one.graphs, _MARKERS, strict=False):
            reached = graph.operations / graph.milliseconds / 1e6
            axes.plot(graph.intensity, reached, marker, color=colour, markersize=6)
    for graph, marker in zip(report.devices[0].graphs, _MARKERS, strict=False):
        axes.plot([], [], marker, color="grey", label=graph.graph)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    axes.set_title(f"{TITLE}: {report.bundle} ({report.precision})")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=130, format="png")
