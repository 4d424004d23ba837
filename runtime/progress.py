"""Progress of a run: a bar on a terminal, a line now and then if piped, or the people in every frame."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.frames import Frame
from stm_skeletons.cli.say import say
from stm_skeletons.parts import Parts

_SECONDS = 60.0
"""Seconds between lines if output is piped."""
OnFrame = Callable[[Frame, Parts], None]


class _Pace:
    """Frame rate and people as text; for cameras also age and skipped frames."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.frames = self._skipped = 0

    def text(self, frame: Frame, parts: Parts) -> str:
        """Count a frame and return the text."""
        now = time.monotonic()
        self.frames += 1
        self._skipped += frame.skipped
        text = f"{self.frames / max(now - self._started, 1e-6):.1f} fps, {len(parts.people)} people"
        if frame.arrived is not None:
            text += f", {1000 * (now - frame.arrived):.0f} ms old, {self._skipped} skipped"
        return text


@contextmanager
def frame_progress(total: int | None, quiet: bool = False) -> Iterator[OnFrame | None]:
    """Yield a callback for every frame, or None for a quiet run."""
    console, pace = Console(stderr=True), _Pace()
    if quiet:
        yield None
    elif console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total)
            yield lambda frame, parts: progress.update(task, advance=1, description=pace.text(frame, parts))
    else:
        yield _periodic_line(pace)


def _periodic_line(pace: _Pace) -> OnFrame:
    printed_at = time.monotonic()

    def on_frame(frame: Frame, parts: Parts) -> None:
        nonlocal printed_at
        text = pace.text(frame, parts)
        if time.monotonic() - printed_at >= _SECONDS:
            printed_at = time.monotonic()
            say(f"frame {frame.number}: {text}")

    return on_frame


def print_frame_people(frame: Frame, parts: Parts) -> None:
    """Print one line per frame to standard output: time, number of people, and their ids ("-" for none yet)."""
    ids = " ".join(str(number or "-") for number in parts.people.ids.tolist())
    print(f"frame {frame.number}, {frame.time:.2f} s: {len(parts.people)} people{f': {ids}' if ids else ''}")
