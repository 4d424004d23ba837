"""Learning on real images: a network overfits one sequence, and data loading keeps up."""

from pathlib import Path

import pytest
import torch

from stm_skeletons.skeleton import COCO17
from training.data.open import open_data
from training.data.samples import Sample, SampleOptions, Samples
from training.data.sequences import SequenceOptions
from training.evaluation.evaluate import evaluate
from training.hardware import Hardware
from training.model import ModelConfig, build
from training.model.edge import Edge
from training.model.from_movenet import load_movenet
from training.model.init import init_weights
from training.model.session import TorchSession
from training.recipe import Recipe, load_recipe
from training.recipe_run import open_split
from training.train import train
from training.unroll import Unroll

SIZE = (160, 96)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "steps", "rate"), [("edge", 150, 3e-3), pytest.param("resnet50", 400, 2e-3, marks=pytest.mark.soak)]
)
def test_one_sequence_is_learnt_by_heart(shared: Path, variant: str, steps: int, rate: float):
    """F1 exceeds 0.95 on the training sequence. Its first frame is given; the others are read from memory."""
    torch.manual_seed(0)
    width = 1.0 if variant == "edge" else 0.125
    model = build(ModelConfig.model_validate({"variant": variant, "width": width}))
    frozen = ()
    if isinstance(model, Edge):
        load_movenet(model, shared / "teacher" / "movenet-multipose.onnx")
        frozen = ("trunk",)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen or "none"))
    data = open_data("coco", shared / "coco", "train", COCO17)
    sequence = SequenceOptions(kind="synthetic", frames=5)
    samples = Samples(data, COCO17.channels, SIZE, sequence, SampleOptions(cyclic=True, given=1), seed=0)
    number = next(i for i in range(len(samples)) if 1 < samples.sequence(0, i).frames[0].inside.any(1).sum() < 5)
    sample = samples[0, number]
    batch: Sample = {key: value[None] for key, value in sample.items()}  # type: ignore[assignment]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    unroll = Unroll(model, "focal")
    for _ in range(steps):
        optimiser.zero_grad()
        unroll(batch).losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
    found = evaluate(TorchSession(model.eval()), [samples.sequence(0, number)], COCO17, COCO17.channels, "seed")
    f1 = found.best("one_to_one").f1
    print(f"{variant}: F1 {f1:.3f} on one sequence after {steps} steps")
    assert f1 > 0.95


@pytest.mark.slow
def test_two_workers_load_samples_fast_enough_for_edge(shared: Path, tmp_path: Path):
    """At 256 pixels and with all augmentations, training waits for samples less than a tenth of the time."""
    weights = tmp_path / "edge.safetensors"
    init_weights(ModelConfig(variant="edge"), weights, shared / "teacher" / "movenet-multipose.onnx")
    recipe = load_recipe("edge-coco-small")
    content = recipe.resolved()
    content["optimiser"]["length"] = "12 steps"
    content["validation"]["every"] = 100
    content["data"].update(width=256, height=256)
    recipe = Recipe.model_validate(content, strict=False)
    training_data, validation_data = (open_split(recipe, shared / "coco", split) for split in ("train", "val"))
    hardware = Hardware(accelerator="cpu", workers=2)
    result = train(recipe, training_data, validation_data, tmp_path / "run", [weights], hardware=hardware)
    print(f"{100 * result.waiting_share:.1f} % of the time spent waiting for samples")
    assert result.waiting_share < 0.1
