"""TensorRT engines of a bundle: a folder with one engine for each graph and a sidecar that says what they are.

engines.json            EngineSet: TensorRT, CUDA, target, flags, and for each graph hashes, sizes, planned memory
query_encoder.engine    plain TensorRT plans without any prefix, so that trtexec and DeepStream can load them too
read_decoder.engine
memory_encoder.engine

An engine is a program: it is never deserialised unless its bytes are those that the sidecar lists and the sidecar is of
this very bundle.
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
from stm_skeletons.strict import Strict, what_is_wrong

FORMAT = 1
FOLDER = "engines"
"""Inside the bundle: one folder for each target."""
FILE_NAME = "engines.json"
NATIVE = "native"
"""Target of engines that were built on the machine that runs them, by ``tensorrt``."""
RTX_TARGETS = ("sm75", "sm86", "sm89", "sm120", "sm121")
"""Targets (compute capabilities) that ``tensorrt_rtx`` builds for on any machine."""

Package = Literal["tensorrt", "tensorrt_rtx"]
"""The Python package that builds and runs an engine; engines of one cannot be read by the other."""


class EngineSpec(Strict):
    """One engine file."""

    file: str
    sha256: str
    graph_sha256: str
    """Hash of the ONNX graph that it was built from."""
    bytes: NonNegativeInt
    activation_bytes: NonNegativeInt | None
    """Device memory that TensorRT planned for intermediate tensors; None where it did not say."""
    layers_before: NonNegativeInt
    """Layers of the parsed network."""
    layers_after: NonNegativeInt | None
    """Kernels after fusion; None where TensorRT did not say."""
    seconds: float = Field(ge=0)
    """Build time."""


class EngineSet(Strict):
    """The contents of engines.json."""

    format: Literal[1]
    package: Package
    tensorrt_version: str
    cuda_version: str | None
    """Of the driver (native) or unknown (None: built ahead of time, without one)."""
    target: str
    """"native", or the compute capability that was built for, as "sm86"."""
    compute_capability: str
    """Of the GPU that it runs on, as "sm87"."""
    device: str | None
    """The GPU it was built on, see ``device_name``; None for ahead of time."""
    precision: str
    """Of the bundle's graphs."""
    flags: tuple[str, ...]
    """Builder and network flags that were set."""
    workspace_mb: int | None
    created_by: str
    engines: dict[GraphName, EngineSpec]

    @model_validator(mode="after")
    def _is_whole(self) -> "EngineSet":
        if missing := [name for name in GRAPH_NAMES if name not in self.engines]:
            raise ValueError(f"engines of {', '.join(missing)} are not listed")
        if self.target not in (NATIVE, *RTX_TARGETS):
            raise ValueError(f"unknown target '{one_line(self.target, 20)}'")
        for spec in self.engines.values():
            if Path(spec.file).name != spec.file:
                raise ValueError(f"engine file '{spec.file}' must lie in the engines' own folder")
        return self


@dataclass(frozen=True)
class Engines:
    """Engines on disk whose sidecar and hashes have been checked against their bundle."""

    folder: Path
    info: EngineSet

    def engine_file(self, name: GraphName) -> Path:
        """Path of a graph's engine."""
        return self.folder / self.info.engines[name].file


def device_name(name: str, multiprocessors: int) -> str:
    """How a GPU is called here. Boards of different strength share a driver's name: every Orin is "Orin"."""
    return f"{name}, {multiprocessors} multiprocessors"


def engines_folder(bundle: Bundle, target: str, root: Path | None = None) -> Path:
    """Where a bundle's engines for a target lie: ``root``/target, and without ``root`` inside the bundle."""
    return (bundle.folder / FOLDER if root is None else root) / target


def engine_folders(bundle: Bundle, root: Path | None = None) -> list[Path]:
    """Every folder of engines that lies in ``root``, without it in the bundle; their sidecars are yet to be read."""
    return sorted(file.parent for file in engines_folder(bundle, NATIVE, root).parent.glob(f"*/{FILE_NAME}"))


def rebuild_command(bundle: Bundle, target: str, root: Path | None = None) -> str:
    """What to type to build a bundle's engines; ``root`` as in ``engines_folder``."""
    elsewhere = [] if root is None or root == bundle.folder / FOLDER else ["--engines", str(root)]
    return shlex.join(["stm-skeletons", "build", str(bundle.folder), "--target", target, *elsewhere])


def open_engines(bundle: Bundle, folder: Path) -> Engines:
    """Read a sidecar and check it and every engine's bytes against it and the bundle. Deserialises nothing.

    Raises:
        EngineError: no engines there, a damaged sidecar, an engine that is missing, cut off or foreign, or engines of
            another bundle. The message has the command that builds them.
    """
    info = _read_sidecar(bundle, folder)
    advice = f"build them again: {rebuild_command(bundle, info.target, folder.parent)}"
    for name, spec in info.engines.items():
        if spec.graph_sha256 != bundle.info.graphs[name].sha256:
            raise EngineError(f"{folder}: the engine of {name} was built from another bundle's graph; {advice}")
        file = folder / spec.file
        if not file.is_file():
            raise EngineError(f"{folder}: {spec.file} is missing; {advice}")
        try:
            found = sha256(file)
        except OSError as error:
            raise EngineError(f"{file} cannot be read ({error.strerror or error}); {advice}") from error
        if found != spec.sha256:
            raise EngineError(f"{file} is not the engine that was built here (its SHA-256 differs); {advice}")
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
        raise EngineError(f"{file} is not valid: {what_is_wrong(error)}; {advice}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{file} cannot be read ({one_line(error)}); {advice}") from error
