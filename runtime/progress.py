"""A progress bar with frames a second and time left, on a terminal; nothing when the output is piped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from runtime.sources import Frame
from stm_skeletons.parts import Parts


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} fps" if task.speed else "")


@contextmanager
def frame_progress(total: int | None) -> Iterator[Callable[[Frame, Parts], None] | None]:
    """Yields what to call after every frame, or None when standard error is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), _FramesPerSecond(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("frames", total=total)
        yield lambda _frame, _parts: progress.advance(task)
