"""The arms of a comparison: bundles, networks in PyTorch and MoveNet, each named by a text such as "edge,threads=1".

    edge | FOLDER         a shipped model or a bundle, from decoded frame to parts
    movenet:FILE.onnx     MoveNet MultiPose's network alone; also with backend=openvino
    eager:WEIGHTS         a network in eager PyTorch, with the runtime's bounded memory
    growing:WEIGHTS       as eager, with STM's memory, which keeps every n-th frame and never drops any
    compiled:WEIGHTS      as eager, with torch.compile

Only bundles are timed from decoded frame to parts. The others get frames that are already letterboxed and compute no
peaks and parts, so the comparison favours them.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.backends import BackendOptions, choose_backend
from runtime.backends.onnxruntime import session_options
from runtime.backends.openvino import compile_options, import_openvino
from runtime.session import Session
from stm_skeletons.bundle import FILE_NAME, Bundle
from stm_skeletons.errors import BackendError, BenchmarkError, one_line
from stm_skeletons.files import sha256
from stm_skeletons.geometry import Letterbox
from stm_skeletons.libraries import need

Image = NDArray[np.uint8]
_YES_OR_NO = {"yes": True, "no": False}
_BUNDLE = {"backend": str, "provider": str, "threads": int, "engines": Path, "cuda_graphs": _YES_OR_NO.__getitem__}
_TORCH = {"size": str, "slots": int, "every": int, "threads": int, "device": str}
_OPTIONS = {"bundle": _BUNDLE, "movenet": {"size": str, "threads": int, "backend": str}}
_OPTIONS |= dict.fromkeys(("eager", "growing", "compiled"), _TORCH)
_DEFAULT_SIZE = "448x256"


@dataclass(frozen=True)
class ArmName:
    """The parsed text of an arm."""

    text: str
    kind: str
    """"bundle", "movenet", "eager", "growing" or "compiled"."""
    path: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One of the compared variants, ready to be timed frame by frame."""

    name: ArmName
    threads: int
    what: str
    """Description of what is timed."""
    sha256: str
    """Hash of bundle.json, or of the weights file."""
    prepare: Callable[[Image], Any]
    """Converts a source frame (BGR uint8 [h, w, 3]) to the input of ``step``; not timed."""
    step: Callable[[Any], object]
    size: tuple[int, int]
    """Width and height of the network's input in pixels."""
    tracker: Any = None
    """Session or TorchSession to measure F1 with; None for MoveNet."""


def parse_arm(text: str) -> ArmName:
    """Parse the text of an arm. Raises BenchmarkError."""
    head, *pairs = text.split(",")
    kind, colon, path = head.partition(":")
    if not colon or kind not in _OPTIONS or kind == "bundle":
        kind, path = "bundle", head
    options: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in _OPTIONS[kind]:
            raise BenchmarkError(f"'{text}': unknown option '{key}'; choose from {', '.join(_OPTIONS[kind])}")
        try:
            options[key] = _OPTIONS[kind][key](value)
        except KeyError as error:
            raise BenchmarkError(f"'{text}': {key} must be yes or no") from error
        except ValueError as error:
            raise BenchmarkError(f"'{text}': {key} must be a whole number") from error
        if not value or (type(options[key]) is int and options[key] < 1):
            raise BenchmarkError(f"'{text}': {key} needs a value, and numbers must be at least 1")
    if not path:
        raise BenchmarkError(f"'{text}' lacks a model or file; write edge, movenet:FILE.onnx or eager:WEIGHTS")
    return ArmName(text, kind, path, options)


def open_arm(name: ArmName, threads: int, stack: ExitStack) -> Arm:
    """Open an arm.

    Args:
        name: the parsed text.
        threads: CPU threads, unless the arm's own options set them.
        stack: closes the arm.

    Raises:
        StmError: the model or file cannot be opened.
    """
    threads = name.options.get("threads", threads)
    if name.kind == "bundle":
        return _bundle(name, threads, stack)
    if name.kind == "movenet":
        return _movenet(name, threads)
    return _in_torch(name, threads)


def _bundle(name: ArmName, threads: int, stack: ExitStack) -> Arm:
    opened = Bundle.open(name.path)
    options: dict[str, Any] = name.options | {"threads": threads}
    backend = choose_backend(BackendOptions(**options), opened)
    session = stack.enter_context(Session.open(opened, backend))
    info = opened.info
    where = f"ONNX Runtime, {backend.provider}" if backend.backend == "onnxruntime" else backend.backend
    if not backend.cuda_graphs:
        where += ", no CUDA graphs"
    what = (
        f"bundle {info.variant} {info.precision}, {info.width}x{info.height}, {info.slots} slots, every "
        f"{info.every}; {where}; from decoded frame to parts"
    )

    def prepare(frame: Image) -> Image:
        cv2.setNumThreads(threads)  # the letterbox is OpenCV's
        return frame

    return Arm(name, threads, what, sha256(opened.folder / FILE_NAME), prepare, session.step, info.size, session)


def _movenet(name: ArmName, threads: int) -> Arm:
    file, backend = _existing(name), name.options.get("backend", "onnxruntime")
    if backend not in _MOVENET_BACKENDS:
        raise BenchmarkError(f"'{name.text}': backend must be {' or '.join(_MOVENET_BACKENDS)}")
    title, load = _MOVENET_BACKENDS[backend]
    try:
        inputs, run = load(file, threads)
    except BackendError:
        raise
    except Exception as error:  # ONNX Runtime raises types that it does not export
        raise BenchmarkError(f"{title} cannot load {file}: {one_line(error)}") from error
    if inputs != [("input:0", "int32")]:
        raise BenchmarkError(f"{file} is not MoveNet MultiPose as ONNX: it has no int32 input 'input:0'")
    size = _size(name)
    box = _boxed(size)

    def prepare(frame: Image) -> NDArray[np.int32]:
        return box(frame)[None, :, :, ::-1].astype(np.int32)

    what = f"MoveNet MultiPose alone, {name.options.get('size', _DEFAULT_SIZE)}; {title}, cpu; no peaks, no memory"
    return Arm(name, threads, what, sha256(file), prepare, run, size)


Network = tuple[list[tuple[str, str]], Callable[[NDArray[np.int32]], object]]
"""Names and types of a network's inputs, and the function that runs it."""


def _in_onnxruntime(file: Path, threads: int) -> Network:
    network = onnxruntime.InferenceSession(file, session_options(threads), providers=["CPUExecutionProvider"])
    inputs = [(each.name, each.type.removeprefix("tensor(").removesuffix(")")) for each in network.get_inputs()]
    return inputs, lambda pixels: network.run(None, {"input:0": pixels})


def _in_openvino(file: Path, threads: int) -> Network:
    openvino = import_openvino()
    network = openvino.Core().compile_model(str(file), "CPU", compile_options(threads))
    inputs = [(each.any_name, each.element_type.to_dtype().name) for each in network.inputs]
    request = network.create_infer_request()
    return inputs, lambda pixels: request.infer({"input:0": pixels})


_MOVENET_BACKENDS = {"onnxruntime": ("ONNX Runtime", _in_onnxruntime), "openvino": ("OpenVINO", _in_openvino)}


def _in_torch(name: ArmName, threads: int) -> Arm:
    need(f"{name.kind}:", "torch", "safetensors")
    import torch

    from benchmarks.compare.growing import GrowingSession, compiled
    from training.model.session import TorchSession
    from training.model.weights import load_weights

    model, _ = load_weights(name.path)
    device = _device(name)
    model = model.to(device)
    slots, every = name.options.get("slots", 6), name.options.get("every", 5)
    if name.kind == "compiled":
        model = compiled(model)
    session = GrowingSession(model, every) if name.kind == "growing" else TorchSession(model, slots, every)
    size = _size(name)
    box = _boxed(size)

    def prepare(frame: Image) -> Image:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return box(frame).copy()

    def step(frame: Image) -> None:
        session.step(frame)
        if device == "cuda":
            torch.cuda.synchronize()  # on a GPU, a step returns as soon as its work is queued

    memory = "growing memory" if name.kind == "growing" else f"{slots} slots"
    what = (
        f"{name.kind} PyTorch {model.config.variant}, {name.options.get('size', _DEFAULT_SIZE)}, {memory}, every "
        f"{every}, {device}; maps only, no letterbox, no peaks"
    )
    return Arm(name, threads, what, sha256(Path(name.path)), prepare, step, size, session)


def _device(name: ArmName) -> str:
    import torch

    device = name.options.get("device", "cpu")
    if device not in ("cpu", "cuda"):
        raise BenchmarkError(f"'{name.text}': device must be cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(f"'{name.text}': PyTorch finds no GPU; remove device=cuda")
    return device


def _boxed(size: tuple[int, int]) -> Callable[[Image], Image]:
    """A function that letterboxes frames into one array, which every call overwrites."""
    out = np.empty((size[1], size[0], 3), np.uint8)

    def box(frame: Image) -> Image:
        Letterbox((frame.shape[1], frame.shape[0]), size).apply(frame, out)
        return out

    return box


def _size(name: ArmName) -> tuple[int, int]:
    width, _, height = name.options.get("size", _DEFAULT_SIZE).partition("x")
    if not (width.isdecimal() and height.isdecimal()) or int(width) % 32 or int(height) % 32:
        raise BenchmarkError(f"'{name.text}': size must be WIDTHxHEIGHT in multiples of 32, such as {_DEFAULT_SIZE}")
    return int(width), int(height)


def _existing(name: ArmName) -> Path:
    file = Path(name.path)
    if not file.is_file():
        raise BenchmarkError(f"'{name.text}': file {file} does not exist; check the path")
    return file
