"""The losses compared with values computed by hand, and their gradients."""

import math

import pytest
import torch

from training.losses import LOSSES, LossName, cc, focal, mse

NAMES: list[LossName] = ["mse", "cc", "focal", "mse+focal"]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def confidences(*values: float) -> torch.Tensor:
    return maps(*(logit(value) for value in values))


ONES = maps(1, 1, 1, 1)


def test_mse_by_hand():
    loss = mse(confidences(0.9, 0.2, 0.5, 0.6), maps(1, 0, 0.5, 1), ONES)
    assert loss.tolist() == pytest.approx([(0.01 + 0.04 + 0 + 0.16) / 4])


def test_cc_by_hand():
    # p - mean = (.3, -.3, .1, -.1), y - mean = (.5, -.5, .5, -.5): covariance .4, variances .2 and 1
    loss = cc(confidences(0.8, 0.2, 0.6, 0.4), maps(1, 0, 1, 0), ONES)
    assert loss.tolist() == pytest.approx([1 - 0.4 / math.sqrt(0.2 * 1.0)])


def test_cc_is_zero_for_positive_linear_relation_and_one_without_contrast():
    assert float(cc(confidences(0.3, 0.2, 0.25, 0.4), maps(0.6, 0.4, 0.5, 0.8), ONES)) == pytest.approx(0, abs=1e-6)
    assert float(cc(confidences(0.3, 0.2, 0.25, 0.4), maps(0, 0, 0, 0), ONES)) == pytest.approx(1)


def test_focal_by_hand():
    def cross_entropy(p: float, y: float) -> float:
        return -(y * math.log(p) + (1 - y) * math.log(1 - p))

    pairs = [(0.9, 1.0), (0.2, 0.0), (0.5, 0.7), (0.6, 0.6)]
    expected = sum(abs(y - p) ** 2 * cross_entropy(p, y) for p, y in pairs) / 4
    loss = focal(confidences(*(p for p, _ in pairs)), maps(*(y for _, y in pairs)), ONES)
    assert loss.tolist() == pytest.approx([expected])


def test_focal_equals_lins_focal_loss_for_hard_targets():
    p = 0.7
    loss = focal(confidences(p, p), maps(1, 0), maps(1, 1))
    expected = (-((1 - p) ** 2) * math.log(p) - p**2 * math.log(1 - p)) / 2
    assert float(loss) == pytest.approx(expected)


def test_squared_error_added_to_focal_loss_suppresses_haze():
    """It strengthens the gradient that lowers 0.1 to 0 more than the gradient that raises 0.8 to 1."""
    added = {}
    for confidence, target in ((0.1, 0.0), (0.8, 1.0)):
        logits = torch.logit(maps(confidence)).requires_grad_()
        losses = [LOSSES[name](logits, maps(target), maps(1)).sum() for name in ("focal", "mse+focal")]
        alone, both = (float(torch.autograd.grad(loss, logits)[0]) for loss in losses)
        added[confidence] = both / alone
    assert added[0.1] > 6
    assert added[0.8] < 4


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_weight_zero_are_ignored(name: LossName):
    logits, targets = confidences(0.8, 0.2, 0.6, 0.4), maps(1, 0, 0.4, 0.9)
    weights = maps(1, 1, 1, 0)
    changed = torch.cat([logits[..., :3], maps(9.0)], dim=-1)
    assert float(LOSSES[name](logits, targets, weights)) == float(LOSSES[name](changed, targets, weights))
    assert float(LOSSES[name](logits, targets, 0 * weights)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_has_its_own_loss(name: LossName):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    weights = (torch.rand(3, 2, 4, 5, generator=generator) > 0.3).double()
    together = LOSSES[name](logits, targets, weights)
    alone = torch.cat([LOSSES[name](logits[i : i + 1], targets[i : i + 1], weights[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_match_finite_differences(name: LossName):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    weights = (torch.rand(2, 3, 3, 4, generator=generator) > 0.3).double()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, targets, weights), (logits,))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_descent_reaches_the_targets(name: LossName):
    targets = maps(0.9, 0.1, 0.6, 0.3)
    logits = torch.zeros_like(targets)
    logits[..., 0] = 0.1
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        LOSSES[name](logits, targets, ONES).sum().backward()
        optimiser.step()
    found = torch.sigmoid(logits.detach()).flatten()
    if name == "cc":
        assert float(torch.corrcoef(torch.stack([found, targets.flatten()]))[0, 1]) > 0.999
    else:
        torch.testing.assert_close(found, targets.flatten(), atol=0.02, rtol=0)
