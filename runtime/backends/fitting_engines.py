"""Selects a bundle's engines that are valid for this machine. Deserialises nothing."""

from collections.abc import Callable
from pathlib import Path

from runtime.backends.cuda import Gpu
from runtime.tensorrt_module import import_tensorrt, is_installed
from stm_skeletons.bundle import Bundle
from stm_skeletons.engines import (
    FILE_NAME,
    NATIVE,
    RTX_TARGETS,
    Engines,
    Package,
    engines_folder,
    open_engines,
    rebuild_command,
)
from stm_skeletons.errors import EngineError


def target_for(compute_capability: str, installed: Callable[[Package], bool] = is_installed) -> str:
    """Return the target for this machine's GPU ("sm87"): native, or ahead of time if only that package is installed.

    ``installed`` tells whether a package is installed.
    """
    only_ahead = not installed("tensorrt") and compute_capability in RTX_TARGETS and installed("tensorrt_rtx")
    return compute_capability if only_ahead else NATIVE


def find_engines(bundle: Bundle, compute_capability: str, root: Path | None = None) -> Engines:
    """Return a bundle's checked engines for a GPU, native or built ahead of time, see ``target_for``.

    Args:
        bundle: an opened bundle.
        compute_capability: the GPU's, such as "sm87".
        root: folder of the engines; inside the bundle by default.

    Raises:
        EngineError: there are none, or they are damaged or belong to another bundle.
    """
    suitable = target_for(compute_capability)
    for target in (suitable, compute_capability if suitable == NATIVE else NATIVE):
        folder = engines_folder(bundle, target, root)
        if (folder / FILE_NAME).is_file():
            return open_engines(bundle, folder)
    return open_engines(bundle, engines_folder(bundle, suitable, root))  # raises with the command that builds them


def check_machine(
    bundle: Bundle, engines: Engines, tensorrt_version: str, gpu_name: str, compute_capability: str
) -> None:
    """Reject engines of another TensorRT or GPU, which might run with wrong results.

    Raises EngineError with the command that rebuilds them.
    """
    info = engines.info
    command = rebuild_command(bundle, info.target, engines.folder.parent)
    advice = f"build them again on this machine: {command}"
    if info.tensorrt_version != tensorrt_version:
        raise EngineError(
            f"{engines.folder}: built by {info.package} {info.tensorrt_version}, but {tensorrt_version} is installed; "
            f"{advice}"
        )
    if info.compute_capability != compute_capability:
        target = target_for(compute_capability, lambda package: package == info.package)
        raise EngineError(
            f"{engines.folder}: built for {info.compute_capability}, but this GPU ({gpu_name}) is "
            f"{compute_capability}; build for it: {rebuild_command(bundle, target, engines.folder.parent)}"
        )
    if info.device is not None and info.device != gpu_name:
        raise EngineError(f"{engines.folder}: built on {info.device}, but this GPU is {gpu_name}; {advice}")


def fitting_engines(bundle: Bundle, gpu: Gpu, root: Path | None) -> Engines:
    """Return a bundle's engines, checked against it and this machine. Raises EngineError, BackendError."""
    engines = find_engines(bundle, gpu.compute_capability, root)
    version = import_tensorrt(engines.info.package).__version__
    check_machine(bundle, engines, version, gpu.name, gpu.compute_capability)
    return engines


def unfit_engines(bundle: Bundle, root: Path | None = None) -> tuple[EngineError, str] | None:
    """Return what is wrong with a bundle's engines on this machine, and the target to build; None if they are valid.

    Raises BackendError if the GPU or TensorRT is missing.
    """
    gpu = Gpu()
    try:
        fitting_engines(bundle, gpu, root)
    except EngineError as error:
        return error, target_for(gpu.compute_capability)
    finally:
        gpu.close()
    return None
