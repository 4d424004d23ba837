"""The official weights cannot be shipped, so their names and shapes are listed here, from STM's public code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_skeletons.errors import WeightsError
from training.model import ModelConfig, STMSkeletons, build
from training.model.official import load_official


def resnet_names() -> dict[str, tuple[int, ...]]:
    """Names of res2 to res4 of ResNet-50: STM's prefixes, with torchvision's names inside."""
    names: dict[str, tuple[int, ...]] = {"bn1": (64,)}
    inputs = 64
    for stage, (width, blocks) in {2: (64, 3), 3: (128, 4), 4: (256, 6)}.items():
        for block in range(blocks):
            at = f"res{stage}.{block}"
            names |= {
                f"{at}.conv1.weight": (width, inputs, 1, 1),
                f"{at}.bn1": (width,),
                f"{at}.conv2.weight": (width, width, 3, 3),
                f"{at}.bn2": (width,),
                f"{at}.conv3.weight": (4 * width, width, 1, 1),
                f"{at}.bn3": (4 * width,),
            }
            if block == 0:
                names |= {
                    f"{at}.downsample.0.weight": (4 * width, inputs, 1, 1),
                    f"{at}.downsample.1": (4 * width,),
                }
            inputs = 4 * width
    return names


def official_state() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random) * 0.05

    state: dict[str, Tensor] = {}
    for encoder in ("Encoder_M", "Encoder_Q"):
        state[f"{encoder}.mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        state[f"{encoder}.std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        state[f"{encoder}.conv1.weight"] = tensor(64, 3, 7, 7)
        for name, shape in resnet_names().items():
            if name.endswith("weight"):
                state[f"{encoder}.{name}"] = tensor(*shape)
                continue
            state[f"{encoder}.{name}.weight"] = 1 + tensor(*shape)
            state[f"{encoder}.{name}.bias"] = tensor(*shape)
            state[f"{encoder}.{name}.running_mean"] = tensor(*shape)
            state[f"{encoder}.{name}.running_var"] = 1 + tensor(*shape).abs()
            state[f"{encoder}.{name}.num_batches_tracked"] = torch.tensor(7)
    state["Encoder_M.conv1_m.weight"] = tensor(64, 1, 7, 7)
    state["Encoder_M.conv1_o.weight"] = tensor(64, 1, 7, 7)
    convolutions = {"KV_M_r4.Key": (128, 1024), "KV_M_r4.Value": (512, 1024)}
    convolutions |= {"KV_Q_r4.Key": (128, 1024), "KV_Q_r4.Value": (512, 1024)}
    convolutions |= {"Decoder.convFM": (256, 1024), "Decoder.RF3.convFS": (256, 512), "Decoder.RF2.convFS": (256, 256)}
    for block in ("ResMM", "RF3.ResFS", "RF3.ResMM", "RF2.ResFS", "RF2.ResMM"):
        convolutions |= {f"Decoder.{block}.conv{i}": (256, 256) for i in (1, 2)}
    convolutions["Decoder.pred2"] = (2, 256)
    for name, shape in convolutions.items():
        state[f"{name}.weight"] = tensor(*shape, 3, 3)
        state[f"{name}.bias"] = tensor(shape[0])
    return {f"module.{name}": value for name, value in state.items()}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "STM_weights.pth"
    torch.save(official_state(), path)
    return path


@pytest.mark.parametrize(
    "config",
    [ModelConfig(variant="stm"), ModelConfig(variant="resnet50"), ModelConfig(variant="resnet50", edges_only=True)],
    ids=["stm", "resnet50", "edges-only"],
)
def test_common_layers_are_loaded_and_widened_layers_start_as_stm(official: Path, config: ModelConfig):
    model = build(config)
    assert isinstance(model, STMSkeletons)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_official(model, official)
    theirs, ours = official_state(), model.state_dict()
    for a, b in {
        "KV_M_r4.Key.weight": "memory_head.key.weight",
        "KV_Q_r4.Value.bias": "query_head.value.bias",
        "Decoder.RF3.ResFS.conv1.weight": "decoder.refine_8.skip_residual.conv1.weight",
        "Decoder.RF2.ResMM.conv2.bias": "decoder.refine_4.merge_residual.conv2.bias",
        "Decoder.ResMM.conv1.weight": "decoder.residual.conv1.weight",
        "Decoder.convFM.weight": "decoder.convert.weight",
        "Encoder_M.res4.5.bn3.running_var": "memory_encoder.layer3.5.bn3.running_var",
        "Encoder_Q.res2.0.downsample.1.bias": "query_encoder.layer1.0.downsample.1.bias",
    }.items():
        assert torch.equal(ours[b], theirs[f"module.{a}"]), b
    stem = ours["memory_encoder.conv1.weight"]
    assert torch.equal(stem[:, :3], theirs["module.Encoder_M.conv1.weight"])
    assert torch.equal(stem[:, 3:4], theirs["module.Encoder_M.conv1_m.weight"])
    assert torch.equal(stem[:, 4:], fresh["memory_encoder.conv1.weight"][:, 4:])
    assert torch.equal(ours["decoder.predict.weight"][1:], fresh["decoder.predict.weight"][1:])
    changed = [name for name in ours if not torch.equal(ours[name], fresh[name])]
    assert len(changed) == len(ours)


@torch.no_grad()
def test_single_logit_equals_stms_softmax_and_soft_aggregation(official: Path):
    model = build(ModelConfig(variant="stm"))
    assert isinstance(model, STMSkeletons)
    load_official(model, official)
    features = torch.randn(1, 256, 8, 8)
    theirs = official_state()
    two = torch.nn.functional.conv2d(
        features, theirs["module.Decoder.pred2.weight"], theirs["module.Decoder.pred2.bias"], padding=1
    )
    object_probability = two.softmax(1)[:, 1]
    merged = torch.stack([1 - object_probability, object_probability], dim=1).clamp(1e-7, 1 - 1e-7)
    aggregated = torch.log(merged / (1 - merged)).softmax(1)[:, 1]
    torch.testing.assert_close(torch.sigmoid(model.decoder.predict(features))[:, 0], aggregated, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s.pop("module.KV_M_r4.Key.weight"), ["missing memory_head.key.weight"]),
        (lambda s: s.update({"module.extra": torch.zeros(1)}), ["unknown extra"]),
        (lambda s: s.update({"module.Decoder.convFM.bias": torch.zeros(9)}), ["decoder.convert.bias [9] instead"]),
        (lambda s: s.pop("module.Encoder_M.conv1_o.weight"), ["missing memory_encoder.conv1_o.weight"]),
        (lambda s: s.update({"module.Decoder.pred2.bias": torch.zeros(3)}), ["decoder.predict.bias"]),
        (lambda s: s.update({"module.Encoder_Q.mean": torch.zeros(3)}), ["query_encoder.mean"]),
    ],
)
def test_mismatches_fail_with_the_tensor_names(tmp_path: Path, change, names: list[str]):
    state = official_state()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    model = build(ModelConfig(variant="stm"))
    assert isinstance(model, STMSkeletons)
    with pytest.raises(WeightsError) as caught:
        load_official(model, tmp_path / "w.pth")
    for name in names:
        assert name in str(caught.value)


def test_files_without_weights_are_refused(tmp_path: Path):
    model = build(ModelConfig(variant="stm"))
    assert isinstance(model, STMSkeletons)
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("missing.pth", "junk.pth", "list.pth"):
        with pytest.raises(WeightsError):
            load_official(model, tmp_path / name)
