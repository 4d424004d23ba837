"""What TensorRT says while it builds: its layer table, planned memory and last error, out of its messages."""

import re
from collections.abc import Iterable

from stm_skeletons.errors import one_line

_ERROR, _VERBOSE = 1, 4
"""Severities as numbers, since the enumeration's home differs between versions."""
_TABLE = "Layers:\n"
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_NODE = re.compile(r"While parsing node number \d+ \[(\w+)")
_NODE_NAME = re.compile(r'^(?:Node )?name: "?([^"\n]+)', re.MULTILINE)
# Where TensorRT says in which of its own source files an error arose; no user can do anything with that.
_PLACE = re.compile(r" In \w+ at \S+:\d+|^\S+\.cpp:\d+: ")


class BuildLog:
    """What TensorRT says during one build: errors, warnings, and what is read from it of the flood that VERBOSE is."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._errors: list[str] = []

    def hear(self, level: int, text: str) -> None:
        """Take a message of a severity in."""
        if level < _VERBOSE or text.startswith(_TABLE):
            self.messages.append(text)
        # Error 35 is the driver that machines without a GPU lack; building ahead of time needs none.
        if level <= _ERROR and "cudaError 35" not in text.partition("\n")[0]:
            self._errors.append(text)

    def last_error(self) -> str:
        """On one line."""
        said = self._errors or self.messages  # TensorRT 8.6 says why it cannot start as a warning
        return in_one_line(said[-1]) if said else "it gave no reason"


def layer_table(log: Iterable[str]) -> list[str]:
    """The layers of an engine after fusion, one line each: "Name: ..., LayerType: ..., ..., Metadata: ...".

    ``Metadata`` lists the ONNX nodes that went into a layer. The table is printed by TensorRT-RTX while it builds, and
    by the engine inspector of ``tensorrt``; both need ``ProfilingVerbosity.DETAILED``. Empty where there is none.
    """
    tables = [text for text in log if text.startswith(_TABLE)]
    return [line for line in tables[-1].splitlines() if line.startswith("Name: ")] if tables else []


def layer_name(line: str) -> str:
    """The name in a line of the layer table."""
    return line.removeprefix("Name: ").split(", LayerType: ")[0]


def planned_activations(log: Iterable[str]) -> int | None:
    """Bytes of device memory planned for intermediate tensors, or None where the log does not say."""
    found = [match[1] for text in log if (match := _ACTIVATIONS.search(text))]
    return int(found[-1]) if found else None


def failed_node(log: Iterable[str]) -> tuple[str, str]:
    """Name and operator of the node that the ONNX parser stopped at, "" where the log does not say.

    For TensorRT before 10, whose parser errors carry a node's number only.
    """
    name = operator = ""
    for text in log:
        if match := _NODE.search(text):
            operator = match[1]
        if operator and (match := _NODE_NAME.search(text)):
            name = match[1]
    return name, operator


def in_one_line(message: str) -> str:
    """A message of TensorRT for one line of ours: its first line, without the places in its own source code."""
    first = message.strip().split("\n[checkMacros")[0]
    return one_line(_PLACE.sub("", first), 220)
