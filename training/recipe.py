"""Recipes: TOML files with all settings of a training run.

A recipe is one run on one data set. A recipe that starts from another one's weights (such as the paper's fine-tuning
after pre-training) names it in ``after``.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from stm_skeletons.errors import RecipeError, SkeletonError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.skeleton import skeleton_named
from stm_skeletons.strict import Exact, validation_message
from stm_skeletons.variants import Variant
from training.data.open import Kind
from training.data.samples import SampleOptions
from training.data.sequences import SequenceOptions
from training.losses import LossName
from training.model.config import ModelConfig
from training.recipe_files import SHIPPED, SMALL, is_derived_small, recipe_path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


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
    """The training data and the network's input size."""

    kind: Kind
    holdout: float = Field(default=0.25, gt=0, lt=1)
    """Share of the images or videos held out for validation, if the data set has no validation split."""
    holdout_seed: int = 0
    width: int = Field(default=448, ge=32, multiple_of=32)
    height: int = Field(default=256, ge=32, multiple_of=32)
    """Width and height of the network input in pixels."""


class MemorySection(Exact):
    """The memory that the frames of a sequence read."""

    slots: int | None = Field(default=None, ge=2)
    """Slots of the memory, filled as in the runtime (stm_skeletons.memory_policy). None: the memory holds all earlier
    frames, as in the paper."""
    every: int = Field(default=1, ge=1)
    """With ``slots``: every nth frame goes into the ring of slots."""
    truncate: int | None = Field(default=None, ge=1)
    """Gradients flow back through at most this many frames (truncated back-propagation). None: no limit."""


class OptimiserSection(Exact):
    """The optimiser and the length of the training."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Learning rate of Adam (paper section 2.3)."""
    batch: int = Field(default=1, ge=1)
    """Sequences per batch, over all devices together (paper: 1)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed for one step of the optimiser."""
    length: str = Field(pattern=r"^[1-9]\d* (epochs|steps)$")
    """Length of the training: "5 epochs" (passes over the data) or "400 steps" (of the optimiser)."""
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from zero."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    freeze: tuple[str, ...] = Field(default=(), strict=False)
    """Prefixes of the names of parameters that are not trained, such as "trunk"."""

    def total_steps(self, samples: int) -> int:
        """Steps of the whole training; ``samples``: samples of an epoch."""
        number, unit = self.length.split()
        if unit == "steps":
            return int(number)
        return math.ceil(int(number) * samples / (self.batch * self.accumulate))


class ValidationSection(Exact):
    """Validation during training, on held-out data."""

    every: int = Field(default=500, ge=1)
    """Steps between validations; the best weights are kept."""
    sequences: int = Field(default=20, ge=1)
    frames: int = Field(default=8, ge=2)
    start: Literal["seed", "cold"] = "seed"
    """Start of each sequence: from the first frame's labels, as in the paper, or from an empty memory."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without improvement. None: never."""


class Recipe(Exact):
    """A training run."""

    title: str
    """Description for the user."""
    table: Literal["1", "2", "3"] | None = None
    row: str | None = None
    """Table and row of the paper that the recipe reproduces."""
    after: tuple[str, ...] = Field(default=(), strict=False)
    """Recipe whose weights this one starts from; with several, the mean of their weights."""
    interleaved_with: str | None = None
    """Recipe whose samples are interleaved with this one's, at this one's length. Only its data, sequence and samples
    sections are used."""
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
            raise ValueError("sequence: kind must be synthetic for coco, which has single images")
        if self.samples.given >= self.sequence.frames:
            raise ValueError("samples: given must be smaller than sequence.frames")
        self.model.config  # noqa: B018 - raises where model contradicts itself
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the network input in pixels."""
        return self.data.width, self.data.height

    def resolved(self) -> dict[str, Any]:
        """All values including defaults, in a form that JSON can hold."""
        return self.model_dump(mode="json")


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by the name of a shipped one or by its file.

    Raises RecipeError if it does not exist, is not TOML, or has an unknown key, a wrong type or contradictory values.
    """
    path, content = Path(name), _read(name)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {validation_message(error)}") from error
    except SkeletonError as error:
        raise RecipeError(f"{path}: {error}") from error


def _read(name: str | Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of a recipe, merged over that of the recipe it is like."""
    if is_derived_small(name):
        return _make_small(_read(str(name).removesuffix(SMALL), readers))
    path = recipe_path(name)
    if path in readers:
        raise RecipeError(
            f"{path}: like: refers back to itself: {' -> '.join(reader.stem for reader in (*readers, path))}"
        )
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
    neighbour = path.with_name(f"{like}.toml")  # a file may have the name of the shipped recipe that it changes
    beside = neighbour != path and neighbour.is_file()
    return _merge(_read(neighbour if beside else like, (*readers, path)), content)


def _make_small(content: dict[str, Any]) -> dict[str, Any]:
    """A shipped recipe's content merged with the small settings of its network and kind of sequence."""
    file = SHIPPED / "small" / f"{content['model']['variant']}-{content['sequence']['kind']}.toml"
    small = _merge(content, tomllib.loads(read_text(file)))
    other_data = "" if small["data"]["kind"] == content["data"]["kind"] else f", on {small['data']['kind']}"
    after = content.get("after", [])
    after = [after] if isinstance(after, str) else after
    return small | {"title": f"{content['title']} (small{other_data})", "after": [f"{name}{SMALL}" for name in after]}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: tables are merged, other values are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        is_table = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if is_table else value
    return merged
