"""TensorRT engines of a bundle: a folder with one engine per graph and a sidecar that describes them.

engines.json            EngineSet: TensorRT, CUDA, target, flags; per graph: hashes, sizes, planned memory
query_encoder.engine    plain TensorRT plans without a prefix, so trtexec and DeepStream can load them too
read_decoder.engine
memory_encoder.engine

An engine is a program. It is deserialised only if its hash matches the sidecar and the sidecar matches the bundle.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from stm_skeletons.bundle import GRAPH_NAMES, Bundle, GraphName
from stm_skeletons.errors import EngineError, one_line
from stm_skeletons.files import sha256
from stm_skeletons.strict import Strict, validation_message

FORMAT = 1
FOLDER = "engines"
"""Folder inside the bundle, with one folder per target."""
FILE_NAME = "engines.json"
NATIVE = "native"
"""Target of engines that ``tensorrt`` builds on the machine that runs them."""
RTX_TARGETS = ("sm75", "sm86", "sm89", "sm120", "sm121")
"""Targets (compute capabilities) that ``tensorrt_rtx`` can build for on any machine."""

Package = Literal["tensorrt", "tensorrt_rtx"]
"""The Python package that builds and runs an engine; neither can load the other's engines."""


class EngineSpec(Strict):
    """An engine file."""

    file: str
    sha256: str
    graph_sha256: str
    """Hash of the ONNX graph it was built from."""
    bytes: NonNegativeInt
    activation_bytes: NonNegativeInt | None
    """Device memory planned for intermediate tensors; None if TensorRT does not report it."""
    layers_before: NonNegativeInt
    """Layers of the parsed network."""
    layers_after: NonNegativeInt | None
    """Kernels after fusion; None if TensorRT does not report them."""
    seconds: float = Field(ge=0)
    """Build time in seconds."""


class EngineSet(Strict):
    """The contents of engines.json."""

    format: Literal[1]
    package: Package
    tensorrt_version: str
    cuda_version: str | None
    """CUDA version of the driver; None if built ahead of time, without a driver."""
    target: str
    """"native", or a compute capability such as "sm86"."""
    compute_capability: str
    """Compute capability of the GPU that runs the engines, such as "sm87"."""
    device: str | None
    """The GPU they were built on, see ``device_name``; None if built ahead of time."""
    precision: str
    """Precision of the bundle's graphs."""
    flags: tuple[str, ...]
    """Builder and network flags."""
    workspace_mb: int | None
    created_by: str
    engines: dict[GraphName, EngineSpec]

    @model_validator(mode="after")
    def _is_whole(self) -> "EngineSet":
        if missing := [name for name in GRAPH_NAMES if name not in self.engines]:
            raise ValueError(f"engines of {', '.join(missing)} are missing")
        if self.target not in (NATIVE, *RTX_TARGETS):
            raise ValueError(f"unknown target '{one_line(self.target, 20)}'")
        for spec in self.engines.values():
            if Path(spec.file).name != spec.file:
                raise ValueError(f"engine file '{spec.file}' must be in the engines' folder")
        return self


@dataclass(frozen=True)
class Engines:
    """Engines on disk whose sidecar and hashes match their bundle."""

    folder: Path
    info: EngineSet

    def engine_file(self, name: GraphName) -> Path:
        """Return the path of a graph's engine."""
        return self.folder / self.info.engines[name].file


def device_name(name: str, multiprocessors: int) -> str:
    """Return a GPU's name with its size: different boards share the driver's name (every Orin is "Orin")."""
    return f"{name}, {multiprocessors} multiprocessors"


def engines_folder(bundle: Bundle, target: str, root: Path | None = None) -> Path:
    """Return the folder of a bundle's engines for a target: in ``root``, by default inside the bundle."""
    return (bundle.folder / FOLDER if root is None else root) / target


def engine_folders(bundle: Bundle, root: Path | None = None) -> list[Path]:
    """Return all folders of engines in ``root``, by default inside the bundle. Does not read their sidecars."""
    return sorted(file.parent for file in engines_folder(bundle, NATIVE, root).parent.glob(f"*/{FILE_NAME}"))


def rebuild_command(bundle: Bundle, target: str, root: Path | None = None) -> str:
    """Return the command that builds a bundle's engines; ``root`` as in ``engines_folder``."""
    elsewhere = [] if root is None or root == bundle.folder / FOLDER else ["--engines", str(root)]
    return shlex.join(["stm-skeletons", "build", str(bundle.folder), "--target", target, *elsewhere])


def open_engines(bundle: Bundle, folder: Path) -> Engines:
    """Read a sidecar and check the engines' hashes against it and the bundle. Deserialises nothing.

    Raises:
        EngineError: there are no engines, the sidecar is damaged, an engine is missing or modified, or the engines
            belong to another bundle. The message contains the command that builds them.
    """
    info = _read_sidecar(bundle, folder)
    advice = f"build them again: {rebuild_command(bundle, info.target, folder.parent)}"
    for name, spec in info.engines.items():
        if spec.graph_sha256 != bundle.info.graphs[name].sha256:
            raise EngineError(f"{folder}: the engine of {name} was built from another bundle; {advice}")
        file = folder / spec.file
        if not file.is_file():
            raise EngineError(f"{folder}: {spec.file} is missing; {advice}")
        try:
            found = sha256(file)
        except OSError as error:
            raise EngineError(f"{file} cannot be read ({error.strerror or error}); {advice}") from error
        if found != spec.sha256:
            raise EngineError(f"{file} differs from the built engine (SHA-256 mismatch); {advice}")
    return Engines(folder, info)


def _read_sidecar(bundle: Bundle, folder: Path) -> EngineSet:
    file = folder / FILE_NAME
    target = folder.name if folder.name in RTX_TARGETS else NATIVE
    advice = f"build them: {rebuild_command(bundle, target, folder.parent)}"
    if not file.is_file():
        raise EngineError(f"{folder} has no engines ({FILE_NAME} is missing); {advice}")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        return EngineSet.model_validate(content)
    except ValidationError as error:
        raise EngineError(f"{file} is not valid: {validation_message(error)}; {advice}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{file} cannot be read ({one_line(error)}); {advice}") from error
