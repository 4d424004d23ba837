"""Libraries that a workstation has and a board does not."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from stm_skeletons.errors import LibraryError

_HOME = Path(__file__).parents[1]
BOARD = "On a board"
"""Heading of commands in ``--help`` that need nothing but the base."""


def panel(title: str, *modules: str) -> str:
    """The heading of commands in ``--help``, with those of the modules that they need and that are not installed."""
    missing = _missing(modules)
    return f"{title} (not installed here: {', '.join(missing)})" if missing else title


def need(what: str, *modules: str) -> None:
    """Make sure that modules can be imported, before work begins that would end without them.

    Args:
        what: the command, option or argument that needs them, as the user typed it.
        modules: top-level import names.

    Raises:
        LibraryError: one of them is not installed.
    """
    missing = _missing(modules)
    if missing:
        raise LibraryError(
            f"'{what}' needs {', '.join(missing)}, which a board does not have: on a workstation, "
            "pip install 'stm-skeletons[train,export]'"
        )


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on PyPI and without loading it; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _missing(modules: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [module for module in modules if find_spec(module) is None]


def our(module: str) -> ModuleType:
    """Import a module of one of our packages, whose names are common words.

    Raises:
        LibraryError: something else of that name comes first on Python's path.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        spec = find_spec(package)
        found = Path(spec.origin) if spec is not None and spec.origin else None
        if found is None or found.is_relative_to(_HOME / package):
            raise
        raise LibraryError(
            f"{found} is in the way of this project's package '{package}'; rename it, or work in another folder"
        ) from error
