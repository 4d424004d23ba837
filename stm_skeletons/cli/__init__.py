"""The command ``stm-skeletons``. Each subcommand imports its room only when it is called."""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from stm_skeletons import __version__
from stm_skeletons.cli import bench, board, engines, workstation
from stm_skeletons.errors import StmError

BAD_INPUT = 2
INTERRUPTED = 130
_LIBRARIES = "on Debian and Ubuntu OpenCV needs: apt-get install libgl1 libglib2.0-0"

app = typer.Typer(
    name="stm-skeletons",
    help="Every visible body part of every person in a video, on the machine behind the camera.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Entry point: errors of ours and of usage are one line and exit code 2."""
    # Video decoders print warnings of their own; what matters of them is in our one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # Typer carries its own copy of click in newer versions; this is the class of all usage errors in either.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    # A service manager's stop leaves nothing half-written either; ``run`` finishes its files instead.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except StmError as error:
        _fail(str(error), BAD_INPUT)
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message} ('stm-skeletons --help' lists what there is)" if message else "", BAD_INPUT)
    except ImportError as error:
        _fail(f"a library is missing ({error}); {_LIBRARIES}", BAD_INPUT)
    except (OSError, MemoryError) as error:
        _fail(f"the system refused: {error or type(error).__name__}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(f"stm-skeletons: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


app.add_typer(board.app)
app.add_typer(engines.app)
app.add_typer(workstation.app)
app.add_typer(bench.app, name="bench")
