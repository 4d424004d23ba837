"""What a service is told: a TOML file, checked whole before anything starts."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from runtime.session_group import MOST_CAMERAS
from stm_skeletons.errors import ConfigError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.strict import Exact, what_is_wrong

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LONGEST = 1 << 18
"""Bytes of a configuration."""
_DEEP = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){64}""")
"""A key of so many parts. Python's parser takes memory by their square: 200 kB of them are more than a machine has."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Of the picture's width or height, from its left or top edge: it stays true when a camera changes its resolution."""
Point = tuple[Share, Share]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]
Name = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,30}\.?|[0-9A-Fa-f:]{2,39}(%[A-Za-z0-9_-]{1,16})?")


def _as_host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError("neither the name nor the address of a machine")
    return text


Host = Annotated[str, AfterValidator(_as_host)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class ModelConfig(Exact):
    """The bundle, loaded once for all cameras, and what runs it; as the options of ``run``."""

    bundle: str = "edge"
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    engines: str | None = None
    cuda_graphs: bool = True
    wait: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.02
    """Seconds: the longest that a camera's frame waits for frames of the others of its batch."""


class WebConfig(Exact):
    """The live page, its API, metrics and health."""

    host: Host = "127.0.0.1"
    """An address beyond this machine needs ``token_file``."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """0: any that is free."""
    token_file: str | None = None
    """A file with the token that every request must bear; read at start, at least 16 characters."""
    certificate: str | None = None
    """PEM files for TLS; both or none."""
    key: str | None = None
    images: bool = False
    """Whether pages see the picture. Without, they see skeletons only."""
    blur_heads: bool = True
    """In these pictures."""
    clients: Annotated[int, Field(ge=1, le=1000)] = 20
    """The most pages that watch at once."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 600
    """Of one address."""


class MqttConfig(Exact):
    """A broker that people and events are published to."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65_535)] = 1883
    topic: Annotated[str, Field(pattern=r"^[^+#\x00/][^+#\x00]{0,199}$")] = "stm-skeletons"
    """Topics are TOPIC/CAMERA/people, TOPIC/CAMERA/events and TOPIC/CAMERA/state."""
    username: str | None = None
    password_file: str | None = None
    certificate_authority: str | None = None
    """PEM file; the connection uses TLS then."""
    qos: Literal[0, 1] = 0
    """Of events. People are published with 0: the next ones come soon."""

    @model_validator(mode="after")
    def _whose_password(self) -> "MqttConfig":
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        return self


class LinesConfig(Exact):
    """JSON lines, as ``run --parts`` writes them, in files that are changed by size and age."""

    folder: str
    megabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 100.0
    """Of a file; the next one begins then."""
    hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 24.0
    """The same by age."""
    keep: Annotated[int, Field(ge=1, le=100_000)] = 14
    """Files of this camera; the oldest go first."""


class RecordingConfig(Exact):
    """The overlay as video, in segments."""

    folder: str
    minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)] = 10.0
    """Of a segment."""
    gigabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 10.0
    """Of all segments of this camera; the oldest go first."""
    draw: Literal["people", "parts"] = "people"
    blur_heads: bool = False


class ClipsConfig(Exact):
    """A video of each event: what was just before it and just after."""

    folder: str
    before: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 3.0
    after: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 3.0
    gigabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 1.0
    blur_heads: bool = False


class LineRule(Exact):
    """Counts people who cross a line, by where their feet are (the hips where no foot is found).

    "in" is from the left of the way from start to end to its right, as seen in the picture: downwards where it is drawn
    from left to right.
    """

    kind: Literal["line"]
    name: Name
    start: Point
    end: Point

    @model_validator(mode="after")
    def _has_a_length(self) -> "LineRule":
        if math.dist(self.start, self.end) < 0.01:
            raise ValueError("start and end are the same place")
        return self


class RegionRule(Exact):
    """How many people are in a region; an event whenever that changes."""

    kind: Literal["region"]
    name: Name
    region: Polygon


class DwellRule(Exact):
    """A person who stays in a region for longer than so many seconds; once for each stay."""

    kind: Literal["dwell"]
    name: Name
    region: Polygon
    seconds: Seconds


class FallRule(Exact):
    """A person whose hips are below a line for so many seconds: further down in the picture than the line is at that
    place. It goes on beyond its ends."""

    kind: Literal["fall"]
    name: Name
    start: Point
    end: Point
    seconds: Seconds = 3.0

    @model_validator(mode="after")
    def _is_not_upright(self) -> "FallRule":
        if abs(self.start[0] - self.end[0]) < 0.01:
            raise ValueError("start and end lie one above the other: nothing is below such a line")
        return self


Rule = Annotated[LineRule | RegionRule | DwellRule | FallRule, Field(discriminator="kind")]


class CameraConfig(Exact):
    """A camera and what becomes of its results."""

    name: Name
    source: Annotated[str, Field(min_length=1, max_length=4096)]
    """As for ``run``: a video file, a device, an RTSP address, a GStreamer pipeline."""
    pace: Literal["real", "all"] = "real"
    """Of a file: its own rate, skipping what comes too fast, as a camera would; or every frame, as fast as can be."""
    loop: bool = False
    """Of a file: begin again at its end."""
    rotate: Literal[0, 90, 180, 270] = 0
    rate: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """The most frames a second that are answered."""
    ignore: tuple[Polygon, ...] = ()
    """People whose box's middle lies in one of these are left out, and keypoints that lie there."""
    memory: bool = True
    """Whether earlier frames are remembered."""
    stall: Seconds = 5.0
    """Without a frame for so long it is called away, is connected anew, and its memory starts afresh."""
    min_score: Share | None = None
    """People from this score on; the bundle's own unless given."""
    min_joints: Annotated[int, Field(ge=0, le=17)] = 0
    mqtt: bool = True
    """Whether it is published where there is a broker."""
    lines: LinesConfig | None = None
    recording: RecordingConfig | None = None
    clips: ClipsConfig | None = None
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _rules_differ(self) -> "CameraConfig":
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        return self


class ServiceConfig(Exact):
    """A whole configuration."""

    model: ModelConfig = ModelConfig()
    web: WebConfig | None = WebConfig()
    mqtt: MqttConfig | None = None
    watchdog: Seconds = 30.0
    """Without a frame of any camera finished for so long, while one gives frames, the service counts as stuck."""
    park_after: Annotated[int, Field(ge=1, le=100)] = 3
    """Backend errors of a camera within a minute, after which it is parked."""
    cameras: Annotated[tuple[CameraConfig, ...], Field(min_length=1, max_length=MOST_CAMERAS)]

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names = [camera.name.lower() for camera in cameras]
        if len(set(names)) < len(names):
            raise ValueError("two cameras have the same name")
        return cameras


def load_config(path: Path) -> ServiceConfig:
    """Read and check a configuration. Raises ConfigError, one line for the first mistake and how many more."""
    try:
        if path.stat().st_size > _LONGEST:
            raise ConfigError(f"{path} is larger than {_LONGEST} bytes; it is no configuration of a service")
        text = read_text(path)
        if _DEEP.search(text):
            raise RecursionError
        return ServiceConfig.model_validate(_as_exact(tomllib.loads(text)))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {what_is_wrong(error)}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"{path} is not TOML: {one_line(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply; it is no configuration of a service") from error


def _as_exact(value: Any) -> Any:
    """TOML has lists only; a strict model wants tuples where its fields are tuples."""
    if isinstance(value, dict):
        return {key: _as_exact(each) for key, each in value.items()}
    return tuple(_as_exact(each) for each in value) if isinstance(value, list) else value
