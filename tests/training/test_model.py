import pytest
import torch
from pydantic import ValidationError

from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.model import ModelConfig, SpaceTimeMemory, build
from training.model.resnet import FrozenBatchNorm2d

H, W, T = 64, 96, 3
Q = H // 16 * (W // 16)

CONFIGS = {
    "edge": ModelConfig(variant="edge"),
    "edge-posetrack": ModelConfig(variant="edge", skeleton=POSETRACK15),
    "resnet50": ModelConfig(variant="resnet50"),
    "resnet50-edges-only": ModelConfig(variant="resnet50", skeleton=POSETRACK15, edges_only=True),
    "stm": ModelConfig(variant="stm"),
}
WIDTHS = {"edge": (64, 64), "resnet50": (128, 512), "stm": (128, 512)}
MAPS = {"edge": 37, "edge-posetrack": 30, "resnet50": 37, "resnet50-edges-only": 15, "stm": 1}


@pytest.fixture(params=CONFIGS, scope="module")
def named_model(request: pytest.FixtureRequest) -> tuple[str, SpaceTimeMemory]:
    torch.manual_seed(0)
    return request.param, build(CONFIGS[request.param]).eval()


@torch.no_grad()
def test_shapes_and_batches(named_model: tuple[str, SpaceTimeMemory]):
    name, model = named_model
    key_width, value_width = WIDTHS[model.config.variant]
    frames = torch.randint(0, 256, (2, H, W, 3), dtype=torch.uint8)
    query = model.encode_query(frames)
    assert query.key.shape == (2, Q, key_width)
    assert query.value.shape == (2, Q, value_width)
    keys = torch.randn(2, T, Q, key_width)
    values = torch.randn(2, T, Q, value_width)
    valid = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    maps = model(query, keys, values, valid)
    assert maps.shape == (2, MAPS[name], H // 4, W // 4)
    assert torch.isfinite(maps).all()
    source = frames if model.memory_source == "frame" else query.features[model.memory_source]
    key, value = model.encode_memory(source, maps)
    assert key.shape == (2, Q, key_width)
    assert value.shape == (2, Q, value_width)
    alone = model(model.encode_query(frames[:1]), keys[:1], values[:1], valid[:1])
    torch.testing.assert_close(alone, maps[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["edge", "resnet50"])
def test_colour_order_is_bgr(name: str):
    """The first convolution sees red first, as the weights it is to be loaded with were trained."""
    model = build(CONFIGS[name])
    seen = []
    trunk = model.get_submodule("trunk.stem" if name == "edge" else "query_encoder.conv1")
    trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frame = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    frame[..., 2] = 255  # red, in BGR
    model.encode_query(frame)
    red, green, blue = seen[0][0, :, 0, 0].tolist()
    assert red > 0.9
    assert green == pytest.approx(blue, abs=0.4)
    assert green < 0


@pytest.mark.parametrize("name", ["resnet50", "stm"])
def test_batch_norm_never_changes_and_is_never_trained(name: str):
    model = build(CONFIGS[name]).train()
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(norms) == 2 * 43
    assert not any(True for norm in norms for _ in norm.parameters())
    before = [norm.running_mean.clone() for norm in norms]
    model.encode_query(torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8))
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))


def test_gradients_reach_every_parameter_of_edge_but_those_behind_the_zero():
    model = build(CONFIGS["edge"])
    torch.nn.init.normal_(model.get_parameter("memory_residual.predict.weight"))
    frame = torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8)
    first = model.encode_query(frame)
    empty = model(first, torch.zeros(1, 1, Q, 64), torch.zeros(1, 1, Q, 64), torch.zeros(1, 1))
    key, value = model.encode_memory(first.features["features_16"], empty)
    second = model.encode_query(frame.flip(2))
    model(second, key[:, None], value[:, None], torch.ones(1, 1)).sum().backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert untouched == []


def test_fresh_edge_ignores_its_memory_exactly():
    torch.manual_seed(0)
    model = build(CONFIGS["edge"]).eval()
    query = model.encode_query(torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8))
    memory = torch.randn(1, T, Q, 64), torch.randn(1, T, Q, 64)
    full = model(query, *memory, torch.ones(1, T))
    assert torch.equal(full, model(query, *memory, torch.zeros(1, T)))


def test_edges_only_is_for_resnet50():
    with pytest.raises(ValidationError, match="edges_only"):
        ModelConfig(variant="edge", skeleton=COCO17, edges_only=True)
