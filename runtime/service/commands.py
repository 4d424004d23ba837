"""The command ``serve``."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stm_skeletons.errors import LibraryError
from stm_skeletons.libraries import BOARD, panel

app = typer.Typer()

_NEEDS = ("fastapi", "uvicorn", "websockets", "paho", "prometheus_client")
"""Modules of the extra ``serve``."""


@app.command(rich_help_panel=panel(BOARD, *_NEEDS))
def serve(
    config: Annotated[
        Path, typer.Argument(help="TOML configuration; see docs/service.md and the example deploy/serve.toml.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Check the configuration and exit.")] = False,
    run_for: Annotated[float | None, typer.Option(min=0.1, help="Stop after this many seconds.")] = None,
) -> None:
    """Run the onboard service: many cameras with a live page, rules, recordings and MQTT."""
    _need_libraries()
    if check:
        _check(config)
        return
    from runtime.service.service import Service

    service = Service(config)
    service.run(run_for)
    if service.left_behind:  # a hanging decoder would block the exit; all files are finished
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _check(path: Path) -> None:
    from runtime.service.check import check
    from runtime.service.config import load_config

    config = load_config(path)
    bundle = check(config)
    cameras = ", ".join(camera.name for camera in config.cameras)
    print(f"{path} is valid; model: {bundle.folder.name}; cameras: {cameras}")


def _need_libraries() -> None:
    """Raise LibraryError if a library is missing."""
    toml = () if sys.version_info >= (3, 11) else ("tomli",)
    if missing := [module for module in (*_NEEDS, *toml) if find_spec(module) is None]:
        raise LibraryError(f"'serve' needs {', '.join(missing)}: pip install 'stm-skeletons[serve]'")
