"""The command ``stm-skeletons``. Commands come from the entry points of the installed packages."""

import os
import signal
import sys
from typing import Any, NoReturn

import typer

from stm_skeletons.cli.app import make_app
from stm_skeletons.errors import StmError
from stm_skeletons.library_check import library_problems, numpy_mismatch

BAD_INPUT = 2
INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line. Project and usage errors print one line and exit with code 2."""
    # Silence the video decoders' own warnings: our error line covers what matters.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # Newer Typer versions bundle their own click; this base class covers usage errors in both.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    # On SIGTERM, clean up temporary files as on Ctrl-C; ``run`` finishes its outputs instead.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if problem := numpy_mismatch():
        _fail(problem, BAD_INPUT)
    try:
        code = make_app()(standalone_mode=False)
    except StmError as error:
        _fail(str(error), BAD_INPUT)
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)().replace("Value error, ", "").removesuffix(".")
        command = " ".join(["stm-skeletons", *_commands(getattr(error, "ctx", None))])
        _fail(f"{message} (see '{command} --help')" if message else "", BAD_INPUT)
    except (ImportError, AttributeError):  # a missing or broken library, or a bug of ours
        problems = library_problems()
        if not problems:
            raise
        _fail(problems[0], BAD_INPUT)
    except (OSError, MemoryError) as error:
        _fail(f"the system refused: {error or type(error).__name__}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _commands(context: Any) -> list[str]:
    """Names of the commands of a click context, without the program's."""
    return [] if context is None or context.parent is None else [*_commands(context.parent), context.info_name]


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(f"stm-skeletons: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
