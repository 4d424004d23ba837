"""Runs a recipe by name: opens its data, trains the recipes it depends on, then trains it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stm_skeletons.errors import DataError, RecipeError
from training.data.labels import DataSet
from training.data.open import open_data
from training.hardware import Hardware
from training.recipe import Recipe, load_recipe
from training.train import LoggingOptions, Result, train


def run_recipe(
    name: str,
    data: Mapping[str, Path],
    runs: Path,
    seed: int | None = None,
    init: Path | None = None,
    resume: bool = False,
    hardware: Hardware = Hardware(),  # noqa: B008 - frozen
    logging_options: LoggingOptions = LoggingOptions(),  # noqa: B008 - frozen
    say: Callable[[str], None] = print,
) -> Result:
    """Train a recipe in ``runs/<its name>/seed<n>``.

    Recipes named by ``after`` are trained first, unless their weights exist already.

    Args:
        name: name of a shipped recipe, or a .toml file.
        data: folder by kind of data.
        runs: folder of all runs.
        seed: overrides the recipe's seed.
        init: starting weights; of the first recipe if others are trained before.
        resume: continue a stopped run. Without it, an existing run in the folder is an error.
        hardware, logging_options: see training.train.
        say: receives messages for the user, line by line.

    Raises:
        RecipeError: as load_recipe, or if ``data`` lacks a kind that the recipe needs.
        SinkError, DataError, WeightsError, TrainingError: as training.train.
    """
    recipe = load_recipe(name)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    folder = run_folder(runs, name, recipe.seed)
    _check_given(recipe, name, data)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise RecipeError(f"{folder} already holds a run; continue it with --resume, or choose another --out")
    earlier = [
        _earlier_weights(name, recipe, data, runs, init, hardware, logging_options, say) for name in recipe.after
    ]
    training_data, validation_data = (open_split(recipe, data[recipe.data.kind], split) for split in ("train", "val"))
    interleaved = _interleaved(recipe, name, data)
    for problem in (
        *training_data.problems,
        *validation_data.problems,
        *(interleaved[1].problems if interleaved else ()),
    ):
        say(problem)
    resume = resume and checkpoint.exists()
    starting = earlier or ([init] if init else [])
    return train(
        recipe, training_data, validation_data, folder, starting, resume, hardware, logging_options, interleaved
    )


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """The folder of a recipe's run."""
    return runs / Path(name).stem / f"seed{seed}"


def open_split(recipe: Recipe, root: Path, split: str) -> DataSet:
    """The part "train" or "val" of the recipe's data. Raises DataError, also if no sequences can be made of it."""
    section = recipe.data
    skeleton = recipe.model.config.skeleton
    data = open_data(section.kind, root, split, skeleton, section.holdout, section.holdout_seed)
    if recipe.sequence.kind == "real" and not data.videos:
        raise DataError(f"{data.name} in {root} has no video with at least two labelled frames; label more frames")
    return data


def _check_given(recipe: Recipe, name: str, data: Mapping[str, Path]) -> None:
    if recipe.data.kind not in data:
        raise RecipeError(f"{name} needs {recipe.data.kind} data; add --data {recipe.data.kind}=FOLDER")


def _interleaved(recipe: Recipe, name: str, data: Mapping[str, Path]) -> tuple[Recipe, DataSet] | None:
    """The recipe whose samples are interleaved with this one's, and its data."""
    if recipe.interleaved_with is None:
        return None
    other = load_recipe(recipe.interleaved_with)
    own_form, other_form = _sample_form(recipe), _sample_form(other)
    for key, value in own_form.items():
        if value != other_form[key]:
            raise RecipeError(
                f"{name} and {recipe.interleaved_with} are interleaved but differ in {key}: "
                f"{value} and {other_form[key]}"
            )
    _check_given(other, recipe.interleaved_with, data)
    return other, open_split(other, data[other.data.kind], "train")


def _sample_form(recipe: Recipe) -> dict[str, object]:
    """Properties that samples of one batch must share, besides their length."""
    return {"size": recipe.size, "skeleton": recipe.model.skeleton}


def _earlier_weights(
    before: str,
    recipe: Recipe,
    data: Mapping[str, Path],
    runs: Path,
    init: Path | None,
    hardware: Hardware,
    logging_options: LoggingOptions,
    say: Callable[[str], None],
) -> Path:
    """Weights of the recipe ``before``, from which ``recipe`` starts; it is trained if they do not exist."""
    folder = run_folder(runs, before, recipe.seed)
    weights = folder / "weights.safetensors"
    if weights.is_file():
        say(f"starting from {weights}")
        return weights
    say(f"training {before} first")
    result = run_recipe(before, data, runs, recipe.seed, init, True, hardware, logging_options, say)
    if result.interrupted:
        raise KeyboardInterrupt
    return result.weights
