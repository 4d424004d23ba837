"""Text tables for the terminal and for Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Table:
    """A table. The first ``left`` columns are text, the others numbers. Empty headings print no header row."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def without_empty_columns(self) -> "Table":
        """Return the table without number columns that have a dash in every row."""
        kept = [
            column
            for column in range(len(self.header))
            if column < self.left or not self.rows or any(row[column] != "-" for row in self.rows)
        ]
        rows = [[row[column] for column in kept] for row in self.rows]
        return replace(self, header=tuple(self.header[column] for column in kept), rows=rows)

    def markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        rule = ["---" if column < self.left else "---:" for column in range(len(self.header))]
        lines = ([cell.replace("|", r"\|") for cell in line] for line in (self.header, rule, *self.rows))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def section(self) -> str:
        """Return the table in Markdown with its title as a heading."""
        return f"## {self.title}\n\n{self.markdown()}"


def show(tables: Iterable[Table], console: "Console | None" = None, notes: Iterable[str] = ()) -> None:
    """Print all tables that have rows, without their empty columns, then the notes."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for table in tables:
        if table.rows:
            print_table(table.without_empty_columns(), console)
    for note in notes:
        console.print(Text(note), soft_wrap=not console.is_terminal)


def print_table(table: Table, console: "Console | None" = None) -> None:
    """Print a table. On a terminal, text columns wrap and numbers do not; piped output never wraps."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = console or Console()
    headed = any(table.header)
    shown = RichTable(
        box=box.SIMPLE_HEAD if headed else None, padding=(0, 1 if headed else 2, 0, 0), show_header=headed
    )
    for column, heading in enumerate(table.header):
        if column < table.left:
            shown.add_column(Text(heading), overflow="fold")
        else:
            widest = max((cell_len(row[column]) for row in table.rows), default=0)
            fits = cell_len(heading) <= widest
            shown.add_column(Text(heading), justify="right", overflow="fold", min_width=widest, no_wrap=fits)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    if table.title:  # rich would wrap its own title at the width of a narrow table
        console.print(Text(table.title, style="table.title"), soft_wrap=not console.is_terminal)
    if console.is_terminal:
        console.print(shown, crop=False)
        return
    shown.width = console.measure(shown, options=console.options.update(max_width=_NO_LIMIT)).maximum
    with console.capture() as captured:
        console.print(shown, crop=False)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())  # rich pads every line
    console.print(Text(text), soft_wrap=True)
