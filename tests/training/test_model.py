import pytest
import torch
from pydantic import ValidationError

from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.model import Edge, ModelConfig, SpaceTimeMemory, build
from training.model.edge import CONTEXT_CHANNELS, MOST_LOWERED, VALUE_CHANNELS, Fusion
from training.model.movenet import upsample
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
WIDTHS = {"edge": (64, 96), "resnet50": (128, 512), "stm": (128, 512)}
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
    # The order of summation depends on the batch size. Random memories of edge amplify the difference on some CPUs.
    torch.testing.assert_close(alone, maps[:1], atol=3e-4, rtol=0)
    other = model(model.encode_query(frames[:1]), keys[1:], values[1:], valid[:1])
    assert (other - alone).abs().max() > 3e-3, "a different memory gives different maps"


@pytest.mark.parametrize("name", ["edge", "resnet50"])
def test_colour_order_is_bgr(name: str):
    """The first convolution gets RGB, like the pretrained weights; frames are BGR."""
    model = build(CONFIGS[name])
    recorded = []
    trunk = model.get_submodule("trunk.stem" if name == "edge" else "query_encoder.conv1")
    trunk.register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0]))
    frame = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    frame[..., 2] = 255  # red, in BGR
    model.encode_query(frame)
    red, green, blue = recorded[0][0, :, 0, 0].tolist()
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


def test_gradients_reach_every_parameter_of_edge():
    """The memory has two slots, because the choice of a slot is learnt only if there are several."""
    torch.manual_seed(0)
    model = build(CONFIGS["edge"])
    assert isinstance(model, Edge)
    for last in ("fusion.shares", "clearness.predict", "centres.predict"):  # these are initialised to zero
        torch.nn.init.normal_(model.get_parameter(f"{last}.weight"))
    frames = [torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8) for _ in range(3)]
    no_memory = torch.zeros(1, 2, Q, 64), torch.zeros(1, 2, Q, 96), torch.zeros(1, 2)
    slots = []
    for frame in frames[:2]:
        query = model.encode_query(frame)
        slots.append(model.encode_memory(query.features["features_16"], model(query, *no_memory)))
    keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*slots, strict=True))
    query = model.encode_query(frames[2])
    maps = model(query, keys, values, torch.ones(1, 2))
    features = model.shared_features(query)
    steps = model.centres.steps(features, torch.tensor([[0, 7]]))
    (maps.square().sum() + model.centres.heat_map(features).square().sum() + steps.square().sum()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    without_gradient = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert without_gradient == []


def edge_with_kaiming_weights() -> Edge:
    """Return edge with Kaiming weights; with PyTorch's defaults, the signal vanishes in such a deep trunk."""
    torch.manual_seed(0)
    model = build(CONFIGS["edge"])
    assert isinstance(model, Edge)
    for module in model.trunk.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


@torch.no_grad()
def test_edge_without_memory_equals_its_detector():
    """The keypoint maps are exactly MoveNet's, for any weights of the fusion."""
    torch.manual_seed(0)
    model = build(CONFIGS["edge"]).eval()
    assert isinstance(model, Edge)
    torch.nn.init.normal_(model.get_parameter("fusion.shares.weight"))
    query = model.encode_query(torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8))
    memory = torch.randn(1, T, Q, 64), 100 * torch.randn(1, T, Q, 96)
    read = model.read(query, *memory, torch.zeros(1, T))
    assert torch.equal(read, torch.zeros(1, 42, H // 8, W // 8))
    detected = model.keypoint_head(model.fpn(*(query.features[name] for name in model.decoder_features)))
    assert torch.equal(model(query, *memory, torch.zeros(1, T))[:, 1:18], torch.sigmoid(detected))
    full = model(query, *memory, torch.ones(1, T))
    assert not torch.allclose(full[:, 1:18], torch.sigmoid(detected), atol=1e-2)


@torch.no_grad()
def test_edge_is_never_more_confident_than_its_best_single_frame():
    """For any weights and any number of frames, confidences do not grow by reading past predictions."""
    torch.manual_seed(3)
    model = edge_with_kaiming_weights().eval()
    for predict in ("fusion.shares", "clearness.predict"):
        torch.nn.init.normal_(model.get_parameter(f"{predict}.weight"), std=0.5)
    highest, memory = torch.zeros(17), []
    no_memory = torch.zeros(1, 1, Q, 64), torch.zeros(1, 1, Q, 96), torch.zeros(1, 1)
    for _ in range(12):
        query = model.encode_query(torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8))
        highest = torch.maximum(highest, model(query, *no_memory)[0, 1:18].amax((1, 2)))
        keys, values, valid = no_memory
        if memory:
            keys, values = (torch.stack(tensors[-T:], dim=1) for tensors in zip(*memory, strict=True))
            valid = torch.ones(1, keys.shape[1])
        found = model(query, keys, values, valid)
        assert (found[0, 1:18].amax((1, 2)) <= highest + 1e-6).all()
        memory.append(model.encode_memory(query.features["features_16"], found))


@torch.no_grad()
def test_untrained_edge_remembers_joints_that_are_no_longer_visible():
    """The initial shares of the fusion keep joints that the memory holds."""
    model = edge_with_kaiming_weights().eval()
    query = model.encode_query(torch.randint(0, 256, (1, H, W, 3), dtype=torch.uint8))
    given = torch.zeros(1, 37, H // 4, W // 4)
    given[:, 5, 6:10, 10:14] = 1
    key, value = model.encode_memory(query.features["features_16"], given)
    maps = model(query, key[:, None], value[:, None], torch.ones(1, 1))
    assert maps[0, 5, 8, 12] > 0.4
    assert maps[0, 5, 1, 1] < 0.1


def fusion_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random read, context, features and detected maps; the slots' mean is below their maximum."""
    largest, known = torch.rand(1, 17, H // 8, W // 8), torch.ones(1, 1, H // 8, W // 8)
    mean = largest * torch.rand_like(largest)
    learnt = torch.randn(1, VALUE_CHANNELS - 17, H // 8, W // 8)
    read = torch.cat([mean, learnt[:, 1:], largest, learnt[:, :1], known], dim=1)
    context, features = torch.randn(1, CONTEXT_CHANNELS, H // 16, W // 16), torch.randn(1, 24, H // 4, W // 4)
    return read, context, features, torch.rand(1, 17, H // 4, W // 4)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_fusion_lies_between_detection_and_memory(seed: int):
    """In every cell and for any weights, the result is below the detection by at most the bound."""
    torch.manual_seed(seed)
    fusion = Fusion(17)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    read, context, features, detected = fusion_inputs()
    mixed = fusion(read, context, features, detected)
    mean, largest = upsample(read[:, :17]), upsample(read[:, -19:-2])
    assert (mixed <= torch.maximum(detected, largest) + 1e-6).all()
    assert (mixed >= torch.minimum(detected, detected + MOST_LOWERED * (mean - detected)) - 1e-6).all()
    assert (mixed > detected + 0.05).any(), "memory can raise a detection"
    assert (mixed < detected - 0.05).any(), "memory can lower a detection"


@torch.no_grad()
def test_person_entering_an_empty_area_appears_even_if_only_memory_is_trusted():
    """With weights that trust only the memory, the bound alone lets a repeated detection through."""
    fusion = Fusion(17)
    torch.nn.init.constant_(fusion.shares.get_parameter("bias"), 100)
    read, context, features, detected = fusion_inputs()
    read[:, :-1], detected[:] = 0, 0.8
    confidences = []
    for _ in range(8):
        confidences.append(fusion(read, context, features, detected).mean().item())
        read[:, :17] = read[:, -19:-2] = confidences[-1]
    assert confidences[0] == pytest.approx(0.8 * (1 - MOST_LOWERED))
    assert confidences[3] > 0.65 * 0.8
    assert confidences[7] > 0.85 * 0.8


@torch.no_grad()
def test_remembered_joint_gives_way_to_the_same_joint_seen_beside_it():
    """For any weights: a person who walks on leaves nothing behind; a hidden one, and other joints, are kept."""
    fusion = Fusion(17)
    torch.nn.init.constant_(fusion.shares.get_parameter("bias"), 100)
    read, context, features, detected = fusion_inputs()
    read[:, :-1], detected[:] = 0, 0
    read[:, :17, 2:5, 3:6] = read[:, -19:-2, 2:5, 3:6] = 0.6  # around rows 6 and 7, columns 8 and 9 at stride 4
    detected[:, 0, 7, 11] = 0.8
    mixed = fusion(read, context, features, detected)[0, :, 6:8, 8:10]
    assert mixed[0].max() < 0.2
    assert mixed[1:].min() > 0.59
    detected[:, 0, 7, 11] = 0.1
    assert fusion(read, context, features, detected)[0, 0, 6:8, 8:10].min() > 0.45, "seen dimly, so perhaps not it"
    detected[:, 0, 6, 8] = 0.2
    assert fusion(read, context, features, detected)[0, 0, 6:8, 8:10].min() > 0.5, "seen best where it is remembered"


@torch.no_grad()
def test_untrained_fusion_is_nearly_the_mean_of_detection_and_memory():
    """It is the mean where both are equally clear and the detection is lower; otherwise the clearer one counts more."""
    torch.manual_seed(0)
    fusion = Fusion(17)
    read, context, features, _ = fusion_inputs()
    detected = torch.rand(1, 17, 1, 1).expand(1, 17, H // 4, W // 4)  # nowhere more than nearby
    change = upsample(read[:, :17]) - detected
    change = torch.where(change < 0, MOST_LOWERED * change, change)
    read[:, -2] = context[:, -1] = 0
    mixed = fusion(read, context, features, detected)
    assert (mixed - (detected + change / 2)).abs().max() < 0.08
    for clearness, nearer in ((6, detected + change), (-6, detected)):
        read[:, -2] = clearness
        mixed = fusion(read, context, features, detected)
        assert (mixed - nearer).abs().max() < 0.11


@torch.no_grad()
def test_query_encoding_of_edge_is_invariant_to_feature_scale():
    """The scales of MoveNet's features differ widely between channels."""
    model = edge_with_kaiming_weights().train()
    frame = torch.randint(0, 256, (2, H, W, 3), dtype=torch.uint8)
    before = model.encode_query(frame)
    scale = torch.rand(144) * 1000 + 1
    project = model.trunk.blocks[10].get_submodule("project")
    project.get_parameter("weight").mul_(scale[:, None, None, None])
    project.get_parameter("bias").mul_(scale)
    after = model.encode_query(frame)
    torch.testing.assert_close(after.key, before.key, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(after.value, before.value, atol=5e-2, rtol=1e-2)


def test_edges_only_is_for_resnet50():
    with pytest.raises(ValidationError, match="edges_only"):
        ModelConfig(variant="edge", skeleton=COCO17, edges_only=True)
