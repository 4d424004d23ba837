"""FP16 bundles of random weights, exported without the checks of how near they come, which have tests of their own."""

from pathlib import Path

import pytest

from stm_skeletons.bundle import Bundle


def export_ungated(weights: Path, folder: Path, **options) -> Bundle:
    """Export with these Options. PyTorch is needed only here, so that whoever is given bundles need not load it."""
    from export.export import Options, export_bundle

    with pytest.MonkeyPatch.context() as patch:
        for name in ("check_video", "verify_graph", "verify_closed_loop", "_pass_gate", "write_gate"):
            patch.setattr(f"export.export.{name}", lambda *_arguments: None)
        return export_bundle(weights, folder, Options(precision="fp16", **options)).bundle
