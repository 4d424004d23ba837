"""Builds what the GPU tests need without a GPU: the simulated CUDA driver, and pycuda linked against it.

    python tests/gpu/gpu_build.py

prints their locations. Both are cached outside the checkout: the driver takes seconds and is rebuilt when its sources
change; pycuda, unless installed, takes two to four minutes. Needs gcc, g++ and make. CUDA's headers come from
$CUDA_HOME or /usr/local/cuda, otherwise from NVIDIA's wheels on PyPI. Nothing of CUDA is run.
"""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

from stm_skeletons.errors import SinkError, one_line
from stm_skeletons.files import atomic_folder

CACHE_VARIABLE = "STM_SKELETONS_GPU_CACHE"
"""Environment variable with the cache folder; ~/.cache/stm-skeletons-gpu by default."""
PYCUDA = "pycuda==2026.1"
HEADERS = ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85")
SOURCES = Path(__file__).parent / "nullgpu"
_SOURCE_FILES = ("Makefile", "gen_stubs.py", "nullcuda.c", "nullgpu.h", "test_nullcuda.c")
# pip does not install pycuda's build requirements here, because its configure.py must run in the unpacked sources.
_BUILD_REQUIREMENTS = ("setuptools>=77", "wheel", "numpy>=2")


class BuildError(RuntimeError):
    """The simulation cannot be built; one line with the reason."""


@dataclass(frozen=True)
class Built:
    """Locations of the built files."""

    library: Path
    """libcuda.so.1; load it with ctypes.RTLD_GLOBAL before pycuda is imported."""
    pycuda: Path | None
    """Folder to append to sys.path; None if pycuda is installed."""


@functools.cache
def build() -> Built:
    """Build the driver and pycuda, or use the cached ones. Raises BuildError.

    Call once per process: a pycuda made importable by an earlier call would count as installed.
    """
    cache = _cache()
    try:
        cuda = _cuda(cache)
        library = _driver(cache, cuda) / "libcuda.so.1"
        return Built(library, None if pycuda_is_installed() else _pycuda(cache, cuda, library.parent))
    except (SinkError, OSError, subprocess.CalledProcessError) as error:  # the last one: Python without venv
        raise BuildError(f"cannot build in {cache}: {one_line(error)}") from error


def build_or_skip() -> Built:
    """The same for fixtures: if the build fails, skip the tests with the reason; in CI, fail."""
    import pytest

    try:
        return build()
    except BuildError as error:
        reason = f"no simulation of a GPU: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def pycuda_is_installed() -> bool:
    """Whether an importable pycuda loads its driver from libcuda.so.1."""
    try:
        found = importlib.util.find_spec("pycuda")
    except (ImportError, ValueError):
        return False
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    return any(b"libcuda.so.1" in file.read_bytes() for folder in folders for file in folder.glob("_driver*.so"))


def _cache() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen) if chosen else base / "stm-skeletons-gpu"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"cannot write the cache folder {folder} ({error}); name another in {CACHE_VARIABLE}"
        ) from None
    return folder


def _cuda(cache: Path) -> Path:
    """Return a CUDA folder whose include/ has cuda.h and cudaProfiler.h."""
    for folder in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if folder and all((Path(folder) / "include" / name).is_file() for name in ("cuda.h", "cudaProfiler.h")):
            return Path(folder)
    target = cache / f"headers-{_key(*HEADERS)}"
    if not target.is_dir():
        with atomic_folder(target) as partial:
            _run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(partial), *HEADERS], partial)
    for header in sorted(target.glob("nvidia/*/include/cuda.h")):
        return header.parents[1]
    raise BuildError(f"no cuda.h in {target}; install CUDA's headers and set CUDA_HOME")


def _driver(cache: Path, cuda: Path) -> Path:
    include = cuda.resolve() / "include"
    contents = [(SOURCES / name).read_text(encoding="utf-8") for name in _SOURCE_FILES]
    target = cache / f"nullgpu-{_key(*contents, str(include))}"
    if not target.is_dir():
        _need("make", "gcc")
        with atomic_folder(target) as partial:
            for name in _SOURCE_FILES:
                shutil.copy(SOURCES / name, partial)
            # Includes its own test: a driver that fails it is not kept.
            _run(["make", "test", f"CUDA_INC={include}", f"PYTHON={sys.executable}"], partial)
    return target


def _pycuda(cache: Path, cuda: Path, driver: Path) -> Path:
    version = re.search(r"#define CUDA_VERSION (\d+)", (cuda / "include" / "cuda.h").read_text(encoding="utf-8"))
    if version is None:
        raise BuildError(f"{cuda}/include/cuda.h has no CUDA_VERSION; set CUDA_HOME to another CUDA")
    target = cache / f"pycuda-{_key(PYCUDA, sys.version, version[1])}"
    if target.is_dir():
        return target
    _need("gcc", "g++")
    with atomic_folder(target) as partial:
        work = partial / "work"
        venv.create(work / "venv", with_pip=True)
        python = str(work / "venv" / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *_BUILD_REQUIREMENTS], work)
        _run([*pip, "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary=:all:", PYCUDA], work)
        with tarfile.open(next(work.glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(work / "source", filter="data")
        source = next((work / "source").iterdir())
        options = ["--no-cuda-enable-curand", f"--cuda-root={cuda}", f"--cudadrv-lib-dir={driver}"]
        _run([python, "configure.py", *options, f"--cuda-pretend-version={version[1]}"], source)
        wheel = ["wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", str(work)]
        # Compiled once and used for small tests: build time matters more than run time.
        _run([*pip, *wheel, str(source)], source, CFLAGS="-O0 -g0", CXXFLAGS="-O0 -g0", LDFLAGS=f"-L{driver}")
        wheels = [str(file) for file in work.glob("pycuda-*.whl")]
        _run([*pip, "install", "--quiet", "--target", str(partial), *wheels], work)
        shutil.rmtree(work)
    return target


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _need(*programs: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        raise BuildError(f"{', '.join(missing)} not found; on Debian or Ubuntu: sudo apt-get install build-essential")


def _run(command: list[str], folder: Path, **variables: str) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
        cause = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
        raise BuildError(f"'{' '.join(command)[:120]}' failed: {cause[:300]}")


if __name__ == "__main__":
    try:
        found = build()
    except BuildError as error:
        sys.exit(str(error))
    print(f"driver  {found.library}")
    print(f"pycuda  {found.pycuda or 'the installed one'}")
