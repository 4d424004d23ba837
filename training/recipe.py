"""Recipes: everything that decides a training run, as a TOML file.

A recipe is one run over one data set. A run that goes on from another one's weights (the paper's fine-tuning after
pre-training) names that recipe in ``after``.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from stm_skeletons.errors import RecipeError, SkeletonError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.skeleton import skeleton_named
from stm_skeletons.strict import Exact, what_is_wrong
from stm_skeletons.variants import Variant
from training.data.open import Kind
from training.data.samples import SampleOptions
from training.data.sequences import SequenceOptions
from training.losses import LossName
from training.model.config import ModelConfig

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "recipes"
SMALL = "-small"
"""Behind a shipped recipe's name: the same for two CPU cores and minutes."""


class ModelSection(Exact):
    """The network."""

    variant: Variant
    skeleton: Literal["coco17", "posetrack15"] = "coco17"
    edges_only: bool = False
    width: float = 1.0

    @cached_property
    def config(self) -> ModelConfig:
        """The network's configuration."""
        return ModelConfig(
            variant=self.variant,
            skeleton=skeleton_named(self.skeleton),
            edges_only=self.edges_only,
            width=self.width,
        )


class DataSection(Exact):
    """What is trained on."""

    kind: Kind
    holdout: float = Field(default=0.25, gt=0, lt=1)
    """Share of the pictures or videos kept for validation where the data set has no validation split of its own."""
    holdout_seed: int = 0
    width: int = Field(default=448, ge=32, multiple_of=32)
    height: int = Field(default=256, ge=32, multiple_of=32)
    """Network input in pixels."""


class MemorySection(Exact):
    """What later frames of a sequence read."""

    slots: int | None = Field(default=None, ge=2)
    """Frames in memory, chosen as the runtime does (stm_skeletons.memory_policy); None: all earlier ones, as in the
    paper."""
    every: int = Field(default=1, ge=1)
    """With ``slots``: the ring takes every n-th frame."""
    truncate: int | None = Field(default=None, ge=1)
    """Gradients flow back through so many frames at most (truncated back-propagation); None: through all."""


class OptimiserSection(Exact):
    """How the weights are changed."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Of Adam (paper section 2.3)."""
    batch: int = Field(default=1, ge=1)
    """Sequences a step, over all devices together (paper: 1)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are added up for one step of the optimiser."""
    length: str = Field(pattern=r"^[1-9]\d* (epochs|steps)$")
    """Of the training: "5 epochs", passes over the data, or "400 steps" of the optimiser."""
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows from zero."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    freeze: tuple[str, ...] = Field(default=(), strict=False)
    """Beginnings of the names of parameters that stay as they are; "trunk" for instance."""

    def total_steps(self, samples: int) -> int:
        """Steps of the whole training, for an epoch of so many samples."""
        number, unit = self.length.split()
        if unit == "steps":
            return int(number)
        return math.ceil(int(number) * samples / (self.batch * self.accumulate))


class ValidationSection(Exact):
    """Looking at data that is not trained on, while training."""

    every: int = Field(default=500, ge=1)
    """Steps between two validations; the best weights are kept."""
    sequences: int = Field(default=20, ge=1)
    frames: int = Field(default=8, ge=2)
    start: Literal["seed", "cold"] = "seed"
    """Whether the first frame's people are given, as in the paper."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a better one."""


class Recipe(Exact):
    """A training run."""

    title: str
    """What it is, for people."""
    table: Literal["1", "2", "3"] | None = None
    row: str | None = None
    """The table of the paper that it fills, and its row there."""
    after: tuple[str, ...] = Field(default=(), strict=False)
    """The recipe whose weights this one starts from, or several, for the mean of their weights."""
    interleaved_with: str | None = None
    """A recipe for other data: its samples, made as it says but as long as this one's, take turns with this one's.
    Nothing else of it counts."""
    seed: int = 0
    loss: LossName = "focal"
    model: ModelSection
    data: DataSection
    sequence: SequenceOptions
    samples: SampleOptions = SampleOptions()
    memory: MemorySection = MemorySection()
    optimiser: OptimiserSection
    validation: ValidationSection = ValidationSection()

    @field_validator("after", mode="before")
    @classmethod
    def _one_or_several(cls, after: Any) -> Any:
        return (after,) if isinstance(after, str) else after

    @model_validator(mode="after")
    def _is_consistent(self) -> "Recipe":
        if (self.table is None) != (self.row is None):
            raise ValueError("table and row belong together")
        if self.sequence.kind == "real" and self.data.kind == "coco":
            raise ValueError("sequence: coco has single pictures; its sequences are synthetic")
        if self.samples.given >= self.sequence.frames:
            raise ValueError("samples: given must be smaller than sequence.frames")
        self.model.config  # noqa: B018 - raises where model contradicts itself
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the network input in pixels."""
        return self.data.width, self.data.height

    def resolved(self) -> dict[str, Any]:
        """Every value, defaults included, as JSON has it."""
        return self.model_dump(mode="json")


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with this project, at both sizes."""
    names = [path.stem for path in SHIPPED.glob("*.toml")]
    return sorted({*names, *(f"{name}{SMALL}" for name in names if not name.endswith(SMALL))})


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by its shipped name or its file.

    Raises RecipeError: no such recipe, not TOML, an unknown key, a wrong type, or values that contradict each other.
    """
    path, content = Path(name), _read(name)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {what_is_wrong(error)}") from error
    except SkeletonError as error:
        raise RecipeError(f"{path}: {error}") from error


def _read(name: str | Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of a recipe, over that of the one it is like."""
    if _is_made_small(name):
        return _made_small(_read(str(name).removesuffix(SMALL), readers))
    path = recipe_path(name)
    if path in readers:
        raise RecipeError(f"{path} is like itself: {' -> '.join(reader.stem for reader in (*readers, path))}")
    try:
        content = tomllib.loads(read_text(path))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not TOML: {one_line(error)}") from error
    like = content.pop("like", None)
    if like is None:
        return content
    if not isinstance(like, str):
        raise RecipeError(f"{path}: like: must be the name of a recipe")
    beside = path.with_name(f"{like}.toml")
    return _over(_read(beside if beside.is_file() else like, (*readers, path)), content)


def _is_made_small(name: str | Path) -> bool:
    """Whether it is a shipped recipe's name with SMALL behind it, and has no file of its own."""
    name = str(name)
    full = name.removesuffix(SMALL)
    return full != name and not (SHIPPED / f"{name}.toml").is_file() and (SHIPPED / f"{full}.toml").is_file()


def _made_small(content: dict[str, Any]) -> dict[str, Any]:
    """A shipped recipe's content with what its network and kind of sequence take at small size."""
    file = SHIPPED / "small" / f"{content['model']['variant']}-{content['sequence']['kind']}.toml"
    small = _over(content, tomllib.loads(read_text(file)))
    elsewhere = "" if small["data"]["kind"] == content["data"]["kind"] else f", on {small['data']['kind']}"
    before = content.get("after", [])
    before = [before] if isinstance(before, str) else before
    return small | {"title": f"{content['title']} (small{elsewhere})", "after": [f"{name}{SMALL}" for name in before]}


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe; a name without a suffix is a shipped one. Raises RecipeError."""
    path = Path(name)
    if path.suffix == ".toml":
        return path
    shipped = SHIPPED / f"{name}.toml"
    if not shipped.is_file():
        raise RecipeError(f"no recipe '{name}'; give a .toml file or one of: {', '.join(shipped_recipes())}")
    return shipped
