from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stm_skeletons.errors import WeightsError
from training.model import ModelConfig, build
from training.model.weights import load_mean, load_provenance, load_weights, save_weights
from training.recipe import load_recipe


@pytest.mark.parametrize("variant", ["edge", "resnet50"])
def test_round_trip_is_bit_for_bit(variant, tmp_path: Path):
    model = build(ModelConfig(variant=variant))
    path = tmp_path / "w.safetensors"
    save_weights(path, model, "somewhere", {"lr": 1e-6})
    loaded, provenance = load_weights(path)
    assert provenance.config == model.config
    assert provenance.origin == "somewhere"
    assert provenance.training == {"lr": 1e-6}
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    again = tmp_path / "again.safetensors"
    save_weights(again, loaded, provenance.origin, provenance.training)
    assert again.read_bytes() == path.read_bytes()


def test_provenance_is_read_without_the_network(edge_weights: Path, tmp_path: Path):
    trained = tmp_path / "trained.safetensors"
    model, _ = load_weights(edge_weights)
    save_weights(trained, model, "somewhere", {"lr": 1e-6, "memory": {"slots": 4, "every": 2}})
    for path in (edge_weights, trained):
        assert load_provenance(path) == load_weights(path)[1]
    assert load_provenance(trained).training["lr"] == 1e-6
    assert load_provenance(trained).config == ModelConfig(variant="edge")


@pytest.mark.parametrize(
    ("training", "memory"),
    [
        ({}, (6, 5)),
        ({"memory": {"slots": 4, "every": 3}}, (4, 3)),
        ({"memory": {"slots": 2, "every": 1, "truncate": 8}}, (2, 1)),
        ({"memory": {"slots": None, "every": 1, "truncate": None}}, (6, 5)),
        (load_recipe("edge").resolved(), (6, 1)),
        (load_recipe("table3-5").resolved(), (6, 5)),
    ],
    ids=["converted", "trained", "short", "all frames", "edge", "paper"],
)
def test_memory_comes_from_the_training_and_defaults_to_stms(edge_weights: Path, tmp_path: Path, training, memory):
    """Networks that were trained to read all earlier frames run with STM's memory."""
    path = tmp_path / "w.safetensors"
    save_weights(path, load_weights(edge_weights)[0], "somewhere", training)
    assert load_provenance(path).memory == memory


def test_mean_averages_all_learnt_parameters_and_names_both_origins(tmp_path: Path):
    config = ModelConfig(variant="edge")
    first, second = build(config), build(config)
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_weights(paths[0], first, "somewhere; trained: one way")
    save_weights(paths[1], second, "somewhere; trained: otherwise")
    mean, provenance = load_mean(paths)
    assert provenance.origin == "somewhere; mean of (trained: one way) and (trained: otherwise)"
    for name, tensor in first.named_parameters():
        torch.testing.assert_close(mean.get_parameter(name), (tensor + second.get_parameter(name)) / 2)
    alone, provenance = load_mean(paths[:1])
    assert provenance.origin == "somewhere; trained: one way"
    assert all(torch.equal(tensor, alone.get_parameter(name)) for name, tensor in first.named_parameters())
    save_weights(paths[1], build(ModelConfig(variant="resnet50")), "another")
    with pytest.raises(WeightsError, match=r"a\.safetensors and .*b\.safetensors are of different networks"):
        load_mean(paths)


def test_mismatched_names_and_shapes_are_listed(edge_weights: Path, tmp_path: Path):
    from safetensors import safe_open

    with safe_open(edge_weights, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(edge_weights)
    tensors["trunk.stem2.weight"] = tensors.pop("trunk.stem.weight")
    tensors["trunk.stem.bias"] = torch.zeros(3)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, metadata)
    with pytest.raises(WeightsError) as caught:
        load_weights(bad)
    for words in ("missing trunk.stem.weight", "unknown trunk.stem2.weight", "trunk.stem.bias [3] instead of [48]"):
        assert words in str(caught.value)


@pytest.mark.parametrize("load", [load_weights, load_provenance])
def test_bad_files_are_reported_in_one_line(load: Callable[[Path], object], tmp_path: Path):
    cases = {"missing": None, "empty": b"", "junk": b"hello world, this is no safetensors file"}
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(WeightsError):
            load(path)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(WeightsError, match="was not written by this project"):
        load(foreign)
    save_file({"x": torch.zeros(2)}, foreign, {"stm_skeletons": '{"origin": 3}'})
    with pytest.raises(WeightsError, match=r"foreign\.safetensors has damaged 'stm_skeletons' metadata") as error:
        load(foreign)
    assert "\n" not in str(error.value)
