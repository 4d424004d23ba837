"""What a command tells its user while it works."""

import sys


def say(line: str) -> None:
    """To the user; standard output is for results."""
    print(f"stm-skeletons: {line}", file=sys.stderr)
