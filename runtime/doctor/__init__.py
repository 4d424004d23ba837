"""What this machine can run and what is missing, in plain words. It looks only: nothing is changed."""

from pathlib import Path

from runtime.doctor.bundle_engines import examine_engines
from runtime.doctor.finding import Finding, look
from runtime.doctor.gpu import examine_gpu, examine_tensorrt
from runtime.doctor.jetson import examine_jetson
from runtime.doctor.main_job import examine_machine, examine_workstation
from stm_skeletons.bundle import Bundle

__all__ = ["Finding", "examine"]

ROOT = Path("/")


def examine(bundle: str | Path | None = None, engines: Path | None = None) -> list[Finding]:
    """Look at this machine and at a bundle.

    Args:
        bundle: a bundle's folder or the name of a shipped model, whose engines are looked at; "edge" without.
        engines: folder of its engines; inside the bundle without.

    Raises:
        BundleError: there is no such bundle or it is damaged, and it was asked for by name. Anything else that is
            wrong, however odd, is a finding.
    """
    given = None if bundle is None else Bundle.open(bundle)
    return [
        *examine_machine(given),
        *look("board", lambda: examine_jetson(ROOT)),
        *look("NVIDIA GPU", examine_gpu),
        *look("TensorRT", lambda: examine_tensorrt(ROOT)),
        *look("engines", lambda: examine_engines(given or Bundle.open("edge"), engines)),
        *look("training and export", examine_workstation),
    ]
