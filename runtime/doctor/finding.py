"""The result of one of the doctor's checks."""

from collections.abc import Callable
from dataclasses import dataclass

from stm_skeletons.errors import one_line


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    fine: bool
    needed: bool
    """Whether the main job on a CPU needs this."""
    text: str
    """What was found and, if there is a problem, what to do."""


def run_check(subject: str, probe: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check. An exception, on an unusual system, becomes a finding and never ends the doctor."""
    try:
        return probe()
    except Exception as error:
        text = f"check failed ({type(error).__name__}: {one_line(error)}); the main job can run nevertheless"
        return [Finding(subject, False, False, text)]
