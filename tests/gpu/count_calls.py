"""Counts the backend's driver calls per frame on a real GPU, and checks free memory.

    python count_calls.py BUNDLE VIDEO

TensorRT's own calls are not visible, but its allocations would show in the free memory, and a replayed graph makes
none. Exit code 1 unless a frame is one upload, one download, one wait and two replayed graphs, and uses no more memory.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import cycle, islice
from typing import Any

from runtime.backends import BackendOptions
from runtime.backends.cuda import Gpu, Graph, Stream
from runtime.gpu import device_memory, find_gpu
from runtime.session import Session
from runtime.sources import open_source
from stm_skeletons.errors import StmError

FRAMES, WARM_UP = 300, 10
COUNTED = {
    Stream: ("upload", "download", "copy", "clear", "synchronize"),
    Gpu: ("allocate", "page_locked", "stream", "event", "capture"),
    Graph: ("launch",),
}
CALLS_PER_FRAME = {"upload": 1, "download": 1, "synchronize": 1, "launch": 2}


def count_calls() -> Counter[str]:
    """Count calls by name from now on, of all sessions."""
    calls: Counter[str] = Counter()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return method(*arguments)

        return call

    for kind, names in COUNTED.items():
        for name in names:
            setattr(kind, name, counted(name, getattr(kind, name)))
    return calls


def main(bundle: str, video: str) -> int:
    """Print the calls of FRAMES frames. Returns the exit code."""
    calls, free = count_calls(), []
    with closing(open_source(video)) as source:
        frames = [frame.image for frame in source]
    with Session.open(bundle, BackendOptions("tensorrt")) as session:
        for number, frame in enumerate(islice(cycle(frames), WARM_UP + FRAMES)):
            if number == WARM_UP:
                calls.clear()
            session.step(frame)
            free.append(device_memory()[0])
    used = free[WARM_UP] - min(free[WARM_UP:])
    print(f"{FRAMES} frames: {', '.join(f'{count} {name}' for name, count in sorted(calls.items()))}")
    print(
        f"free memory of the GPU {free[WARM_UP] / 1e6:.1f} MB, at least {min(free[WARM_UP:]) / 1e6:.1f} MB afterwards"
    )
    expected = {name: count * FRAMES for name, count in CALLS_PER_FRAME.items()}
    # On a GPU that shares the system's memory, other programs change the free memory too.
    return int(calls != expected or (used > 0 and not find_gpu().integrated))


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except StmError as error:
        sys.exit(str(error))
