"""Builds the command-line app from the entry points of all packages."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

import stm_skeletons
from stm_skeletons.libraries import import_own

GROUP = "stm_skeletons.commands"
"""Group of entry points. Each is a Typer app; its commands are added in the order of the entry points' names."""


@cache
def make_app() -> typer.Typer:
    """Return the app with all commands of ``stm-skeletons``."""
    app = typer.Typer(
        name="stm-skeletons",
        help="Detect all people's keypoints and edges in video, on the machine behind the camera.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_root)
    for found in _apps():
        app.add_typer(found)
    return app


def command(name: str) -> Callable[..., Any]:
    """Return the function behind a command, to call it from another command."""
    for app in _apps():
        for registered in app.registered_commands:
            if registered.callback is not None and (registered.name or registered.callback.__name__) == name:
                return registered.callback
    raise LookupError(f"no command '{name}'")


def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(stm_skeletons.__version__)
        raise typer.Exit


@cache
def _apps() -> tuple[typer.Typer, ...]:
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name) or _checkout_entry_points()
    return tuple(getattr(import_own(point.module), point.attr) for point in points)


def _checkout_entry_points() -> list[EntryPoint]:
    """Entry points of a checkout that is not installed: every ``commands`` module beside this package."""
    root = Path(stm_skeletons.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        return []
    files = sorted(file for depth in ("*", "*/*") for file in root.glob(f"{depth}/commands.py"))
    modules = (".".join(file.relative_to(root).with_suffix("").parts) for file in files)
    return [EntryPoint(module, f"{module}:app", GROUP) for module in modules]
