"""Status lines for the user."""

import sys
from functools import cache


def say(line: str) -> None:
    """Print a status line to standard error; standard output is for results."""
    print(f"stm-skeletons: {line}", file=sys.stderr)


@cache
def say_once(line: str) -> None:
    """Print a status line, but each text only once."""
    say(line)
