"""Engines on disk for tests that never run them."""

import json
from pathlib import Path

from stm_skeletons.bundle import GRAPH_NAMES, Bundle
from stm_skeletons.files import sha256


def add_engines(bundle: Bundle, target: str, package: str, version: str, device: str | None = None) -> Path:
    """Write a folder of engines that match their sidecar but that TensorRT could not load.

    Native engines are for an Orin (sm87); ``device`` names the board.
    """
    folder = bundle.folder / "engines" / target
    folder.mkdir(parents=True)
    engines = {}
    for name in GRAPH_NAMES:
        file = folder / f"{name}.engine"
        file.write_bytes(name.encode() * 100_000)
        engines[name] = {
            "file": file.name,
            "sha256": sha256(file),
            "graph_sha256": bundle.info.graphs[name].sha256,
            "bytes": file.stat().st_size,
            "activation_bytes": None,
            "layers_before": 1,
            "layers_after": None,
            "seconds": 1.0,
        }
    sidecar = {
        "format": 1,
        "package": package,
        "tensorrt_version": version,
        "cuda_version": None,
        "target": target,
        "compute_capability": "sm87" if target == "native" else target,
        "device": device,
        "precision": bundle.info.precision,
        "flags": [],
        "workspace_mb": None,
        "created_by": "a test",
        "engines": engines,
    }
    (folder / "engines.json").write_text(json.dumps(sidecar))
    return folder
