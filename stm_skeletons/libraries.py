"""Libraries that a workstation has and a board does not."""

from importlib.util import find_spec

from stm_skeletons.errors import LibraryError

BOARD = "On a board"
"""Heading of commands in ``--help`` that need nothing but the base."""


def panel(title: str, *modules: str) -> str:
    """The heading of commands in ``--help``, with those of the modules that they need and that are not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    return f"{title} (not installed here: {', '.join(missing)})" if missing else title


def need(what: str, *modules: str) -> None:
    """Make sure that modules can be imported, before work begins that would end without them.

    Args:
        what: the command, option or argument that needs them, as the user typed it.
        modules: top-level import names.

    Raises:
        LibraryError: one of them is not installed.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise LibraryError(
            f"'{what}' needs {', '.join(missing)}, which a board does not have: on a workstation, "
            "pip install 'stm-skeletons[train,export]'"
        )
