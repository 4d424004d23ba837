"""The report of a benchmark as a file: report.json, and how it is read again."""

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
from stm_skeletons.strict import Strict, what_is_wrong

FILE_NAME = "report.json"


class Run(Strict):
    """What was run, and how."""

    network: str
    size: tuple[int, int] = Field(description="Width and height of the network's input in pixels.")
    precision: str
    slots: int
    backend: str
    provider: str = Field(description="Of ONNX Runtime.")
    cuda_graphs: bool = Field(description="Asked for, on a GPU; TensorRT's backend does without in frames with stages.")
    frame_size: tuple[int, int] | None = Field(description="Width and height of the source's first frame in pixels.")
    source_fps: float = Field(description="Frame rate of the source.")
    camera_fps: float = Field(description="Rate whose deadline counts; the source's own unless another was given.")
    frames: int | None = Field(description="Undisturbed frames asked for; null in a run by time.")
    minutes: float | None
    passes: int = Field(description="Times that the source was read; the session goes on over the jump.")
    seconds: float = Field(description="Of the measuring, without warm-up; all frames of it.")
    frames_left_out: int = Field(description="First frames after each change between blocks.")
    stopped_early: bool = Field(description="By Ctrl-C or SIGTERM: shorter than asked for.")


class Start(Strict):
    """What comes before the first frame that counts, in milliseconds."""

    load: float = Field(description="Opening the bundle and the session.")
    first_frame: float = Field(description="From decoded to parts.")
    warm_up: Summary = Field(description="All frames of the warm-up, the first too.")


class F1(Strict):
    """Keypoint F1 of the same bundle, as 'stm-skeletons eval --start cold' has it, at the bundle's own threshold."""

    kind: str = Field(description="Of the data: coco, posetrack18, posetrack21 or footage.")
    data: str = Field(description="What was measured on, in words.")
    occluded: bool = Field(description="With a moving occluder and blur.")
    sequences: int
    threshold: float
    f1: float | None = Field(description="One prediction serves one label; null where nothing could be counted.")
    low: float | None = Field(description="95 % by bootstrap over sequences; null with too few.")
    high: float | None
    precision: float | None
    recall: float | None


class MemorySamples(Strict):
    """One a second; null where unknown."""

    seconds: list[float]
    resident_mb: list[float | None]
    device_mb: list[float | None]


class Raw(Strict):
    """Every frame that was measured, in milliseconds to 3 decimals. Lists of one kind of frame have one length."""

    warm_up: list[float] = Field(description="Each from decoded to parts.")
    seconds: list[float] = Field(description="Of undisturbed frames: since measuring began.")
    decode: list[float] = Field(description="Of undisturbed frames.")
    frame: list[float] = Field(description="Of undisturbed frames: from decoded to parts.")
    people: list[int] = Field(description="In undisturbed frames: most keypoints of any one joint.")
    yardstick: list[float] = Field(
        default=[], description="Of a fixed piece of work after each undisturbed frame of a long run."
    )
    stages: dict[str, list[float]] = Field(description="Of the frames whose stages were recorded.")
    memory: MemorySamples

    @model_validator(mode="after")
    def _is_consistent(self) -> "Raw":
        memory = self.memory
        for lists in (
            (self.seconds, self.decode, self.frame, self.people, self.yardstick or self.people),
            (memory.seconds, memory.resident_mb, memory.device_mb),
            self.stages.values(),
        ):
            if len({len(one) for one in lists}) > 1:
                raise ValueError("lists of one kind of frame differ in length")
        return self


class Report(Strict):
    """A benchmark. Latencies are in milliseconds, memory is in MB of 10^6 bytes."""

    model_config = ConfigDict(title="STM-skeletons benchmark report")

    format: Literal[1] = 1
    environment: Environment
    after: State = Field(description="The machine when the measuring had ended.")
    run: Run
    start: Start
    fps: float = Field(description="Undisturbed frames a second of their own end-to-end time, one stream.")
    end_to_end: Summary = Field(description="Decoding and what follows, of undisturbed frames.")
    frame: Summary = Field(description="From decoded to parts, of undisturbed frames.")
    decode: Summary = Field(description="Of undisturbed frames.")
    stages: dict[str, Summary] = Field(description="Of other frames, recorded stage by stage; see 'notes'.")
    people: list[PeopleBin]
    streams: list[Streams]
    groups: list[Group] = Field(description="Where several streams were asked for: the same many cameras in a group.")
    memory: Memory
    soak: Soak | None = Field(description="Of runs with --minutes, or with enough frames.")
    accuracy: list[F1] = Field(description="Empty where it was not measured.")
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
            f"{file} is no report of a benchmark, or of another version ({what_is_wrong(error)}); measure again"
        ) from error
