"""Sequences through the network: what is given, what is predicted, and what is remembered."""

import pytest
import torch

from stm_skeletons.skeleton import COCO17
from training.data.samples import Sample
from training.model import ModelConfig, build
from training.unroll import Unroll

H, W, N = 64, 96, 4
CONFIG = ModelConfig(variant="resnet50", skeleton=COCO17, width=0.0625)
C = len(CONFIG.channels)


def batch(given: list[bool], count: int = 2, seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    return {
        "frames": torch.randint(0, 256, (count, N, H, W, 3), dtype=torch.uint8, generator=generator),
        "maps": torch.rand(count, N, C, H // 4, W // 4, generator=generator),
        "weights": torch.ones(count, N, C, H // 4, W // 4, dtype=torch.bool),
        "given": torch.tensor([given] * count),
        "readable": torch.ones(count, N, dtype=torch.bool),
    }


@pytest.fixture
def network() -> Unroll:
    torch.manual_seed(0)
    model = build(CONFIG)
    # A prediction that says something: fresh networks start with next to nothing.
    torch.nn.init.normal_(model.get_parameter("decoder.predict.weight"), std=0.3)
    return Unroll(model, "mse")


def test_only_predicted_frames_have_losses(network: Unroll):
    for given in ([True, True, True, False], [True, True, False, False], [True, False, False, False], [False] * 4):
        unrolled = network(batch(given))
        assert ((unrolled.losses > 0) == ~torch.tensor([given, given])).all()
        assert list(unrolled.maps) == [n for n in range(N) if not given[n]]


def test_batch_is_its_samples(network: Unroll):
    """Also when they differ in what is given, as with cold starts."""
    mixed = batch([True, True, False, False])
    mixed["given"][1] = False
    together = network(mixed).losses
    for i in range(2):
        alone: Sample = {key: value[i : i + 1] for key, value in mixed.items()}  # type: ignore[assignment]
        torch.testing.assert_close(network(alone).losses, together[i : i + 1])


def test_cyclic_training_remembers_its_own_predictions(network: Unroll):
    """What is labelled in a frame that is predicted changes its own loss and nothing later."""
    one, other = batch([True, False, False, False]), batch([True, False, False, False])
    other["maps"][:, 1] = 0
    first, second = network(one), network(other)
    torch.testing.assert_close(first.maps[3], second.maps[3])
    given, changed = batch([True, True, False, False]), batch([True, True, False, False])
    changed["maps"][:, 1] = 0
    assert not torch.allclose(network(given).maps[3], network(changed).maps[3])


def test_gradients_flow_through_what_was_remembered(network: Unroll):
    """The last frame's loss reaches the memory encoder through frame 1, which was predicted."""
    unrolled = network(batch([False, False, False, False]))
    unrolled.losses[:, 3].sum().backward()
    gradient = network.model.get_parameter("memory_encoder.conv1.weight").grad
    assert gradient is not None
    assert float(gradient[:, 3:].abs().max()) > 0


def test_dropped_frames_are_not_read(network: Unroll):
    whole, dropped = batch([True, True, True, False]), batch([True, True, True, False])
    dropped["readable"][:, 1] = False
    result = network(dropped).maps[3]
    assert not torch.allclose(network(whole).maps[3], result)
    dropped["maps"][:, 1] = 0
    torch.testing.assert_close(network(dropped).maps[3], result)


@pytest.mark.parametrize("variant", ["edge", "stm"])
def test_every_variant_goes_through(variant: str):
    model = build(ModelConfig.model_validate({"variant": variant, "width": 1 if variant == "edge" else 0.0625}))
    sample = batch([True, False, False, False], count=1)
    channels = len(model.config.channels)
    sample["maps"], sample["weights"] = sample["maps"][:, :, :channels], sample["weights"][:, :, :channels]
    unrolled = Unroll(model, "focal")(sample)
    unrolled.losses.sum().backward()
    assert torch.isfinite(unrolled.losses).all()
