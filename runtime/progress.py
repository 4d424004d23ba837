"""How a run is doing: a bar on a terminal, a line now and then where that is piped, or everybody who is seen."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.frames import Frame
from stm_skeletons.cli.say import say
from stm_skeletons.parts import Parts

_SECONDS = 60.0
"""Between lines where it is piped."""
OnFrame = Callable[[Frame, Parts], None]


class _Pace:
    """Frame rate, people now, and of a camera age and skipped frames, in words."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.frames = self._skipped = 0

    def text(self, frame: Frame, parts: Parts) -> str:
        """After a frame."""
        now = time.monotonic()
        self.frames += 1
        self._skipped += frame.skipped
        text = f"{self.frames / max(now - self._started, 1e-6):.1f} fps, {len(parts.people)} people"
        if frame.arrived is not None:
            text += f", {1000 * (now - frame.arrived):.0f} ms old, {self._skipped} skipped"
        return text


@contextmanager
def frame_progress(total: int | None, quiet: bool = False) -> Iterator[OnFrame | None]:
    """Yields what to call after every frame, or None for a quiet run."""
    console, pace = Console(stderr=True), _Pace()
    if quiet:
        yield None
    elif console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total)
            yield lambda frame, parts: progress.update(task, advance=1, description=pace.text(frame, parts))
    else:
        yield _line_now_and_then(pace)


def _line_now_and_then(pace: _Pace) -> OnFrame:
    told = time.monotonic()

    def on_frame(frame: Frame, parts: Parts) -> None:
        nonlocal told
        text = pace.text(frame, parts)
        if time.monotonic() - told >= _SECONDS:
            told = time.monotonic()
            say(f"frame {frame.number}: {text}")

    return on_frame


def print_everybody(frame: Frame, parts: Parts) -> None:
    """One line a frame on the standard output: when, how many people, and their ids as far as they have one."""
    ids = " ".join(str(number or "-") for number in parts.people.ids.tolist())
    print(f"frame {frame.number}, {frame.time:.2f} s: {len(parts.people)} people{f': {ids}' if ids else ''}")
