"""What a command tells its user while it works."""

import sys
from functools import cache


def say(line: str) -> None:
    """To the user; standard output is for results."""
    print(f"stm-skeletons: {line}", file=sys.stderr)


@cache
def say_once(line: str) -> None:
    """To the user, each line once."""
    say(line)
