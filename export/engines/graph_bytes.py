"""Reads and rewrites ONNX graphs as bytes for TensorRT: boards have no onnx package.

A protocol buffer is a sequence of fields, each with a number, a wire type and a value; onnx.proto defines the numbers.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT, HALF = 1, 10
"""TensorProto.DataType."""
_GRAPH = 7
_NODE, _INITIALIZER, _TENSOR_LISTS = 1, 5, (11, 12, 13)
"""Fields of a graph; the lists are inputs, outputs and intermediate tensors, each with its type."""
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5
"""Fields of a node."""
_DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 2, 8, 9
"""Fields of a tensor."""
_NAME, _TYPE, _OF_TENSOR, _ELEMENT = 1, 2, 1, 1
"""Fields of an entry of those lists, and of its type."""
_BYTES = 2
"""Wire type of a field whose value is bytes or a nested message."""


@dataclass(frozen=True)
class _Field:
    number: int
    value: Any
    """A number, or a view of bytes."""
    whole: memoryview
    """The field's bytes, including number and wire type."""


def with_plain_weights(model: bytes) -> bytes:
    """Return the graph with FP32 weights instead of casts from FP16 weights, as ``export.storage`` writes them.

    TensorRT 8.6 reads biases and kernels of grouped convolutions only from the file itself, and generates slower code
    for other computed kernels. Bytes that are not an ONNX graph are returned unchanged, and TensorRT reports the error.
    """
    try:
        return b"".join(
            _written(_GRAPH, _fold(field.value)) if field.number == _GRAPH else field.whole
            for field in _fields(memoryview(model))
        )
    except (ValueError, IndexError, TypeError):
        return model


def float_types(model: bytes) -> dict[str, int]:
    """Return FLOAT or HALF for every tensor, weights included, whose type the file gives and is one of the two."""
    found: dict[str, int] = {}
    for graph in _all(memoryview(model), _GRAPH):
        for field in _fields(graph):
            if field.number in _TENSOR_LISTS:
                tensor = _first(_first(field.value, _TYPE) or b"", _OF_TENSOR) or b""
                found[_text(field.value, _NAME)] = _first(tensor, _ELEMENT) or 0
            elif field.number == _INITIALIZER:
                found[_text(field.value, _TENSOR_NAME)] = _first(field.value, _DATA_TYPE) or 0
    return {name: kind for name, kind in found.items() if kind in (FLOAT, HALF)}


def _fold(graph: memoryview) -> bytes:
    """Remove casts to FP32 of FP16 weights that have no other use."""
    nodes = list(_all(graph, _NODE))
    used = Counter(_string(name) for node in nodes for name in _all(node, _INPUT))
    halves = {
        name
        for tensor in _all(graph, _INITIALIZER)
        if _first(tensor, _DATA_TYPE) == HALF and _first(tensor, _RAW_DATA) is not None
        if used[name := _text(tensor, _TENSOR_NAME)] == 1
    }
    casts = {
        _text(node, _INPUT): _text(node, _OUTPUT)
        for node in nodes
        if _text(node, _OPERATOR) == "Cast" and _text(node, _INPUT) in halves
        if [_first(attribute, 3) for attribute in _all(node, _ATTRIBUTE) if _text(attribute, 1) == "to"] == [FLOAT]
    }
    kept: list[bytes | memoryview] = []
    for field in _fields(graph):
        if field.number == _INITIALIZER and (output := casts.get(_text(field.value, _TENSOR_NAME))):
            kept.append(_written(_INITIALIZER, _widened(field.value, output)))
        elif field.number != _NODE or _text(field.value, _INPUT) not in casts:
            kept.append(field.whole)
    return b"".join(kept)


def _widened(tensor: memoryview, name: str) -> bytes:
    """Convert an FP16 tensor to FP32 under another name."""
    changed = (_DATA_TYPE, _TENSOR_NAME, _RAW_DATA)
    rest = [bytes(field.whole) for field in _fields(tensor) if field.number not in changed]
    numbers = np.frombuffer(_first(tensor, _RAW_DATA), "<f2").astype("<f4").tobytes()
    kind = _varint(_DATA_TYPE << 3) + _varint(FLOAT)
    return b"".join([*rest, kind, _written(_TENSOR_NAME, name.encode()), _written(_RAW_DATA, numbers)])


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the fields of a message in order. Raises ValueError or IndexError if it is malformed."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        if key & 7 == _BYTES:
            size, at = _read_varint(message, at)
            value, at = message[at : at + size], at + size
        elif key & 7 == 0:
            value, at = _read_varint(message, at)
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"unknown wire type {key & 7}")
        if at > len(message):
            raise ValueError("truncated field")
        yield _Field(key >> 3, value, message[start:at])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Decode a varint (seven bits per byte); return it and the next position."""
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def _written(number: int, value: bytes) -> bytes:
    """Encode a field of bytes."""
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _all(message: memoryview, number: int) -> Iterator[Any]:
    return (field.value for field in _fields(message) if field.number == number)


def _first(message: Any, number: int) -> Any:
    return next(_all(memoryview(message), number), None)


def _text(message: Any, number: int) -> str:
    return _string(_first(message, number) or b"")


def _string(value: Any) -> str:
    return bytes(value).decode()
