"""FP16 with TensorRT 8.6, for which the types in a graph are hints: what the graph computes in FP32 is held to it.

Not yet run on a GPU.
"""

from typing import TYPE_CHECKING, Any

from export.engines.graph_bytes import FLOAT
from runtime.tensorrt_module import import_tensorrt
from stm_skeletons.engines import Package

if TYPE_CHECKING:
    import tensorrt as trt

_ALLOWED = ("FP16", "OBEY_PRECISION_CONSTRAINTS")
_NO_ARITHMETIC = ("CAST", "CONSTANT", "IDENTITY")


def has_types(package: Package) -> bool:
    """Whether this TensorRT takes every type from the graph: 10 and later, TensorRT-RTX."""
    return getattr(import_tensorrt(package).NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None) is not None


def hold_types(
    package: Package, config: "trt.IBuilderConfig", network: "trt.INetworkDefinition", types: dict[str, int], graph: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Allow FP16, and hold what the graph computes in FP32 to that.

    Args:
        package, config, network: of a TensorRT without strong types.
        types: FLOAT or HALF for the graph's tensors by name, see ``float_types``.
        graph: its name, for the note.

    Returns:
        Flags that were set; what a user should hear.
    """
    tensorrt = import_tensorrt(package)
    for name in _ALLOWED:
        flag: Any = getattr(tensorrt.BuilderFlag, name, None)
        config.set_flag(flag)
    held, layers = _hold_islands(network, types, tensorrt.DataType)
    note = f"{graph}: {held} of {layers} layers are held to FP32"
    if held == layers:
        note += ", so FP16 is not used at all; export the bundle again with this version of stm-skeletons"
    return _ALLOWED, (note,)


def _hold_islands(network: "trt.INetworkDefinition", types: dict[str, int], kinds: Any) -> tuple[int, int]:
    """Hold the layers whose float tensors all are FP32 in the graph; how many, of how many that compute with floats.

    By the graph, as TensorRT 8.6 calls all floats FP32 that are no inputs or outputs of the network. Comparisons and
    searches count: a ramp of 2e-7, which tells equal peaks apart, is nothing in FP16. Layers that the parser adds for
    itself have names that the graph does not know; they are of the type of what goes in.
    """
    known, full = dict(types), kinds.FLOAT
    held = layers = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = str(layer.type).rpartition(".")[2]
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        inputs = [tensor for i in range(layer.num_inputs) if (tensor := layer.get_input(i)) is not None]
        if kind == "CONSTANT" and layer.name in types:
            known[outputs[0].name] = types[layer.name]
        floats = {known[tensor.name] for tensor in (*inputs, *outputs) if tensor.name in known}
        real = [i for i, tensor in enumerate(outputs) if tensor.dtype in (full, kinds.HALF)]
        if len(floats) == 1 and kind != "CAST":
            known |= {outputs[i].name: next(iter(floats)) for i in real if outputs[i].name not in known}
        if not floats or kind in _NO_ARITHMETIC:
            continue
        layers += 1
        if floats == {FLOAT}:
            held += 1
            layer.precision = full
            for i in real:
                layer.set_output_type(i, full)
    return held, layers
