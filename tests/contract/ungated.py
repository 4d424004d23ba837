"""Exports FP16 bundles of random weights without the accuracy checks, which have their own tests."""

from pathlib import Path

import pytest

from stm_skeletons.bundle import Bundle


def export_ungated(weights: Path, folder: Path, **options) -> Bundle:
    """Export with these Options. Imports PyTorch only here, because tests with existing bundles do not need it."""
    from export.export import Options, export_bundle

    with pytest.MonkeyPatch.context() as patch:
        for name in ("check_video", "verify_graph", "verify_closed_loop", "_pass_gate", "write_gate"):
            patch.setattr(f"export.export.{name}", lambda *_arguments: None)
        return export_bundle(weights, folder, Options(precision="fp16", **options)).bundle
