"""Progress of long commands, on a terminal and piped."""

import io
import re
import time

import pytest
from rich.console import Console

from stm_skeletons.cli import progress as module
from stm_skeletons.cli.progress import show_progress


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FIRST", 0.3)
    monkeypatch.setattr(module, "NEXT", 0.3)
    monkeypatch.setattr(module, "_TICK", 0.02)


def test_long_stage_prints_whole_lines_when_piped(capsys: pytest.CaptureFixture[str]):
    with show_progress() as progress:
        progress("reading")
        progress("evaluating edge, frames", 1, 200)
        time.sleep(0.5)
        for number in range(100):
            progress("evaluating edge, frames", number, 200)
            time.sleep(0.01)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stm-skeletons: evaluating edge, frames: 1 of 200"
    assert re.search(r"frames: \d+ of 200, \d+ s left$", lines[-1])
    assert all(line.startswith("stm-skeletons: evaluating edge, frames: ") for line in lines)
    assert 2 <= len(lines) <= 6


def test_long_stage_without_further_calls_is_named_once(capsys: pytest.CaptureFixture[str]):
    with show_progress() as progress:
        progress("tracing the network")
        time.sleep(1.2)
    assert capsys.readouterr().err == "stm-skeletons: tracing the network\n"


def test_quick_stages_print_nothing(capsys: pytest.CaptureFixture[str]):
    with show_progress() as progress:
        for number in range(20):
            progress(f"stage {number}")
    assert capsys.readouterr().err == ""


def test_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with show_progress() as progress:
        progress("evaluating edge, frames", 30, 200)
        print("a result")
        time.sleep(0.3)
    assert "evaluating edge, frames" in screen.getvalue()
    assert "30 of 200" in screen.getvalue()
    assert capsys.readouterr().out == "a result\n", "results still go to standard output"
