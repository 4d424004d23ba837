"""Loads STM's official weights (STM_weights.pth of Oh et al. 2019) into ``resnet50`` and ``stm``.

Common layers are matched by name. Only the memory encoder's stem and the decoder's last layer are widened; any other
difference is an error that lists the names.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from stm_skeletons.errors import WeightsError
from training.model.stm import IMAGENET_MEAN, IMAGENET_STD, STMSkeletons

ORIGIN = "official STM weights (Oh et al., ICCV 2019), layers in common; the rest is new"

_RENAMES = (
    (r"^module\.", ""),
    (r"^Encoder_M\.", "memory_encoder."),
    (r"^Encoder_Q\.", "query_encoder."),
    (r"\.res([234])\.", lambda match: f".layer{int(match[1]) - 1}."),
    (r"^KV_M_r4\.", "memory_head."),
    (r"^KV_Q_r4\.", "query_head."),
    (r"^(memory_head|query_head)\.Key\.", r"\1.key."),
    (r"^(memory_head|query_head)\.Value\.", r"\1.value."),
    (r"^Decoder\.", "decoder."),
    (r"^decoder\.convFM\.", "decoder.convert."),
    (r"^decoder\.ResMM\.", "decoder.residual."),
    (r"^decoder\.RF3\.", "decoder.refine_8."),
    (r"^decoder\.RF2\.", "decoder.refine_4."),
    (r"\.convFS\.", ".convert."),
    (r"\.ResFS\.", ".skip_residual."),
    (r"(refine_[48])\.ResMM\.", r"\1.merge_residual."),
    (r"^decoder\.pred2\.", "decoder.predict."),
)


def load_official(model: STMSkeletons, path: str | Path) -> None:
    """Initialise a network from the official file.

    The memory encoder's stem gets STM's RGB weights and, for the mask map, STM's mask weights. STM's input for *other*
    objects has no counterpart, because all people share the maps. STM predicts logits of background and object, takes
    their softmax and merges objects by soft aggregation. For a single object, this equals the sigmoid of twice the
    difference of the logits, which becomes the logit of our mask map. All other maps keep their random weights.

    Raises:
        WeightsError: the file is missing or unreadable, or names or shapes differ in layers other than the widened two.
    """
    renamed = {_rename(name): tensor for name, tensor in _read(Path(path)).items()}
    tensors = {name: tensor for name, tensor in renamed.items() if not name.endswith(".num_batches_tracked")}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    problems = _check_normalisation(tensors)
    problems += _widen_stem(tensors, state)
    problems += _widen_prediction(tensors, state)
    widened = {"memory_encoder.conv1.weight", "decoder.predict.weight", "decoder.predict.bias"}
    for name in state.keys() - widened:
        if name not in tensors:
            problems.append(f"missing {name}")
        elif tensors[name].shape != state[name].shape:
            problems.append(f"{name} {list(tensors[name].shape)} instead of {list(state[name].shape)}")
        else:
            state[name] = tensors.pop(name)
    problems += [f"unknown {name}" for name in tensors if name not in state.keys() | widened]
    if problems:
        raise WeightsError(f"{path} is not the official STM weights file: {'; '.join(sorted(problems))}")
    model.load_state_dict(state)


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; check the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's, zip's and OS errors for a bad file
        raise WeightsError(f"cannot read {path} as PyTorch weights ({type(error).__name__}); copy it again") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} must hold a dictionary of tensors")
    return content


def _check_normalisation(tensors: dict[str, Tensor]) -> list[str]:
    """Check the file's buffers with ImageNet's mean and standard deviation, which are constants here."""
    problems = []
    for encoder in ("memory_encoder", "query_encoder"):
        for buffer, ours in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            found = tensors.pop(f"{encoder}.{buffer}", None)
            if found is None or found.numel() != 3 or not torch.allclose(found.flatten(), torch.tensor(ours)):
                problems.append(f"{encoder}.{buffer} is not ImageNet's")
    return problems


def _widen_stem(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    stem = state["memory_encoder.conv1.weight"]
    parts = {suffix: tensors.pop(f"memory_encoder.{suffix}.weight", None) for suffix in ("conv1", "conv1_m", "conv1_o")}
    problems = []
    for (suffix, part), channels in zip(parts.items(), (3, 1, 1), strict=True):
        if part is None:
            problems.append(f"missing memory_encoder.{suffix}.weight")
        elif part.shape != (64, channels, 7, 7):
            problems.append(f"memory_encoder.{suffix}.weight {list(part.shape)} instead of [64, {channels}, 7, 7]")
    if not problems and parts["conv1"] is not None and parts["conv1_m"] is not None:
        stem[:, :3] = parts["conv1"]
        stem[:, 3:4] = parts["conv1_m"]
    return problems


def _widen_prediction(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    problems = []
    for suffix in ("weight", "bias"):
        ours = state[f"decoder.predict.{suffix}"]
        found = tensors.pop(f"decoder.predict.{suffix}", None)
        if found is None or found.shape != (2, *ours.shape[1:]):
            problems.append(f"decoder.predict.{suffix} is not [2, {', '.join(map(str, ours.shape[1:]))}]")
        else:
            ours[0] = 2 * (found[1] - found[0])
    return problems
