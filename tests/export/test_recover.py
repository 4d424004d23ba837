"""Recovering weights from the bundle that was exported from them."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch

from export.export import Options, export_bundle
from export.recover import recover_weights
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BundleError, ExportError, WeightsError
from stm_skeletons.files import sha256
from stm_skeletons.skeleton import POSETRACK15
from training.model import Edge, ModelConfig
from training.model.weights import load_weights, save_weights

EDGE = ModelConfig(variant="edge")


@pytest.fixture(scope="module")
def trained(edge_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights and their bundle; scalars differ from their initial values, as after training."""
    folder = tmp_path_factory.mktemp("trained")
    model, _ = load_weights(edge_weights)
    assert isinstance(model, Edge)
    torch.nn.init.constant_(model.key.gain, 17.3)
    torch.nn.init.constant_(model.slot_match, 3.7)
    save_weights(folder / "edge.safetensors", model, "random, for tests")
    export_bundle(
        folder / "edge.safetensors", folder / "edge", Options(width=160, height=96, slots=4, every=3, peaks=8)
    )
    return folder / "edge.safetensors", folder / "edge"


def rename_initializers(bundle: Path, out: Path, names: dict[str, str]) -> Path:
    """Return a copy of the bundle with renamed initializers in the read decoder and a matching description."""
    shutil.copytree(bundle, out)
    file = out / "read_decoder.onnx"
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    onnx.save(model, file)
    description = json.loads((out / "bundle.json").read_text())
    description["graphs"]["read_decoder"]["sha256"] = sha256(file)
    (out / "bundle.json").write_text(json.dumps(description))
    return out


def name_of_unnamed_scalar(bundle: Path) -> str:
    """Return the exporter's name for the only learnt scalar that has no name of its own."""
    graph = onnx.load(bundle / "read_decoder.onnx").graph
    (name,) = (tensor.name for tensor in graph.initializer if tensor.name.startswith("onnx::Mul_"))
    return name


def test_recovered_weights_equal_the_exported_ones(trained: tuple[Path, Path], tmp_path: Path):
    weights, bundle = trained
    origin = recover_weights(EDGE, tmp_path / "found.safetensors", bundle)
    assert origin == "random, for tests; taken from a bundle"
    found, provenance = load_weights(tmp_path / "found.safetensors")
    assert provenance.origin == origin
    assert provenance.config == EDGE
    assert provenance.memory == (4, 3), "the memory is the bundle's"
    original, found = load_weights(weights)[0].state_dict(), found.state_dict()
    assert found.pop("standard.num_batches_tracked") == 1000
    del original["standard.num_batches_tracked"]
    assert list(found) == list(original)
    for name, tensor in original.items():
        assert torch.equal(found[name], tensor), name


def test_recovered_weights_reproduce_the_shipped_bundle(tmp_path: Path):
    origin = recover_weights(EDGE, tmp_path / "edge.safetensors", "edge")
    assert origin.endswith("; taken from a bundle, rounded to FP16")
    export_bundle(tmp_path / "edge.safetensors", tmp_path / "again", Options(every=1, compact=True))
    shipped, again = Bundle.open("edge"), Bundle.open(tmp_path / "again")
    for name in shipped.info.graphs:
        old, new = (onnx.load(bundle.graph_file(name)).graph.initializer for bundle in (shipped, again))
        assert {tensor.name: tensor.raw_data for tensor in old} == {tensor.name: tensor.raw_data for tensor in new}


def test_weights_that_do_not_reproduce_the_bundle_are_not_written(
    trained: tuple[Path, Path], edge_bundle: Path, tmp_path: Path
):
    _, bundle = trained
    first, second = (f"model.mask_and_edge_head.blocks.{block}.pointwise.weight" for block in (0, 1))
    swapped = rename_initializers(bundle, tmp_path / "swapped", {first: second, second: first})
    with pytest.raises(ExportError, match="differs from PyTorch by"):
        recover_weights(EDGE, tmp_path / "w.safetensors", swapped)
    renamed = rename_initializers(bundle, tmp_path / "renamed", {name_of_unnamed_scalar(bundle): "other"})
    for unclear in (renamed, edge_bundle):
        with pytest.raises(ExportError, match="is untrained, or was exported by another version"):
            recover_weights(EDGE, tmp_path / "w.safetensors", unclear)
    lost = rename_initializers(bundle, tmp_path / "lost", {"model.fusion.read.bias": "other"})
    with pytest.raises(WeightsError, match=r"missing fusion\.read\.bias"):
        recover_weights(EDGE, tmp_path / "w.safetensors", lost)
    assert not (tmp_path / "w.safetensors").exists()


def test_bundles_of_other_networks_are_refused(edge_bundle: Path, resnet_bundle: Path, tmp_path: Path):
    out = tmp_path / "w.safetensors"
    with pytest.raises(ExportError, match="is resnet50 in fp32; weights can be recovered only from"):
        recover_weights(ModelConfig(variant="resnet50"), out, resnet_bundle)
    for other in (ModelConfig(variant="resnet50"), ModelConfig(variant="edge", skeleton=POSETRACK15)):
        with pytest.raises(ExportError, match="another network; run 'stm-skeletons init edge --skeleton coco17'"):
            recover_weights(other, out, edge_bundle)
    with pytest.raises(BundleError, match="not a bundle"):
        recover_weights(EDGE, out, tmp_path)
    assert not out.exists()
