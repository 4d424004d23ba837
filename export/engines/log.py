"""Parses TensorRT's build messages: layer table, planned memory and last error."""

import re
from collections.abc import Iterable

from stm_skeletons.errors import one_line

_ERROR, _VERBOSE = 1, 4
"""Severities as numbers, because the enumeration's location differs between versions."""
_TABLE = "Layers:\n"
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_NODE = re.compile(r"While parsing node number \d+ \[(\w+)")
_NODE_NAME = re.compile(r'^(?:Node )?name: "?([^"\n]+)', re.MULTILINE)
# The position of an error in TensorRT's own source code, which does not help users.
_PLACE = re.compile(r" In \w+ at \S+:\d+|^\S+\.cpp:\d+: ")


class BuildLog:
    """TensorRT's messages during one build: errors, warnings, and the relevant verbose messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._errors: list[str] = []

    def record(self, level: int, text: str) -> None:
        """Record a message of a severity."""
        if level < _VERBOSE or text.startswith(_TABLE):
            self.messages.append(text)
        # CUDA error 35 means no driver; ahead-of-time builds need none.
        if level <= _ERROR and "cudaError 35" not in text.partition("\n")[0]:
            self._errors.append(text)

    def last_error(self) -> str:
        """Return the last error on one line."""
        said = self._errors or self.messages  # TensorRT 8.6 reports start-up failures as a warning
        return in_one_line(said[-1]) if said else "no reason given"


def layer_table(log: Iterable[str]) -> list[str]:
    """Return the layers of an engine after fusion, one line each: "Name: ..., LayerType: ..., ..., Metadata: ...".

    ``Metadata`` lists the ONNX nodes of a layer. TensorRT-RTX prints the table while it builds, ``tensorrt``'s engine
    inspector afterwards; both need ``ProfilingVerbosity.DETAILED``. Empty if there is no table.
    """
    tables = [text for text in log if text.startswith(_TABLE)]
    return [line for line in tables[-1].splitlines() if line.startswith("Name: ")] if tables else []


def layer_name(line: str) -> str:
    """Return the name in a line of the layer table."""
    return line.removeprefix("Name: ").split(", LayerType: ")[0]


def planned_activations(log: Iterable[str]) -> int | None:
    """Return the bytes of device memory planned for intermediate tensors; None if the log does not give them."""
    found = [match[1] for text in log if (match := _ACTIVATIONS.search(text))]
    return int(found[-1]) if found else None


def failed_node(log: Iterable[str]) -> tuple[str, str]:
    """Return name and operator of the node at which the ONNX parser stopped, "" if the log does not give them.

    For TensorRT before 10, whose parser errors contain only the node's number.
    """
    name = operator = ""
    for text in log:
        if match := _NODE.search(text):
            operator = match[1]
        if operator and (match := _NODE_NAME.search(text)):
            name = match[1]
    return name, operator


def in_one_line(message: str) -> str:
    """Return the first line of a TensorRT message, without positions in TensorRT's source code."""
    first = message.strip().split("\n[checkMacros")[0]
    return one_line(_PLACE.sub("", first), 220)
