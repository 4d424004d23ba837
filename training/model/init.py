"""Starting weights: converted from files of other projects, or random."""

from pathlib import Path

import torch
from pydantic import ValidationError

from stm_skeletons.errors import WeightsError
from stm_skeletons.skeleton import skeleton_named
from stm_skeletons.strict import validation_message
from training.model import Edge, ModelConfig, STMSkeletons, build, from_movenet, official
from training.model.weights import save_weights

FRESH = "fresh, untrained weights"


def network(variant: str, skeleton: str = "coco17", edges_only: bool = False) -> ModelConfig:
    """The configuration of a network from command-line options.

    Args:
        variant: "edge", "resnet50" or "stm".
        skeleton: name of a skeleton.
        edges_only: omit the keypoint maps; resnet50 only.

    Raises:
        WeightsError: the options do not describe a network.
        SkeletonError: the skeleton is unknown.
    """
    try:
        fields = {"variant": variant, "skeleton": skeleton_named(skeleton), "edges_only": edges_only}
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        raise WeightsError(f"no such network: {validation_message(error)}") from error


def init_weights(config: ModelConfig, out: str | Path, source: str | Path | None = None, random_seed: int = 0) -> str:
    """Write the starting weights of a network and return their origin.

    Args:
        config: the network.
        out: safetensors file to write.
        source: MoveNet MultiPose's ONNX file for edge, STM's official weights for the others; None for random weights.
        random_seed: seed of the layers with random weights.

    Raises:
        WeightsError: the source does not fit the variant.
        SinkError: ``out`` cannot be written.
    """
    torch.manual_seed(random_seed)
    model = build(config)
    origin = FRESH
    if source is not None and isinstance(model, Edge):
        from_movenet.load_movenet(model, source)
        origin = from_movenet.ORIGIN
    elif source is not None and isinstance(model, STMSkeletons):
        official.load_official(model, source)
        origin = official.ORIGIN
    save_weights(out, model, origin)
    return origin
