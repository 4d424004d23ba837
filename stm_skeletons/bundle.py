"""The bundle: the folder that export writes and the runtime reads.

bundle.json             BundleInfo: description, with a hash of every graph
query_encoder.onnx      frame -> key, value, features
read_decoder.onnx       memory, query -> maps, peaks, edge scores, previous positions of peaks, centres
memory_encoder.onnx     frame or features, maps -> key, value of one slot
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from stm_skeletons.errors import BundleError, one_line
from stm_skeletons.files import read_text, sha256
from stm_skeletons.geometry import STRIDE
from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import Skeleton
from stm_skeletons.strict import Strict, validation_message
from stm_skeletons.variants import Variant

FORMAT = 2
FILE_NAME = "bundle.json"
MODELS_FOLDER = Path(__file__).parent / "models"
"""Bundles that ship with the package, one folder each."""

GRAPH_NAMES = ("query_encoder", "read_decoder", "memory_encoder")
GraphName = Literal["query_encoder", "read_decoder", "memory_encoder"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Grouping = Literal["centres", "edges", "none"]


class TensorSpec(Strict):
    """Name, type and fixed shape of an input or output."""

    name: str
    dtype: Literal["uint8", "float16", "float32", "int32", "int64"]
    shape: tuple[PositiveInt, ...] = Field(min_length=1)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


class GraphSpec(Strict):
    """A graph: its file, the file's hash, its inputs and outputs."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @model_validator(mode="after")
    def _stays_in_the_bundle(self) -> "GraphSpec":
        if Path(self.file).name != self.file:
            raise ValueError(f"graph file '{self.file}' must be in the bundle's folder")
        return self

    def tensor(self, name: str) -> TensorSpec:
        """Return the input or output with this name. Raises BundleError."""
        for spec in (*self.inputs, *self.outputs):
            if spec.name == name:
                return spec
        raise BundleError(f"{self.file} has no tensor '{name}'; export the bundle again")


class BundleInfo(Strict):
    """The contents of bundle.json."""

    format: Literal[2]
    variant: Variant
    skeleton: Skeleton
    channels: tuple[str, ...]
    """Names of the maps' channels: 'mask', joints, edges; fewer for networks without keypoints."""
    height: int = Field(ge=32, multiple_of=32)
    """Network input height in pixels."""
    width: int = Field(ge=32, multiple_of=32)
    """Network input width in pixels."""
    batch: int = Field(default=1, ge=1)
    """B: cameras whose frames the two encoders process in one run. If B > 1, their tensors have a batch axis."""
    slots: int = Field(ge=2)
    every: int = Field(ge=1)
    """Every n-th frame is memorised in the ring of slots."""
    peaks: int = Field(ge=1)
    """Most peaks reported for each joint."""
    grouping: Grouping
    """How keypoints are assigned to people: by centres and edges, by edges alone, or not at all (no people)."""
    centres: int = Field(ge=0)
    """P: most centres reported; 0 for networks without centres."""
    person_threshold: float = Field(ge=0, le=1)
    """Lowest score of a reported person."""
    keypoint_threshold: float = Field(ge=0, le=1)
    edge_threshold: float = Field(ge=0, le=1)
    precision: Precision
    """Arithmetic: "fp16" for GPUs, with islands of FP32; "int8" for CPUs; "bf16" for CPUs: the graphs are FP32, and the
    backend runs their convolutions in bf16."""
    stored_weights: Literal["fp32", "fp16"]
    """Type of the stored weights; cast on loading if the graphs compute in another type."""
    opset: int
    weights_sha256: str
    """Hash of the exported safetensors file."""
    weights_origin: str
    """Origin of the weights, and their licence."""
    created_by: str
    graphs: dict[GraphName, GraphSpec]

    @model_validator(mode="after")
    def _is_consistent(self) -> "BundleInfo":
        if missing := [name for name in GRAPH_NAMES if name not in self.graphs]:
            raise ValueError(f"graphs {', '.join(missing)} are missing")
        known = (self.skeleton.channels, ("mask", *self.skeleton.edge_names), (SKELETON_CHANNEL,))
        if self.channels not in known:
            raise ValueError("channels do not match the skeleton")
        if (self.grouping == "none", self.grouping == "centres") != (not self.has_keypoints, self.centres > 0):
            raise ValueError(f"grouping '{self.grouping}' does not fit {self.centres} centres and these channels")
        joints, edges = len(self.skeleton.joints), len(self.skeleton.edges)
        grid = (self.height // STRIDE, self.width // STRIDE)
        tokens = self.height // 16 * (self.width // 16)
        expected: dict[tuple[GraphName, str], tuple[int, ...]] = {
            ("query_encoder", "frame"): (*self.rows, self.height, self.width, 3),
            ("read_decoder", "maps"): (len(self.channels), *grid),
            ("read_decoder", "memory_valid"): (self.slots,),
        }
        if self.has_keypoints:
            expected["read_decoder", "peaks"] = (joints, self.peaks, 3)
            expected["read_decoder", "edge_scores"] = (edges, self.peaks, self.peaks)
            expected["read_decoder", "previous"] = (self.slots, joints, self.peaks, 2)
        if self.centres:
            expected["read_decoder", "centres"] = (self.centres, 3)
            expected["read_decoder", "centre_joints"] = (self.centres, joints, 2)
        for (graph, name), shape in expected.items():
            _expect(self.graphs[graph], name, shape)
        for memory, query in (("memory_keys", "query_key"), ("memory_values", "query_value")):
            width = self.graphs["query_encoder"].tensor(query).shape[-1]
            slot = "memory_key" if query == "query_key" else "memory_value"
            _expect(self.graphs["query_encoder"], query, (*self.rows, tokens, width))
            _expect(self.graphs["memory_encoder"], slot, (*self.rows, tokens, width))
            _expect(self.graphs["read_decoder"], memory, (self.slots, tokens, width))
            if self.graphs["memory_encoder"].tensor(slot).dtype != self.graphs["read_decoder"].tensor(memory).dtype:
                raise ValueError(f"{slot} and {memory} have different types")
        self._check_that_inputs_are_made()
        return self

    def _check_that_inputs_are_made(self) -> None:
        """Check that every input equals another graph's output, because graphs share buffers by name.

        The decoder reads one row of the query encoder's batch; the memory encoder reads a whole batch.
        """
        query, decoder, memory = (self.graphs[name] for name in GRAPH_NAMES)
        bank = [decoder.tensor(name) for name in ("memory_keys", "memory_values", "memory_valid")]
        frames, maps = (*query.inputs, *query.outputs), decoder.outputs
        for inputs, given in (
            (decoder.inputs, (*(self.row_of(spec) for spec in frames), *bank)),
            (memory.inputs, (*frames, *(self.batch_of(spec) for spec in maps))),
        ):
            made = {spec.name: spec for spec in given}
            for spec in inputs:
                if made.get(spec.name) != spec:
                    raise ValueError(f"input {spec} does not match another graph's output ({made.get(spec.name)})")

    @property
    def rows(self) -> tuple[int, ...]:
        """Leading axes of batched shapes: none for a batch of one."""
        return () if self.batch == 1 else (self.batch,)

    def row_of(self, spec: TensorSpec) -> TensorSpec:
        """Return one camera's part of an encoder's tensor."""
        return spec.model_copy(update={"shape": spec.shape[len(self.rows) :]})

    def batch_of(self, spec: TensorSpec) -> TensorSpec:
        """Return a decoder tensor for all cameras of a batch, in the encoders' layout."""
        return spec.model_copy(update={"shape": (*self.rows, *spec.shape)})

    @property
    def has_keypoints(self) -> bool:
        """Whether the maps have every joint; the graphs then have peaks and edge scores."""
        return self.channels == self.skeleton.channels

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the network input in pixels."""
        return self.width, self.height


def _expect(graph: GraphSpec, name: str, shape: tuple[int, ...]) -> None:
    try:
        found = graph.tensor(name).shape
    except BundleError as error:
        raise ValueError(str(error)) from None
    if found != shape:
        raise ValueError(f"{name} in {graph.file} has shape {list(found)}, must be {list(shape)}")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose description and hashes have been checked."""

    folder: Path
    info: BundleInfo

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and check a bundle.

        Args:
            path: the bundle's folder, or the name of a shipped model ("edge").

        Raises:
            BundleError: there is no such bundle or model, bundle.json is damaged or has another format, or a graph is
                missing or differs from the exported one.
        """
        folder = _find(path)
        info = _read_info(folder / FILE_NAME)
        for spec in info.graphs.values():
            file = folder / spec.file
            if not file.is_file():
                raise BundleError(f"{folder}: {spec.file} is missing; export or copy the bundle again")
            if sha256(file) != spec.sha256:
                raise BundleError(f"{file} differs from the exported file (SHA-256 mismatch); copy it again")
        return cls(folder, info)

    def graph_file(self, name: GraphName) -> Path:
        """Return the path of a graph's ONNX file."""
        return self.folder / self.info.graphs[name].file


def shipped_models() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.parent.name for path in MODELS_FOLDER.glob(f"*/{FILE_NAME}"))


def _find(path: str | Path) -> Path:
    folder = Path(path)
    # A shipped model's name takes precedence over a folder of that name; give './edge' for the folder.
    if str(path) in shipped_models():
        return MODELS_FOLDER / str(path)
    if not folder.exists():
        known = ", ".join(shipped_models()) or "none"
        raise BundleError(f"no model or bundle '{path}'; give a bundle's folder or a shipped model ({known})")
    if not (folder / FILE_NAME).is_file():
        raise BundleError(f"{folder} is not a bundle: {FILE_NAME} is missing; create one with 'stm-skeletons export'")
    return folder


def _read_info(file: Path) -> BundleInfo:
    try:
        content: Any = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({one_line(error)}); export or copy it again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise BundleError(f"{file} has format {found!r}, this version needs {FORMAT}; export the bundle again")
    try:
        return BundleInfo.model_validate(content)
    except ValidationError as error:
        raise BundleError(f"{file} is not valid: {validation_message(error)}; export it again") from error
