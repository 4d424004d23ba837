"""The network at the start of a training run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from stm_skeletons.errors import RecipeError, WeightsError
from training.model import SpaceTimeMemory, build
from training.model.weights import load_mean
from training.recipe import Recipe

_FRESH = "fresh weights"


def starting_model(recipe: Recipe, init: Sequence[Path]) -> tuple[SpaceTimeMemory, str]:
    """A recipe's network with its frozen parameters, and the origin of its weights.

    Starts from the mean of the weights in ``init``, or from random weights without any.

    Raises:
        WeightsError: the starting weights cannot be read or are of another network.
        RecipeError: ``freeze`` names parameters that the network does not have.
    """
    torch.manual_seed(recipe.seed)
    if not init:
        model, origin = build(recipe.model.config), f"{_FRESH}, trained: {recipe.title}"
        _freeze(model, recipe.optimiser.freeze)
        return model, origin
    model, provenance = load_mean(init)
    if model.config != recipe.model.config:
        raise WeightsError(
            f"{init[0]} is {_describe(provenance.config.model_dump())}, but the recipe trains "
            f"{_describe(recipe.model.config.model_dump())}"
        )
    _freeze(model, recipe.optimiser.freeze)
    return model, f"{provenance.origin}; trained: {recipe.title}"


def _describe(config: dict) -> str:
    extra = f" at width {config['width']:g}" if config["width"] != 1 else ""
    edges = " with edges only" if config["edges_only"] else ""
    return f"{config['variant']} of {config['skeleton']['name']}{edges}{extra}"


def _freeze(model: SpaceTimeMemory, beginnings: tuple[str, ...]) -> None:
    for beginning in beginnings:
        frozen = [parameter for name, parameter in model.named_parameters() if name.startswith(beginning)]
        if not frozen:
            parts = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
            raise RecipeError(
                f"optimiser.freeze: no parameter begins with '{beginning}'; choose from {', '.join(parts)}"
            )
        for parameter in frozen:
            parameter.requires_grad_(False)
