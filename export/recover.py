"""Recovers weights from a bundle, to train the network further or to export it at another size."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from export.verify import verify_closed_loop
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.cli.progress import Progress, no_progress
from stm_skeletons.errors import ExportError
from training.model import ModelConfig, build
from training.model.weights import load_exactly, save_weights

_BATCHES_SEEN = 1000
"""Batch count for the features' running mean and variance if training continues; bundles do not store it."""
_NAMELESS = "slot_match"
"""A scalar factor of the read decoder that exports leave unnamed. Exports merge equal constants, so an untrained 4.0
cannot be told from other fours."""
_MULTIPLIED = "/MatMul_output_0_weight"
"""Suffix of the names of linear layers' weights."""


def recover_weights(config: ModelConfig, out: str | Path, source: str | Path, progress: Progress = no_progress) -> str:
    """Write the weights that an FP32 bundle of ``edge`` was exported from, and return their origin.

    The weights are verified against the bundle before they are written. If the bundle stores FP16, the result is the
    rounded weights.

    Args:
        config: the bundle's network, "edge"; in other networks' bundles, batch norms are folded into convolutions.
        out: safetensors file to write.
        source: folder of a bundle, or the name of a shipped model.
        progress: shows how far it is.

    Raises:
        BundleError: ``source`` is not a bundle, or is damaged.
        ExportError: the bundle has another network or precision, its graphs do not contain the weights, or the weights
            do not reproduce its results.
        WeightsError: names or shapes of the weights do not match the network.
        SinkError: ``out`` cannot be written.
    """
    progress(f"reading {source}")
    bundle = Bundle.open(source)
    info = bundle.info
    if info.variant != "edge" or info.precision != "fp32":
        raise ExportError(
            f"{source} is {info.variant} in {info.precision}; weights can be recovered only from edge in fp32"
        )
    if (config.variant, config.skeleton) != (info.variant, info.skeleton):
        raise ExportError(
            f"{source} contains another network; run 'stm-skeletons init {info.variant} --skeleton "
            f"{info.skeleton.name}'"
        )
    model = build(config).eval()
    load_exactly(model, _stored(bundle), source)
    verify_closed_loop(model, bundle, progress)
    rounded = ", rounded to FP16" if info.stored_weights == "fp16" else ""
    origin = f"{info.weights_origin}; taken from a bundle{rounded}"
    save_weights(out, model, origin, {"memory": {"slots": info.slots, "every": info.every}})
    return origin


def _stored(bundle: Bundle) -> dict[str, Tensor]:
    """Return the weights by their names in the network."""
    found = {"standard.num_batches_tracked": torch.tensor(_BATCHES_SEEN)}
    nameless: list[Tensor] = []
    for graph in GRAPH_NAMES:
        for stored in onnx.load(bundle.graph_file(graph)).graph.initializer:
            tensor = torch.from_numpy(np.array(numpy_helper.to_array(stored)))
            name = stored.name.removesuffix("_fp16")
            if name.startswith("model."):
                found[name.removeprefix("model.")] = tensor
            elif name.endswith(_MULTIPLIED):
                found[name.removeprefix("/").removesuffix(_MULTIPLIED).replace("/", ".") + ".weight"] = tensor
            elif name.startswith("onnx::Mul_") and graph == "read_decoder" and tensor.dim() == 0:
                nameless.append(tensor)
    if len(nameless) != 1:
        raise ExportError(
            f"{bundle.folder} is untrained, or was exported by another version; give its weights file instead"
        )
    return found | {_NAMELESS: nameless[0]}
