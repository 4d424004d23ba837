"""Fixtures that several tests share: shared data, and small bundles built once per session."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import surroundings  # noqa: F401 - must precede libraries that read the environment

from stm_skeletons.skeleton import COCO17

if TYPE_CHECKING:
    from training.model import Edge

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
pytest.register_assert_rewrite("backend_contract")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images, videos and teacher weights; tests that need it are skipped if it is missing."""
    if not SHARED.is_dir():
        reason = f"needs the shared data at {SHARED}"
        if os.environ.get("CI"):
            pytest.fail(f"CI {reason}")
        pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session")
def clip() -> Path:
    """Ten seconds of real video, 768x576, 100 frames, from this repository."""
    return ROOT / "examples" / "vtest-10s.avi"


def random_edge() -> "Edge":
    """Return an edge network with random weights whose memory visibly changes the maps."""
    import torch

    from export.synthetic_frames import synthetic_frames
    from training.model import Edge, ModelConfig, build

    torch.manual_seed(2)
    model = build(ModelConfig(variant="edge"))
    assert isinstance(model, Edge)
    # With PyTorch's default weights the signal vanishes in a network this deep; these weights preserve it.
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    frame = torch.from_numpy(synthetic_frames(96, 160, 1)[0])[None]
    target_stds = {
        model.keypoint_head.predict: 1.5,
        model.mask_and_edge_head.predict: 0.5,
        model.centres.heat_map.predict: 1.5,
        model.fusion.shares: 0.5,
    }
    stds = {}
    for layer in target_stds:
        layer.register_forward_hook(lambda module, _, logits: stds.update({module: logits.std()}))
    with torch.no_grad():
        query = model.encode_query(frame)
        model.decode(torch.rand(1, 42, 12, 20), query)
        model.centres(model.shared_features(query))
    for layer, target in target_stds.items():
        layer.weight.data.mul_(target / stds[layer])
        layer._forward_hooks.clear()
    torch.nn.init.constant_(model.keypoint_head.predict.get_parameter("bias"), -2.0)  # so that people are detected
    return model.eval()


@pytest.fixture(scope="session")
def edge_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.model.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "edge.safetensors"
    save_weights(path, random_edge(), "random, for tests")
    return path


@pytest.fixture(scope="session")
def edge_bundle(edge_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small edge bundle with random weights, 160x96, 4 slots; reports every peak."""
    from export.export import Options, export_bundle

    out = tmp_path_factory.mktemp("bundles") / "edge"
    export_bundle(edge_weights, out, Options(width=160, height=96, slots=4, every=3, peaks=8))
    return out


@pytest.fixture(scope="session")
def edge_batch_bundle(edge_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle for batches of four cameras."""
    from export.export import Options, export_bundle

    out = tmp_path_factory.mktemp("bundles") / "edge-batch"
    export_bundle(edge_weights, out, Options(width=160, height=96, slots=4, every=3, peaks=8, batch=4))
    return out


@pytest.fixture(scope="session")
def resnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from training.model import ModelConfig, build
    from training.model.weights import save_weights

    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_weights(path, build(ModelConfig(variant="resnet50", skeleton=COCO17)), "random, for tests")
    return path


@pytest.fixture(scope="session")
def resnet_bundle(resnet_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small resnet50 bundle with random weights, 96x64, 3 slots."""
    from export.export import Options, export_bundle

    out = tmp_path_factory.mktemp("bundles") / "resnet50"
    export_bundle(resnet_weights, out, Options(width=96, height=64, slots=3, every=2, peaks=5))
    return out
