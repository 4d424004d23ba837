"""What a look at one thing gave."""

from collections.abc import Callable
from dataclasses import dataclass

from stm_skeletons.errors import one_line


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
