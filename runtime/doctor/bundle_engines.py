"""Checks a bundle's engines: presence, integrity, and whether they run here."""

from pathlib import Path

from runtime.backends.fitting_engines import check_machine, target_for
from runtime.doctor.finding import Finding
from runtime.doctor.gpu import tensorrt_versions
from runtime.gpu import GpuInfo, NoGpu, find_gpu
from stm_skeletons.bundle import Bundle
from stm_skeletons.engines import NATIVE, Package, engine_folders, engines_folder, open_engines, rebuild_command
from stm_skeletons.errors import EngineError


def examine_engines(bundle: Bundle, root: Path | None) -> list[Finding]:
    """Check every target's engines in ``root``, by default inside the bundle. Deserialises nothing."""
    try:
        gpu = find_gpu()
    except NoGpu:
        gpu = None
    return judge_engines(bundle, gpu, tensorrt_versions(), root)


def judge_engines(
    bundle: Bundle, gpu: GpuInfo | None, installed: dict[Package, str], root: Path | None = None
) -> list[Finding]:
    """Report for each set of engines whether it runs on this GPU with the installed TensorRT packages."""
    sets = engine_folders(bundle, root)
    if not sets:
        folder = engines_folder(bundle, NATIVE, root).parent
        text = f"none in {folder}; needed for --backend tensorrt only; {_how(bundle, gpu, installed, root)}"
        return [Finding("engines", False, False, text)]
    return [_judge(bundle, one, gpu, installed) for one in sets]


def _how(bundle: Bundle, gpu: GpuInfo | None, installed: dict[Package, str], root: Path | None) -> str:
    if gpu is None:
        return f"build them on the machine with the GPU: {rebuild_command(bundle, NATIVE, root)}"
    target = target_for(gpu.compute_capability, installed.__contains__)
    return f"build them: {rebuild_command(bundle, target, root)}"


def _judge(bundle: Bundle, folder: Path, gpu: GpuInfo | None, installed: dict[Package, str]) -> Finding:
    subject = f"engines {folder.name}"
    try:
        engines = open_engines(bundle, folder)
        info = engines.info
        what = f"{info.precision}, {info.package} {info.tensorrt_version}, {info.compute_capability}"
        if gpu is None:
            return Finding(subject, False, False, f"intact ({what}), but this machine has no GPU to run them")
        if info.package not in installed:
            advice = "see line 'TensorRT'"
            return Finding(subject, False, False, f"intact ({what}), but {info.package} is not installed; {advice}")
        check_machine(bundle, engines, installed[info.package], gpu.name, gpu.compute_capability)
    except EngineError as error:
        return Finding(subject, False, False, str(error))
    return Finding(subject, True, False, f"valid for this machine ({what})")
