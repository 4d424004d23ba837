"""The paper's losses (section 2.3) between logits and target maps, weighted by cell.

All functions take logits, targets in [0, 1] and weights (0: ignored), each [B, C, h, w], and return one value per
sample, [B]. So the loss of a batch is the mean over its samples, however they are distributed over devices. A sample
with all weights 0 has loss 0.
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
    """1 - Pearson's correlation between confidences and targets, over all maps of a sample together.

    Bruckert et al. (Deep saliency models: the quest for the loss function, 2021), whom the paper cites, correlate
    single maps. Over all maps together, empty maps contribute too; for a single map both are the same. If the targets
    are constant, the correlation is undefined: the loss is 1 and has no gradient.
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

    This is the quality focal loss of Li et al. (Generalized Focal Loss, NeurIPS 2020, equation 3). For targets 0 and 1
    it equals Lin et al.'s focal loss with gamma = 2, and its minimum is at p = y. The paper does not specify the form.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _mean((torch.sigmoid(logits) - targets).abs() ** FOCAL_EXPONENT * cross_entropy, weights)


def mse_and_focal(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Sum of both losses; not in the paper.

    Near 0, the focal loss grows only with the cube of a confidence. It leaves a haze of about 0.1 around people, which
    the memory preserves. The squared error removes it.
    """
    return mse(logits, targets, weights) + focal(logits, targets, weights)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "cc": cc,
    "focal": focal,
    "mse+focal": mse_and_focal,
}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """[B]: weighted mean."""
    total = weights.flatten(1).sum(1)
    return (values * weights).flatten(1).sum(1) / total.clamp(min=1)
