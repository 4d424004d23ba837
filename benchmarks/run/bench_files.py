"""A report as files: report.json, report.md and, where there is matplotlib, plots."""

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
"""File names of the plots, and what they show."""
NO_PLOTS = "no plots: matplotlib is not installed here; elsewhere: stm-skeletons bench plots report.json --out FOLDER"


def check_folder(folder: Path) -> None:
    """Raise SinkError unless a folder can be made or written to: before an hour of measuring, not after."""
    there = folder.resolve()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise SinkError(f"cannot write to {folder}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise SinkError(f"cannot write to {folder}: no permission to write in {there}; choose another folder")


def can_plot() -> bool:
    """Whether there is matplotlib."""
    return find_spec("matplotlib") is not None


def write_report(report: Report, folder: Path) -> None:
    """Write report.json and report.md, each whole or not at all; the folder is made. Raises SinkError."""
    make_folder(folder)
    with atomic_write(folder / FILE_NAME) as partial:
        partial.write_text(report_text(report), encoding="utf-8")
    with atomic_write(folder / "report.md") as partial:
        partial.write_text(report_markdown(report, can_plot()), encoding="utf-8")


def report_markdown(report: Report, plots: bool) -> str:
    """The report as Markdown; ``plots``: shows the pictures that lie beside it."""
    parts = [f"# Speed of {report.environment.bundle} on {report.environment.source}"]
    parts.append("\n".join(f"- {note}" for note in report.notes))
    parts += [table.section() for table in tables(report)]
    parts += [f"![{caption}]({name})" for name, caption in PLOTS.items()] if plots else [NO_PLOTS]
    return "\n\n".join(parts) + "\n"
