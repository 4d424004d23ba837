"""What a look at one thing gave."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stm_skeletons.errors import one_line

_PATIENCE = 10.0
"""Seconds that a tool of the system may take."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    fine: bool
    needed: bool
    """Whether the main job on a CPU needs it."""
    text: str
    """What was found and, if it is not fine, what to do."""


def look(subject: str, probe: Callable[[], list[Finding]]) -> list[Finding]:
    """What a probe finds. A system so odd that the probe fails is a finding too, and never ends the doctor."""
    try:
        return probe()
    except Exception as error:
        text = f"could not be looked at ({type(error).__name__}: {one_line(error)}); this does not stop the main job"
        return [Finding(subject, False, False, text)]


def read(path: Path) -> str | None:
    """The text of a file of the system, without NULs and outer blanks; None where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:  # missing, no permission, or a sensor that is asleep
        return None


def read_number(path: Path) -> int | None:
    """The number in a file of the system; None where there is none."""
    text = read(path) or ""
    return int(text) if text.lstrip("-").isdecimal() else None


def ask(*command: str) -> str | None:
    """What a tool of the system prints; None where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
