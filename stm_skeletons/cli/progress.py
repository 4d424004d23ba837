"""Progress of commands that take more than a moment: a bar on a terminal, whole lines when piped."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from stm_skeletons.cli.say import say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

FIRST, NEXT = 2.0, 10.0
"""Seconds until a stage has its first line when piped, and between further ones."""
_TICK = 0.2


class Progress(Protocol):
    """Shows how far a command is."""

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """
        Args:
            stage: what the command is doing, such as "evaluating edge, frames".
            done: items of the stage that are done.
            total: number of its items; None if not known.
        """
        ...


def no_progress(stage: str, done: int | None = None, total: int | None = None) -> None:
    """Shows nothing: the default for calls from Python."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a function that shows progress on standard error until the block ends."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        stage_column, count_column = TextColumn("{task.description}"), TextColumn("{task.fields[count]}")
        columns = (
            SpinnerColumn(),
            stage_column,
            BarColumn(),
            count_column,
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Bars(*columns, console=console, transient=True, redirect_stdout=False) as bars:
            yield _Bar(bars)
    else:
        with _Lines() as lines:
            yield lines


class _Bar:
    """One bar, which starts again with each stage."""

    def __init__(self, bars: "Bars") -> None:
        self._bars, self._stage = bars, ""
        self._task = bars.add_task("", total=None, count="")

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        if stage != self._stage:
            self._stage = stage
            self._bars.reset(self._task, description=stage, total=total)
        self._bars.update(self._task, completed=done or 0, total=total, count=_count(done, total))


class _Lines:
    """Prints a line for each stage that takes a while, and then how far it is every few seconds.

    A thread prints, because a stage may call nothing while it works.
    """

    def __init__(self) -> None:
        self._stage: tuple[str, int | None, int | None] = ("", None, None)
        self._began: tuple[float, int] = (0.0, 0)
        """Time of the stage's first call, and its count then."""
        self._printed, self._due = "", 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Lines":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        if stage != self._stage[0]:
            now = time.monotonic()
            self._due, self._began = now + FIRST, (now, done or 0)
        self._stage = stage, done, total

    def _run(self) -> None:
        while not self._ended.wait(_TICK):
            (stage, done, total), now = self._stage, time.monotonic()
            if not stage or now < self._due:
                continue
            count = _count(done, total)
            line = f"{stage}: {count}" if count else stage
            if line != self._printed:
                say(line + self._remaining(now))
            self._printed, self._due = line, now + NEXT

    def _remaining(self, now: float) -> str:
        """The time that the rest of the stage takes at its pace so far; empty if unknown."""
        (_, done, total), (began, first) = self._stage, self._began
        if done is None or total is None or not first < done < total:
            return ""
        seconds = (now - began) / (done - first) * (total - done)
        return f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"


def _count(done: int | None, total: int | None) -> str:
    return "" if done is None else str(done) if total is None else f"{done} of {total}"
