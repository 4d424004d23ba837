"""FP16 with TensorRT 8.6, which takes a graph's types as hints: layers that are FP32 in the graph are held to FP32.

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


def has_strong_typing(package: Package) -> bool:
    """Whether this TensorRT takes all types from the graph: TensorRT 10 and later, TensorRT-RTX."""
    return getattr(import_tensorrt(package).NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None) is not None


def hold_fp32_layers(
    package: Package, config: "trt.IBuilderConfig", network: "trt.INetworkDefinition", types: dict[str, int], graph: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Allow FP16, but hold layers that are FP32 in the graph to FP32.

    Args:
        package, config, network: of a TensorRT without strong typing.
        types: FLOAT or HALF for the graph's tensors by name, see ``float_types``.
        graph: the graph's name, for the note.

    Returns:
        The flags that were set, and notes for the user.
    """
    tensorrt = import_tensorrt(package)
    for name in _ALLOWED:
        flag: Any = getattr(tensorrt.BuilderFlag, name, None)
        config.set_flag(flag)
    held, layers = _hold_islands(network, types, tensorrt.DataType)
    note = f"{graph}: {held} of {layers} layers stay FP32"
    if held == layers:
        note += ", so FP16 is not used; export the bundle again with this version of stm-skeletons"
    return _ALLOWED, (note,)


def _hold_islands(network: "trt.INetworkDefinition", types: dict[str, int], kinds: Any) -> tuple[int, int]:
    """Hold layers to FP32 whose float tensors are all FP32 in the graph; return their number, and that of all layers
    with float arithmetic.

    Types come from the graph, because TensorRT 8.6 reports FP32 for all floats but the network's inputs and outputs.
    Comparisons and searches are included: a ramp of 2e-7, which separates equal peaks, vanishes in FP16. Layers that
    the parser adds have names unknown to the graph; they take their inputs' type.
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
