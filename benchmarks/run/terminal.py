"""A report on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.run.report import Report
from benchmarks.run.tables import TextTable, tables


def print_report(report: Report, console: Console | None = None) -> None:
    """Print all tables and notes of a report."""
    for table in tables(report):
        print_table(table, console)
    for note in report.notes:
        (console or Console()).print(Text(note))


def print_table(table: TextTable, console: Console | None = None) -> None:
    """Print one table."""
    shown = Table(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, heading in enumerate(table.header):
        words = column < table.left
        shown.add_column(Text(heading), justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    (console or Console()).print(shown)
