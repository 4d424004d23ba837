"""Plots of a report: recall by frame number (Figure 7), and keypoint figures by threshold."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.evaluation.keypoints import MATCHINGS, RADIUS
from training.evaluation.report import MATCHING_NAMES, Report

# Okabe and Ito's colour-blind safe palette and three more colours; they repeat with other line styles.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#8C564B", "#7F7F7F", "#6A3D9A"),
)
LINES = ("-", "--", ":", "-.")


def recall_figure(report: Report) -> Figure:
    """Figure 7: recall by frame number with the paper's matching, one line for each model."""
    figure, (axes,) = _new_figure(report, "recall over time", 1)
    last = 1
    for place, name in enumerate(report.with_keypoints):
        threshold = report.score(name, "closest").threshold
        points = report.evaluations[name].hits_over_time(threshold, "closest")
        last = max([last, *(number for number, _, _ in points)])
        axes.plot(
            [number for number, _, _ in points],
            [hits / labels for _, labels, hits in points],
            label=f"{_plain(name)} (threshold {threshold:g})",
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINES[place // len(COLOURS) % len(LINES)],
            marker="o" if len(points) <= 40 else "",
            markersize=4,
            clip_on=False,
        )
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("frame number")
    axes.set_ylabel(f"recall within {RADIUS:g} network pixels")
    _legend_below(figure, axes, 2)
    return figure


def threshold_figure(report: Report) -> Figure:
    """F1 by threshold, and for at most four models also precision and recall, in one panel for each matching."""
    figure, panels = _new_figure(report, "keypoints by threshold", len(MATCHINGS))
    parts = (("f1", "-", 2.2), ("precision", "--", 1.2), ("recall", ":", 1.6))
    parts = parts if len(report.with_keypoints) <= 4 else parts[:1]
    for axes, matching in zip(panels, MATCHINGS, strict=True):
        # By figure first, so that the legend has a row for each model.
        for part, line, width in parts:
            for place, name in enumerate(report.with_keypoints):
                scores = report.evaluations[name].scores(matching)
                axes.plot(
                    [score.threshold for score in scores],
                    [getattr(score, part) for score in scores],
                    label=f"{_plain(name)}: {'F1' if part == 'f1' else part}",
                    color=COLOURS[place % len(COLOURS)],
                    linestyle=line,
                    linewidth=width,
                )
        for place, name in enumerate(report.with_keypoints):
            shown = report.score(name, matching)
            axes.plot([shown.threshold], [shown.f1], marker="o", color=COLOURS[place % len(COLOURS)])
        axes.set_title(f"matching: {MATCHING_NAMES[matching]}; dot: reported", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_xlabel("threshold on the score of a peak")
    _legend_below(figure, panels[0], 3)
    return figure


def _new_figure(report: Report, what: str, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure whose title states the data; its height grows with the legend."""
    evaluations = [report.evaluations[name] for name in report.with_keypoints]
    width = 7.5 if panels == 1 else 5.2 * panels
    figure = Figure(figsize=(width, 4.8 + 0.2 * len(evaluations)), layout="constrained")
    FigureCanvasAgg(figure)
    sequences = " or ".join(map(str, sorted({len(evaluation.sequences) for evaluation in evaluations})))
    starts = " and ".join(sorted({evaluation.start for evaluation in evaluations}))
    labels = ", pseudo labels" if report.pseudo else ""
    note = f"{report.data}{labels}; {sequences} sequences; start: {starts}"
    lines = [line for text in (f"{report.title}: {what}", note) for line in textwrap.wrap(text, round(12.5 * width))]
    figure.suptitle(_plain("\n".join(lines)), fontsize=10)
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    for one in axes:
        one.set_ylim(0, 1.02)
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _plain(text: str) -> str:
    """Text escaped for matplotlib: "$" starts a formula, and a leading underscore hides an entry of a legend."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
