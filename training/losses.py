"""The paper's losses (section 2.3) between logits and maps, over the cells that count.

All take logits and targets [B, C, h, w], targets in [0, 1], and weights of the same shape (1 counts, 0 does not), and
give one value a sample, [B]: so the loss of a batch is the mean of its samples', however they are spread over devices.
A sample of which nothing counts has loss 0.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["mse", "cc", "focal", "mse+focal"]

FOCAL_EXPONENT = 2.0


def mse(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of the confidences."""
    return _mean((torch.sigmoid(logits) - targets) ** 2, weights)


def cc(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - Pearson's correlation between the confidences and the targets, over all maps of a sample together.

    Bruckert et al. (Deep saliency models: the quest for the loss function, 2021), which the paper refers to, correlate
    single maps; over all maps together a map in which nothing is to be seen still counts. For one map it is the same.
    Where the targets are constant there is no correlation: the loss is 1 and has no gradient.
    """
    confidences = torch.sigmoid(logits)
    p = (confidences - _mean(confidences, weights)[:, None, None, None]) * weights
    y = (targets - _mean(targets, weights)[:, None, None, None]) * weights
    covariance = (p * y).flatten(1).sum(1)
    variances = (p**2).flatten(1).sum(1) * (y**2).flatten(1).sum(1)
    correlation = covariance / (variances + 1e-12).sqrt()
    return (1 - correlation) * (weights.flatten(1).amax(1) > 0)


def focal(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Focal loss for targets between 0 and 1: |y - p|^2 times the binary cross entropy.

    This is the quality focal loss of Li et al. (Generalized Focal Loss, NeurIPS 2020, equation 3): for targets of 0 and
    1 it is Lin et al.'s focal loss with gamma = 2, and its minimum is at p = y. The paper does not say which form it
    has.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _mean((torch.sigmoid(logits) - targets).abs() ** FOCAL_EXPONENT * cross_entropy, weights)


def mse_and_focal(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Their sum; not in the paper. Near 0 the focal loss grows with the cube of a confidence and leaves a haze of 0.1
    around people that memory keeps alive; the squared error clears it away."""
    return mse(logits, targets, weights) + focal(logits, targets, weights)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "cc": cc,
    "focal": focal,
    "mse+focal": mse_and_focal,
}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """[B]: the mean over what counts."""
    total = weights.flatten(1).sum(1)
    return (values * weights).flatten(1).sum(1) / total.clamp(min=1)
