"""The files of the shipped recipes. Imports no PyTorch, so that a misspelt name is reported at once."""

from difflib import get_close_matches
from pathlib import Path

from stm_skeletons.errors import RecipeError

SHIPPED = Path(__file__).parent / "recipes"
SMALL = "-small"
"""Suffix of a recipe's small version, which trains in minutes on two CPU cores."""


def shipped_recipes() -> list[str]:
    """Names of the recipes of this package, including the small versions."""
    names = [path.stem for path in SHIPPED.glob("*.toml")]
    return sorted({*names, *(f"{name}{SMALL}" for name in names if not name.endswith(SMALL))})


def is_derived_small(name: str | Path) -> bool:
    """Whether the name is a shipped recipe's with the suffix SMALL, without a file of its own."""
    name = str(name)
    full = name.removesuffix(SMALL)
    return full != name and not (SHIPPED / f"{name}.toml").is_file() and (SHIPPED / f"{full}.toml").is_file()


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe; a name without a suffix is a shipped recipe's. Raises RecipeError."""
    path = Path(name)
    if path.suffix == ".toml":
        return path
    shipped = SHIPPED / f"{name}.toml"
    if not shipped.is_file():
        near = get_close_matches(str(name), shipped_recipes(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise RecipeError(f"no recipe '{name}'; {hint}'stm-skeletons recipes' lists all, or name a .toml file")
    return shipped


def check_recipe(name: str) -> None:
    """Raises RecipeError if there is no such recipe or file."""
    if not is_derived_small(name) and not recipe_path(name).is_file():
        raise RecipeError(f"recipe file {name} does not exist; 'stm-skeletons recipes' lists the shipped recipes")
