"""Writes a report as report.json and report.md. Plots need matplotlib, see benchmarks.workstation."""

import os
from importlib.util import find_spec
from pathlib import Path

from benchmarks.run.bench_report import FILE_NAME, Report, report_text
from benchmarks.run.bench_tables import tables
from stm_skeletons.errors import SinkError
from stm_skeletons.files import atomic_write, make_folder

PLOTS = {
    "latency.png": "Distribution of the latency",
    "stages.png": "Time by stage",
    "people.png": "Latency by number of people",
    "frames.png": "Latency over time",
    "memory.png": "Memory over time",
}
"""File names and captions of the plots."""
NO_PLOTS = (
    "no plots: matplotlib is not installed; on a workstation, run: stm-skeletons bench plots report.json --out FOLDER"
)


def check_folder(folder: Path) -> None:
    """Check before the measurement that a folder can be created or written to. Raises SinkError."""
    existing = folder.resolve()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise SinkError(f"cannot write to {folder}: {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK):
        raise SinkError(f"cannot write to {folder}: no permission to write in {existing}; choose another folder")


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def write_report(report: Report, folder: Path) -> None:
    """Write report.json and report.md atomically; creates the folder. Raises SinkError."""
    make_folder(folder)
    with atomic_write(folder / FILE_NAME) as partial:
        partial.write_text(report_text(report), encoding="utf-8")
    with atomic_write(folder / "report.md") as partial:
        partial.write_text(report_markdown(report, can_plot()), encoding="utf-8")


def report_markdown(report: Report, plots: bool) -> str:
    """The report as Markdown; ``plots``: whether to show the plots in the same folder."""
    parts = [f"# Speed of {report.environment.bundle} on {report.environment.source}"]
    parts.append("\n".join(f"- {note}" for note in report.notes))
    parts += [table.section() for table in tables(report)]
    parts += [f"![{caption}]({name})" for name, caption in PLOTS.items()] if plots else [NO_PLOTS]
    return "\n\n".join(parts) + "\n"
