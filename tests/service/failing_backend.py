"""``stm-skeletons`` with a backend that fails on request.

The file named by FAILURES holds three numbers: a camera's index in the group, how often its frames fail, and how often
loading the model fails after that. The file is removed when all failures have happened.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import session_group
from stm_skeletons.cli import main
from stm_skeletons.errors import BackendError

FAILURES = Path(os.environ["FAILURES"])
_open = session_group.open_backend


def open_backend(*arguments: Any) -> Any:
    if FAILURES.exists():
        camera, steps, loads = read_failures()
        if steps == 0:
            write_failures(camera, 0, loads - 1)
            raise BackendError("the device is not there")
    backend = _open(*arguments)
    detect = backend.detect

    def detect_or_fail(valid: Mapping[int, tuple[bool, ...]]) -> None:
        if FAILURES.exists():
            camera, steps, loads = read_failures()
            if camera in valid and steps > 0:
                write_failures(camera, steps - 1, loads)
                raise BackendError("the device has failed")
        detect(valid)

    backend.detect = detect_or_fail  # type: ignore[method-assign]
    return backend


def read_failures() -> tuple[int, int, int]:
    camera, steps, loads = map(int, FAILURES.read_text().split())
    return camera, steps, loads


def write_failures(camera: int, steps: int, loads: int) -> None:
    if steps + loads <= 0:
        FAILURES.unlink()
    else:
        FAILURES.write_text(f"{camera} {steps} {loads}")


if __name__ == "__main__":
    session_group.open_backend = open_backend  # type: ignore[assignment]
    main()
