"""The command ``stm-skeletons``. Every package brings its own commands; this one knows nobody by name."""

import os
import signal
import sys
from typing import NoReturn

import typer

from stm_skeletons.cli.found import make_app
from stm_skeletons.errors import StmError
from stm_skeletons.library_check import library_problems, mismatch

BAD_INPUT = 2
INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point: errors of ours and of usage are one line and exit code 2."""
    # Video decoders print warnings of their own; what matters of them is in our one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # Typer carries its own copy of click in newer versions; this is the class of all usage errors in either.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    # A service manager's stop leaves nothing half-written either; ``run`` finishes its files instead.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if problem := mismatch():
        _fail(problem, BAD_INPUT)
    try:
        code = make_app()(standalone_mode=False)
    except StmError as error:
        _fail(str(error), BAD_INPUT)
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message} ('stm-skeletons --help' lists what there is)" if message else "", BAD_INPUT)
    except (ImportError, AttributeError):  # a library that is missing or not whole, or a mistake of ours
        problems = library_problems()
        if not problems:
            raise
        _fail(problems[0], BAD_INPUT)
    except (OSError, MemoryError) as error:
        _fail(f"the system refused: {error or type(error).__name__}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(f"stm-skeletons: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
