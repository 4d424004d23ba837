"""Unrolling a network over sequences: given frames, predicted frames, and the memory."""

import pytest
import torch

from stm_skeletons.skeleton import COCO17
from training.data.samples import Sample
from training.model import ModelConfig, build
from training.model.session import TorchSession
from training.recipe import MemorySection
from training.unroll import Unroll

H, W, N = 64, 96, 4
CONFIG = ModelConfig(variant="resnet50", skeleton=COCO17, width=0.0625)
C = len(CONFIG.channels)


def batch(given: list[bool], count: int = 2, seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    number = len(given)
    return {
        "frames": torch.randint(0, 256, (count, number, H, W, 3), dtype=torch.uint8, generator=generator),
        "maps": torch.rand(count, number, C, H // 4, W // 4, generator=generator),
        "weights": torch.ones(count, number, C, H // 4, W // 4, dtype=torch.bool),
        "given": torch.tensor([given] * count),
        "readable": torch.ones(count, number, dtype=torch.bool),
    }


@pytest.fixture
def network() -> Unroll:
    torch.manual_seed(0)
    model = build(CONFIG)
    # Fresh networks predict almost nothing; larger weights give a prediction that can be compared.
    torch.nn.init.normal_(model.get_parameter("decoder.predict.weight"), std=0.3)
    return Unroll(model, "mse")


def test_only_predicted_frames_have_losses(network: Unroll):
    for given in ([True, True, True, False], [True, True, False, False], [True, False, False, False], [False] * 4):
        unrolled = network(batch(given))
        assert ((unrolled.losses > 0) == ~torch.tensor([given, given])).all()
        assert list(unrolled.maps) == [n for n in range(N) if not given[n]]


def test_samples_of_a_batch_are_independent(network: Unroll):
    """Also if the given frames differ between samples, as with cold starts."""
    mixed = batch([True, True, False, False])
    mixed["given"][1] = False
    together = network(mixed).losses
    for i in range(2):
        alone: Sample = {key: value[i : i + 1] for key, value in mixed.items()}  # type: ignore[assignment]
        torch.testing.assert_close(network(alone).losses, together[i : i + 1])


def test_cyclic_training_remembers_its_own_predictions(network: Unroll):
    """The labels of a predicted frame affect its own loss but no later frame."""
    one, other = batch([True, False, False, False]), batch([True, False, False, False])
    other["maps"][:, 1] = 0
    first, second = network(one), network(other)
    torch.testing.assert_close(first.maps[3], second.maps[3])
    given, changed = batch([True, True, False, False]), batch([True, True, False, False])
    changed["maps"][:, 1] = 0
    assert not torch.allclose(network(given).maps[3], network(changed).maps[3])


def test_gradients_flow_through_the_memory(network: Unroll):
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


@pytest.mark.parametrize(("slots", "every"), [(2, 1), (3, 1), (4, 2), (5, 3)])
def test_unrolling_with_slots_equals_a_session(network: Unroll, slots: int, every: int):
    """From a cold start, the maps of each frame equal those of a session with the same memory."""
    sample = batch([False] * 10, count=1)
    maps = Unroll(network.model, "mse", MemorySection(slots=slots, every=every))(sample).maps
    session = TorchSession(network.model, slots, every)
    for number, frame in enumerate(sample["frames"][0].numpy()):
        session.step(frame)
        torch.testing.assert_close(maps[number][0], torch.from_numpy(session.maps()), atol=1e-4, rtol=0)
    assert (network(sample).maps[9] - maps[9]).abs().max() > 1e-3, "reading all earlier frames gives other maps"


@pytest.mark.parametrize(
    ("memory", "read"),
    [(MemorySection(slots=3), {0, 4}), (MemorySection(slots=4, every=2), {0, 2, 4}), (MemorySection(), set(range(5)))],
    ids=["a ring of one", "a ring of two", "all"],
)
def test_overwritten_frames_are_not_read_but_the_first_frame_is(network: Unroll, memory: MemorySection, read: set[int]):
    def last_maps(changed: int | None) -> torch.Tensor:
        sample = batch([True] * 5 + [False])
        if changed is not None:
            sample["frames"][:, changed] = 0
            sample["maps"][:, changed] = 0
        return Unroll(network.model, "mse", memory)(sample).maps[5]

    unchanged = last_maps(None)
    for number in range(5):
        assert torch.allclose(last_maps(number), unchanged, atol=1e-5) == (number not in read), number


@pytest.mark.parametrize(("truncate", "reached"), [(None, {0, 1, 2}), (1, set()), (2, {2}), (4, {0, 1, 2})])
@pytest.mark.parametrize("slots", [None, 4])
def test_truncation_cuts_gradients_but_changes_no_values(
    network: Unroll, slots: int | None, truncate: int | None, reached: set[int]
):
    """The loss of the last frame sends gradients only to the given frames memorised since the latest cut."""
    sample = batch([True, True, True, False])
    sample["maps"].requires_grad_()
    unrolled = Unroll(network.model, "mse", MemorySection(slots=slots, truncate=truncate))(sample)
    whole = network(sample)
    torch.testing.assert_close(unrolled.losses, whole.losses, atol=0, rtol=0)
    torch.testing.assert_close(unrolled.maps[3], whole.maps[3], atol=0, rtol=0)
    (gradient,) = torch.autograd.grad(unrolled.losses.sum(), sample["maps"])
    assert {number for number in range(3) if gradient[:, number].any()} == reached


def test_truncation_changes_gradients_of_cyclic_training_but_not_its_loss(network: Unroll):
    def loss_and_gradient(truncate: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        losses = Unroll(network.model, "mse", MemorySection(truncate=truncate))(batch([False] * 4)).losses
        (gradient,) = torch.autograd.grad(losses.sum(), network.model.get_parameter("memory_encoder.conv1.weight"))
        return losses, gradient

    (whole, through_all), (cut, through_two) = loss_and_gradient(None), loss_and_gradient(2)
    torch.testing.assert_close(cut, whole, atol=0, rtol=0)
    assert float(through_two.abs().max()) > 0
    assert not torch.allclose(through_two, through_all)


@pytest.mark.parametrize("variant", ["edge", "stm"])
def test_every_variant_can_be_unrolled(variant: str):
    model = build(ModelConfig.model_validate({"variant": variant, "width": 1 if variant == "edge" else 0.0625}))
    sample = batch([True, False, False, False], count=1)
    channels = len(model.config.channels)
    sample["maps"], sample["weights"] = sample["maps"][:, :, :channels], sample["weights"][:, :, :channels]
    unrolled = Unroll(model, "focal")(sample)
    unrolled.losses.sum().backward()
    assert torch.isfinite(unrolled.losses).all()
