"""Bundle to weights, the way back from an export: to train a network further, or to export it at another size."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from export.verify import verify_closed_loop
from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.errors import ExportError
from training.model import ModelConfig, build
from training.model.weights import load_exactly, save_weights

_BATCHES_SEEN = 1000
"""Weight of the features' mean and variance when training goes on; bundles do not say how many batches they are of."""
_NAMELESS = "slot_match"
"""The number that the read decoder multiplies by and to which exports give no name. They make one of equal numbers: an
untrained 4.0 is not to be told from other fours."""
_MULTIPLIED = "/MatMul_output_0_weight"
"""End of the names of the weights of what was a linear layer."""


def recover_weights(config: ModelConfig, out: str | Path, source: str | Path) -> str:
    """Write the weights that an FP32 bundle of ``edge`` was exported from, and return their origin.

    They are run beside the bundle before they are written. Where the bundle's are stored as FP16 they are those, not
    what was rounded.

    Args:
        config: the bundle's network, "edge"; the others' batch norms cannot be told from their convolutions any more.
        out: safetensors file to write.
        source: folder of a bundle, or the name of a shipped model.

    Raises:
        BundleError: ``source`` is no bundle, or damaged.
        ExportError: it is of another network or precision, its graphs do not hold the weights, or these
            do not give what it gives.
        WeightsError: names or shapes of the weights are not the network's.
        SinkError: ``out`` cannot be written.
    """
    bundle = Bundle.open(source)
    info = bundle.info
    if info.variant != "edge" or info.precision != "fp32":
        raise ExportError(
            f"{source} is an {info.precision} bundle of {info.variant}; weights can be taken from fp32 ones of edge"
        )
    if (config.variant, config.skeleton) != (info.variant, info.skeleton):
        raise ExportError(
            f"{source} is of another network: 'stm-skeletons init {info.variant} --skeleton {info.skeleton.name}'"
        )
    model = build(config).eval()
    load_exactly(model, _stored(bundle), source)
    verify_closed_loop(model, bundle)
    rounded = ", rounded to FP16" if info.stored_weights == "fp16" else ""
    origin = f"{info.weights_origin}; taken from a bundle{rounded}"
    save_weights(out, model, origin, {"memory": {"slots": info.slots, "every": info.every}})
    return origin


def _stored(bundle: Bundle) -> dict[str, Tensor]:
    """The weights by their names in the network."""
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
            f"{bundle.folder} is untrained, or not as this version exports; give its weights file instead"
        )
    return found | {_NAMELESS: nameless[0]}
