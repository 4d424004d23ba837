"""Byte format of the stand-in's engines: a line of JSON, then the ONNX graph."""

import hashlib
import json
from dataclasses import asdict, dataclass

from .names import VERSION

_MAGIC = b"stand-in engine\n"


@dataclass(frozen=True)
class Plan:
    """An engine's description and its graph."""

    version: str
    compute_capability: str
    flags: tuple[str, ...]
    """Builder flags."""
    network_flags: tuple[str, ...]
    layers: tuple[str, ...]
    detailed: bool
    graph: bytes


def write(plan: Plan) -> bytes:
    """Return an engine's bytes."""
    head = {name: value for name, value in asdict(plan).items() if name != "graph"}
    head["sha256"] = hashlib.sha256(plan.graph).hexdigest()
    return _MAGIC + json.dumps(head).encode() + b"\n" + plan.graph


def read(content: bytes, compute_capability: str) -> Plan:
    """Parse an engine. Raises ValueError in TensorRT's words: no engine, truncated, of another version or GPU."""
    if not content.startswith(_MAGIC):
        raise ValueError("Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.)")
    head, _, graph = content[len(_MAGIC) :].partition(b"\n")
    try:
        table = json.loads(head)
    except ValueError:
        table = {}
    if table.pop("sha256", None) != hashlib.sha256(graph).hexdigest():
        raise ValueError("Error Code 1: Serialization (Serialization assertion sizeRead == bytesRemaining failed.)")
    if table["version"] != VERSION:
        raise ValueError(
            "Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed."
            f"Version tag does not match. Note: Current Version: {VERSION}, Serialized Engine Version: "
            f"{table['version']})"
        )
    if table["compute_capability"] != compute_capability:
        raise ValueError(
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting "
            f"compute {compute_capability} got compute {table['compute_capability']}, please rebuild.)"
        )
    for name in ("flags", "network_flags", "layers"):
        table[name] = tuple(table[name])
    return Plan(graph=graph, **table)
