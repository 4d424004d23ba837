"""``stm-skeletons bench predict``: what a bundle's speed should be on a device that is not at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.say import say
from stm_skeletons.errors import SinkError
from stm_skeletons.libraries import need

if TYPE_CHECKING:
    from benchmarks.predict.report import Report


def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder, or a shipped model's name.")],
    device: Annotated[
        list[str],
        typer.Option(
            help="orin-nano-8gb, orin-nano-8gb-super, orin-nx-16gb, agx-orin, agx-xavier, jetson-thor, rtx-a2000 or "
            "rtx-a4000; cpu is this machine, which is measured too. May be given several times."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for predict.json, predict.md and roofline.png; none without.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 2,
    video: Annotated[
        str | None, typer.Option(help="Video for what is measured on the CPU; moving noise without.")
    ] = None,
) -> None:
    """Predict a bundle's speed from its graphs and published peak rates. A prediction, not a measurement."""
    need("bench predict", "onnx", "matplotlib")
    from benchmarks.predict.predict import predict as predict_bundle
    from benchmarks.predict.predict import write_report
    from stm_skeletons.bundle import Bundle

    if out is not None and out.exists() and not out.is_dir():
        raise SinkError(f"cannot write the folder {out}: a file of that name is there")
    report = predict_bundle(Bundle.open(bundle), device, threads, video, say)
    _show(report)
    if out is not None:
        write_report(report, out)
        print(f"wrote {out}")


def _show(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.predict.report import TITLE
    from benchmarks.predict.tables import notes, tables

    console = Console()
    # What is piped is not cut to the width of a terminal that is not there.
    console = console if console.is_terminal else Console(width=160)
    console.print(f"{TITLE}: {report.bundle} ({report.precision})", style="bold", markup=False)
    for title, head, rows in tables(report):
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(head):
            table.add_column(name, justify="left" if number < 2 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in notes(report):
        console.print(f"- {line}", markup=False, highlight=False)
