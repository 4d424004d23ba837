"""Runs ``stm-skeletons`` in this process, because starting a process takes seconds.

Tests that need their own process (signals, a closed pipe, a missing library) start ``COMMAND``.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from typing import TextIO

from stm_skeletons.cli import main, progress
from stm_skeletons.cli.say import say_once

COMMAND = [sys.executable, "-W", "error", "-m", "stm_skeletons"]
SAYS = "stm-skeletons: "
# No progress lines: on a busy machine any command may take two seconds, and tests of errors count lines.
progress.FIRST = 300.0


def stm(*arguments: object) -> CompletedProcess[str]:
    """Run a command; return its exit code and everything printed, including by OpenCV and FFmpeg."""
    say_once.cache_clear()
    arguments_before, handlers = sys.argv, {number: signal.getsignal(number) for number in _SIGNALS}
    sys.argv = command = ["stm-skeletons", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        try:
            with _into(1, out), _into(2, errors), redirect_stdout(out), redirect_stderr(errors):
                main()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = arguments_before
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return CompletedProcess(command, int(code or 0), _text(out), _text(errors))


def done(*arguments: object) -> str:
    """Run a command that must succeed; return its output."""
    result = stm(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*arguments: object) -> str:
    """Run a command that must fail with exit code 2; return its one line on standard error."""
    return refusal(stm(*arguments))


def refusal(result: CompletedProcess[str]) -> str:
    """Return the error line of a command that has failed with exit code 2."""
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(SAYS)
    return result.stderr.removeprefix(SAYS).rstrip("\n")


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _into(descriptor: int, file: TextIO) -> Iterator[None]:
    saved = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


def _text(file: TextIO) -> str:
    file.flush()
    file.seek(0)
    return file.read()
