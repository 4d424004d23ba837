import io

import pytest
from rich.console import Console

from stm_skeletons.table import Table, print_table, show

LONG = "a name of some words | and a sign, " * 5
WIDE = Table(f"Title of {LONG}", ("name", "against", *(f"a rather long heading {i}" for i in range(9))), [], left=2)
ROW = (LONG, "without memory", *(f"0.{i}23 to 0.{i}89" for i in range(9)))


def printed_lines(table: Table, **console) -> list[str]:
    out = io.StringIO()
    print_table(table, Console(file=out, color_system=None, **console))
    return out.getvalue().splitlines()


def test_markdown_has_a_rule_and_escapes_pipes():
    table = Table("Speed", ("what", "p50|99"), [("a|b", "1.5"), ("c", "-")])
    lines = ["| what | p50\\|99 |", "| --- | ---: |", "| a\\|b | 1.5 |", "| c | - |"]
    assert table.markdown().splitlines() == lines
    assert table.section().splitlines() == ["## Speed", "", *lines]
    assert Table("", ("x", "y"), [("1", "2")], left=0).markdown().splitlines()[1] == "| ---: | ---: |"


@pytest.mark.parametrize("width", [20, 80, 200])
def test_piped_tables_are_neither_cut_nor_wrapped(width: int):
    table = Table(WIDE.title, WIDE.header, [ROW])
    lines = [line for line in printed_lines(table, width=width) if line.strip()]
    assert lines[0] == table.title
    assert len(lines) == 4, "title, header, rule and row"
    assert all(heading in lines[1] for heading in table.header)
    assert all(cell in lines[3] for cell in ROW)


@pytest.mark.parametrize("width", [30, 80, 120, 240])
def test_terminal_wraps_words_but_not_numbers(width: int):
    table = Table("Title", WIDE.header[:4], [ROW[:4]], left=2)
    lines = printed_lines(table, width=width, force_terminal=True)
    assert all(any(number in line for line in lines) for number in ROW[2:4])
    if width >= 80:
        assert all(len(line) <= width for line in lines)
    text = "".join("".join(lines).split())
    assert all(word in text for word in ("name", "0.023to0.089", "0.123to0.189"))


def test_markup_is_text_and_numbers_are_right_aligned():
    lines = [
        line.rstrip() for line in printed_lines(Table("[bold]t", ("a", "n"), [("[red]x", "1"), ("y", "234")]), width=80)
    ]
    assert lines[0] == "[bold]t"
    assert lines[-3:-1] == [" [red]x    1", " y       234"]


def test_table_without_headings_has_no_header():
    lines = [line.strip() for line in printed_lines(Table("", ("", ""), [("key", "value")], left=2), width=80)]
    assert [line for line in lines if line] == ["key  value"]


def test_tables_without_rows_are_omitted_and_notes_come_last():
    out = io.StringIO()
    tables = (Table("Empty", ("a",), []), Table("Full", ("a",), [("1",)]))
    show(tables, Console(file=out, width=40), notes=[f"A [note]. {LONG}"])
    assert "Empty" not in out.getvalue()
    assert out.getvalue().splitlines()[0] == "Full"
    assert out.getvalue().splitlines()[-1].strip() == f"A [note]. {LONG}".strip()


def test_show_prints_to_standard_output(capsys: pytest.CaptureFixture[str]):
    show([Table("T", ("a", "b"), [("x", "1")])])
    assert capsys.readouterr().out.startswith("T\n")


def test_show_omits_number_columns_without_values(capsys: pytest.CaptureFixture[str]):
    show([Table("T", ("name", "group", "AP", "MOTA"), [("x", "-", "1", "-"), ("y", "-", "-", "-")], left=2)])
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("name", "group", "AP"))
    assert "MOTA" not in printed
