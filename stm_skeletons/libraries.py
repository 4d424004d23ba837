"""Optional libraries that a workstation has and a board lacks."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from stm_skeletons.errors import LibraryError

_HOME = Path(__file__).parents[1]
BOARD = "On a board"
"""Heading in ``--help`` for commands that need only the base installation."""


def panel(title: str, *modules: str) -> str:
    """Return a heading for ``--help`` that lists required modules which are not installed."""
    missing = _missing(modules)
    return f"{title} (not installed here: {', '.join(missing)})" if missing else title


def need(what: str, *modules: str) -> None:
    """Check that modules can be imported, before the work begins.

    Args:
        what: the command, option or argument that needs them, as the user typed it.
        modules: top-level import names.

    Raises:
        LibraryError: a module is not installed.
    """
    missing = _missing(modules)
    if missing:
        raise LibraryError(
            f"'{what}' needs {', '.join(missing)}, not installed here; on a workstation: "
            "pip install 'stm-skeletons[train,export]'"
        )


def installed_version(package: str) -> str | None:
    """Return the version of an installed PyPI package without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _missing(modules: tuple[str, ...]) -> list[str]:
    """Modules that are not installed."""
    return [module for module in modules if find_spec(module) is None]


def import_own(module: str) -> ModuleType:
    """Import a module of one of this project's packages, whose names are common words.

    Raises:
        LibraryError: another package of that name comes first on Python's path.
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
            f"{found} hides this project's package '{package}'; rename it, or work in another folder"
        ) from error
