"""Adds attributes that current TensorFlow requires to a TensorFlow.js graph model.

Also removes the model's signature, so that inputs and outputs keep the graph's own names.

python complete_graph.py MODEL.json    (rewrites the file)
"""

import json
import sys
from pathlib import Path

FLOAT, INT = "DT_FLOAT", "DT_INT32"


def complete(node: dict) -> None:
    """Add the missing attributes of a node."""
    attributes = node.setdefault("attr", {})
    if node["op"] == "_FusedConv2D":
        inputs = int(attributes["num_args"]["i"])
        attributes.setdefault("TArgs", {"list": {"type": [FLOAT] * inputs}})
    elif node["op"] == "TopKV2":
        attributes.setdefault("index_type", {"type": INT})


def main() -> None:
    """Complete the graph in the file given on the command line."""
    path = Path(sys.argv[1])
    model = json.loads(path.read_text())
    for node in model["modelTopology"]["node"]:
        complete(node)
    model.pop("signature", None)
    path.write_text(json.dumps(model))


if __name__ == "__main__":
    main()
