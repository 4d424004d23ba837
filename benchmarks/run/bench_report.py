"""The format of a benchmark's report.json, and the function that loads it."""

import json
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from benchmarks.run.by_people import PeopleBin
from benchmarks.run.environment import Environment, State
from benchmarks.run.group import Group
from benchmarks.run.latency import Summary
from benchmarks.run.memory import Memory
from benchmarks.run.soak import Soak
from benchmarks.run.streams import Streams
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.strict import Strict, validation_message

FILE_NAME = "report.json"


class Run(Strict):
    """Configuration and extent of the run."""

    network: str
    size: tuple[int, int] = Field(description="Width and height of the network's input in pixels.")
    precision: str
    slots: int
    backend: str
    provider: str = Field(description="Execution provider of ONNX Runtime.")
    cuda_graphs: bool = Field(
        description="CUDA graphs were enabled, on a GPU; the tensorrt backend disables them while it records stages."
    )
    frame_size: tuple[int, int] | None = Field(description="Width and height of the source's first frame in pixels.")
    source_fps: float = Field(description="Frame rate of the source.")
    camera_fps: float = Field(description="Frame rate that sets the deadline; the source's unless --fps was given.")
    frames: int | None = Field(description="Timed frames asked for; null with --minutes.")
    minutes: float | None
    passes: int = Field(description="Times that the source was read; the session continues across the jump.")
    seconds: float = Field(description="Duration of the measurement without warm-up, including all frames.")
    frames_left_out: int = Field(description="Frames skipped because they are the first after a change of block.")
    stopped_early: bool = Field(description="Ended by Ctrl-C or SIGTERM.")


class Start(Strict):
    """Times before the first timed frame, in milliseconds."""

    load: float = Field(description="Opening the bundle and the session.")
    first_frame: float = Field(description="First warm-up frame, from decoded frame to parts.")
    warm_up: Summary = Field(description="All warm-up frames, including the first.")


class F1(Strict):
    """Keypoint F1 of the bundle at its own threshold, as in 'stm-skeletons eval --start cold'."""

    kind: str = Field(description="Kind of the data: coco, posetrack18, posetrack21 or footage.")
    data: str = Field(description="Description of the data.")
    occluded: bool = Field(description="With a moving occluder and blur.")
    sequences: int
    threshold: float
    f1: float | None = Field(description="With one-to-one matching; null if there was nothing to count.")
    low: float | None = Field(description="95% bootstrap interval over sequences; null with too few sequences.")
    high: float | None
    precision: float | None
    recall: float | None


class MemorySamples(Strict):
    """One sample per second; null if unknown."""

    seconds: list[float]
    resident_mb: list[float | None]
    device_mb: list[float | None]


class Raw(Strict):
    """Times of every measured frame, in milliseconds with 3 decimals. Lists of one kind of frame have equal length."""

    warm_up: list[float] = Field(description="Warm-up frames, from decoded frame to parts.")
    seconds: list[float] = Field(description="Timed frames: start, in seconds since the measurement began.")
    decode: list[float] = Field(description="Timed frames: decoding.")
    frame: list[float] = Field(description="Timed frames: from decoded frame to parts.")
    people: list[int] = Field(description="Timed frames: number of people, the most keypoints of any joint.")
    yardstick: list[float] = Field(
        default=[], description="Time of the yardstick, a fixed workload, after each timed frame of a long run."
    )
    stages: dict[str, list[float]] = Field(description="Times by stage, of the frames with recorded stages.")
    memory: MemorySamples

    @model_validator(mode="after")
    def _is_consistent(self) -> "Raw":
        memory = self.memory
        for lists in (
            (self.seconds, self.decode, self.frame, self.people, self.yardstick or self.people),
            (memory.seconds, memory.resident_mb, memory.device_mb),
            self.stages.values(),
        ):
            if len({len(values) for values in lists}) > 1:
                raise ValueError("lists of one kind of frame differ in length")
        return self


class Report(Strict):
    """Report of a benchmark. Times are in milliseconds, memory is in MB of 10^6 bytes."""

    model_config = ConfigDict(title="STM-skeletons benchmark report")

    format: Literal[1] = 1
    environment: Environment
    after: State = Field(description="State of the machine after the measurement.")
    run: Run
    start: Start
    fps: float = Field(description="Frames per second of one stream: 1000 over the mean end-to-end time.")
    end_to_end: Summary = Field(description="Timed frames: from decoding to parts.")
    frame: Summary = Field(description="Timed frames: from decoded frame to parts.")
    decode: Summary = Field(description="Timed frames: decoding.")
    stages: dict[str, Summary] = Field(description="Times by stage, of separate frames; see 'notes'.")
    people: list[PeopleBin]
    streams: list[Streams]
    groups: list[Group] = Field(description="For each number of concurrent streams above 1: a group of cameras.")
    memory: Memory
    soak: Soak | None = Field(description="Present with --minutes, or with enough timed frames.")
    accuracy: list[F1] = Field(description="Empty if F1 was not measured.")
    notes: list[str] = Field(description="How to read the figures, and what is missing.")
    raw: Raw


def report_text(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(report.model_dump(mode="json"), allow_nan=False, separators=(",", ":")) + "\n"


def load_report(path: Path) -> Report:
    """Read a report.json, or the one in a folder. Raises BenchmarkError."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BenchmarkError(f"cannot read {file}: {error.strerror}; 'stm-skeletons bench' writes reports") from error
    except ValidationError as error:
        raise BenchmarkError(
            f"{file} is not a valid report of this version of 'bench run' ({validation_message(error)}); measure again"
        ) from error
