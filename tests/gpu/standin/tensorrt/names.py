"""The names that a TensorRT version has, and its enumerations."""

import enum
import json
import os
from pathlib import Path
from typing import Any, TypeVar

VERSION = os.environ.get("STANDIN_TENSORRT_VERSION", "10.3.0")
"""The simulated TensorRT version."""
_KEYS = {"8.6.1": "8.6.1", "10.3.0": "10.3.0", "11.1": "11.1"}
_FILE = Path(__file__).parents[2] / "tensorrt-python-api.json"
_API: dict[str, list[str]] = json.loads(_FILE.read_text(encoding="utf-8"))[_KEYS[VERSION]]
MAJOR = int(VERSION.partition(".")[0])

_Class = TypeVar("_Class", bound=type)


def of_this_version(cls: _Class) -> _Class:
    """Remove names that the API file does not list for this class and version; unlisted classes stay unchanged."""
    listed = _API.get(cls.__name__)
    if listed is not None:
        for name in [name for name in vars(cls) if not name.startswith("_") and name not in listed]:
            delattr(cls, name)
    return cls


class Fixed:
    """A library object: rejects unknown attributes, like pybind11's objects."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        super().__setattr__(name, value)


class Number(enum.Enum):
    """Like a pybind11 enumeration: int() works, but it is not an int."""

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value


def _enumeration(name: str, values: dict[str, int]) -> Any:
    """The members of this version; all of them if the API file does not list the enumeration."""
    listed = _API.get(name, list(values))
    return Number(name, {member: value for member, value in values.items() if member in listed})


DataType = _enumeration(
    "DataType",
    {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5, "FP8": 6, "BF16": 7, "INT64": 8, "INT4": 9},
)
TensorIOMode = _enumeration("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
ExecutionContextAllocationStrategy = _enumeration(
    "ExecutionContextAllocationStrategy", {"STATIC": 0, "ON_PROFILE_CHANGE": 1, "USER_MANAGED": 2}
)
BuilderFlag = _enumeration(
    "BuilderFlag",
    {
        "FP16": 0,
        "INT8": 1,
        "DEBUG": 2,
        "GPU_FALLBACK": 3,
        "REFIT": 4,
        "DISABLE_TIMING_CACHE": 5,
        "TF32": 6,
        "SPARSE_WEIGHTS": 7,
        "SAFETY_SCOPE": 8,
        "OBEY_PRECISION_CONSTRAINTS": 9,
        "PREFER_PRECISION_CONSTRAINTS": 10,
        "DIRECT_IO": 11,
        "REJECT_EMPTY_ALGORITHMS": 12,
        "VERSION_COMPATIBLE": 13,
        "FP8": 15,
        "BF16": 17,
        "STRICT_NANS": 24,
    },
)
NetworkDefinitionCreationFlag = _enumeration(
    "NetworkDefinitionCreationFlag",
    {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1, "PREFER_JIT_PYTHON_PLUGINS": 2, "PREFER_AOT_PYTHON_PLUGINS": 3},
)
MemoryPoolType = _enumeration("MemoryPoolType", {"WORKSPACE": 0, "TACTIC_DRAM": 4, "TACTIC_SHARED_MEMORY": 5})
ProfilingVerbosity = _enumeration("ProfilingVerbosity", {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2})
LayerInformationFormat = _enumeration("LayerInformationFormat", {"ONELINE": 0, "JSON": 1})
ErrorCode = _enumeration("ErrorCode", {"SUCCESS": 0, "INTERNAL_ERROR": 1, "UNSUPPORTED_NODE": 8})
LayerType = _enumeration(
    "LayerType",
    {
        "CONVOLUTION": 0,
        "CAST": 1,
        "SOFTMAX": 6,
        "ELEMENTWISE": 9,
        "MATRIX_MULTIPLY": 14,
        "CONSTANT": 18,
        "IDENTITY": 23,
    },
)


class Dims(tuple):
    """A shape."""

    MAX_DIMS = 8
