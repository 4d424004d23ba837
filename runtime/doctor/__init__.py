"""Checks what this machine can run and what is missing. Changes nothing."""

from pathlib import Path

from runtime.doctor.bundle_engines import examine_engines
from runtime.doctor.finding import Finding, run_check
from runtime.doctor.gpu import examine_gpu, examine_tensorrt
from runtime.doctor.jetson import examine_jetson
from runtime.doctor.main_job import examine_machine, examine_workstation
from stm_skeletons.bundle import Bundle

__all__ = ["Finding", "examine"]

ROOT = Path("/")


def examine(bundle: str | Path | None = None, engines: Path | None = None) -> list[Finding]:
    """Check this machine and a bundle's engines.

    Args:
        bundle: a bundle's folder or the name of a shipped model, "edge" by default.
        engines: folder of its engines; inside the bundle by default.

    Raises:
        BundleError: ``bundle`` was given but does not exist or is damaged. All other problems are findings.
    """
    given = None if bundle is None else Bundle.open(bundle)
    return [
        *examine_machine(given),
        *run_check("board", lambda: examine_jetson(ROOT)),
        *run_check("NVIDIA GPU", examine_gpu),
        *run_check("TensorRT", lambda: examine_tensorrt(ROOT)),
        *run_check("engines", lambda: examine_engines(given or Bundle.open("edge"), engines)),
        *run_check("training and export", examine_workstation),
    ]
