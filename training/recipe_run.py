"""A recipe from its name to weights: data opened, earlier recipes trained first, everything in one folder."""

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

    A recipe that goes on from others (``after``) first has them trained, or takes their weights if they are there
    already.

    Args:
        name: of a shipped recipe, or its file.
        data: folder of each kind of data that is needed.
        runs: folder of all runs.
        seed: instead of the recipe's.
        init: starting weights; of the first recipe, if there are several.
        resume: go on with a run that was stopped. Without it, a folder that holds a run already is an error.
        hardware, logging_options: see training.train.
        say: is given what the user should know, line by line.

    Raises:
        RecipeError: as load_recipe, or data of a kind that is not given.
        SinkError, DataError, WeightsError, TrainingError: as training.train.
    """
    recipe = load_recipe(name)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    folder = run_folder(runs, name, recipe.seed)
    _check_given(recipe, name, data)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise RecipeError(f"{folder} holds a run already; --resume goes on with it, another --out starts anew")
    before = [_weights_of(name, recipe, data, runs, init, hardware, logging_options, say) for name in recipe.after]
    training_data, validation_data = (open_split(recipe, data[recipe.data.kind], split) for split in ("train", "val"))
    interleaved = _interleaved(recipe, name, data)
    for problem in (
        *training_data.problems,
        *validation_data.problems,
        *(interleaved[1].problems if interleaved else ()),
    ):
        say(problem)
    resume = resume and checkpoint.exists()
    starting = before or ([init] if init else [])
    return train(
        recipe, training_data, validation_data, folder, starting, resume, hardware, logging_options, interleaved
    )


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """Where a recipe's run is kept."""
    return runs / Path(name).stem / f"seed{seed}"


def open_split(recipe: Recipe, root: Path, split: str) -> DataSet:
    """The recipe's data, "train" or "val"; sequences can be made of it. Raises DataError."""
    section = recipe.data
    skeleton = recipe.model.config.skeleton
    data = open_data(section.kind, root, split, skeleton, section.holdout, section.holdout_seed)
    if recipe.sequence.kind == "real" and not data.videos:
        raise DataError(f"{data.name} in {root} has no video of two or more labelled frames")
    return data


def _check_given(recipe: Recipe, name: str, data: Mapping[str, Path]) -> None:
    if recipe.data.kind not in data:
        raise RecipeError(f"{name} needs {recipe.data.kind} data: --data {recipe.data.kind}=FOLDER")


def _interleaved(recipe: Recipe, name: str, data: Mapping[str, Path]) -> tuple[Recipe, DataSet] | None:
    """The recipe whose samples take turns with this one's, and its data."""
    if recipe.interleaved_with is None:
        return None
    other = load_recipe(recipe.interleaved_with)
    ours, theirs = _fits_in_batch(recipe), _fits_in_batch(other)
    for what in ours:
        if ours[what] != theirs[what]:
            raise RecipeError(
                f"{name} and {recipe.interleaved_with} take turns, but differ in {what}: {ours[what]} and {theirs[what]}"
            )
    _check_given(other, recipe.interleaved_with, data)
    return other, open_split(other, data[other.data.kind], "train")


def _fits_in_batch(recipe: Recipe) -> dict[str, object]:
    """What samples must have in common to lie in one batch, besides their length."""
    return {"size": recipe.size, "skeleton": recipe.model.skeleton}


def _weights_of(
    before: str,
    recipe: Recipe,
    data: Mapping[str, Path],
    runs: Path,
    init: Path | None,
    hardware: Hardware,
    logging_options: LoggingOptions,
    say: Callable[[str], None],
) -> Path:
    """Of a recipe that ``recipe`` goes on from, trained if need be."""
    folder = run_folder(runs, before, recipe.seed)
    weights = folder / "weights.safetensors"
    if weights.is_file():
        say(f"starting from {weights}")
        return weights
    say(f"{before} comes first")
    result = run_recipe(before, data, runs, recipe.seed, init, True, hardware, logging_options, say)
    if result.interrupted:
        raise KeyboardInterrupt
    return result.weights
