"""The service's configuration: a TOML file, checked completely before anything starts."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from runtime.session_group import MOST_CAMERAS
from stm_skeletons.errors import ConfigError, one_line
from stm_skeletons.files import read_text
from stm_skeletons.strict import Exact, validation_message

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_LONGEST = 1 << 18
"""Largest size of a configuration in bytes."""
_DEEP = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){64}""")
"""A key with this many parts. Python's parser needs memory quadratic in their number: 200 kB of them exhaust it."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Share of the image's width or height, from the left or top edge: independent of the camera's resolution."""
Point = tuple[Share, Share]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]
Name = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,30}\.?|[0-9A-Fa-f:]{2,39}(%[A-Za-z0-9_-]{1,16})?")


def _as_host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError("not a host name or address")
    return text


Host = Annotated[str, AfterValidator(_as_host)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class ModelConfig(Exact):
    """The bundle, loaded once for all cameras, and its backend; same options as ``run``."""

    bundle: str = "edge"
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    engines: str | None = None
    cuda_graphs: bool = True
    wait: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.02
    """Longest time in seconds that a camera's frame waits for other cameras of its batch."""


class WebConfig(Exact):
    """The live page, its API, metrics and health."""

    host: Host = "127.0.0.1"
    """An address reachable from other machines requires ``token_file``."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """0 chooses a free port."""
    token_file: str | None = None
    """File with the token that every request must carry; read at start, at least 16 characters."""
    certificate: str | None = None
    """PEM files for TLS; give both or none."""
    key: str | None = None
    images: bool = False
    """Whether pages receive images; without them they show skeletons only."""
    blur_heads: bool = True
    """Whether heads are blurred in these images."""
    clients: Annotated[int, Field(ge=1, le=1000)] = 20
    """Most pages that watch at once."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 600
    """Limit per client address."""


class MqttConfig(Exact):
    """An MQTT broker for people and events."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65_535)] = 1883
    topic: Annotated[str, Field(pattern=r"^[^+#\x00/][^+#\x00]{0,199}$")] = "stm-skeletons"
    """Topics are TOPIC/CAMERA/people, TOPIC/CAMERA/events and TOPIC/CAMERA/state."""
    username: str | None = None
    password_file: str | None = None
    certificate_authority: str | None = None
    """PEM file; enables TLS."""
    qos: Literal[0, 1] = 0
    """QoS of events. People are published with QoS 0, because the next ones follow soon."""

    @model_validator(mode="after")
    def _whose_password(self) -> "MqttConfig":
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        return self


class LinesConfig(Exact):
    """JSON lines, as ``run --parts`` writes them, in files rotated by size and age."""

    folder: str
    megabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 100.0
    """Size at which the next file starts."""
    hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 24.0
    """Age at which the next file starts."""
    keep: Annotated[int, Field(ge=1, le=100_000)] = 14
    """Files kept per camera; the oldest are deleted."""


class RecordingConfig(Exact):
    """Recording of the overlay as video segments."""

    folder: str
    minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)] = 10.0
    """Length of a segment."""
    gigabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 10.0
    """Disk space for all segments of this camera; the oldest are deleted."""
    draw: Literal["people", "parts"] = "people"
    blur_heads: bool = False


class ClipsConfig(Exact):
    """A video of each event, from just before to just after it."""

    folder: str
    before: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 3.0
    after: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 3.0
    gigabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 1.0
    blur_heads: bool = False


class LineRule(Exact):
    """Counts people who cross a line, by their feet (hips if no foot is found).

    "in" is from the left to the right side of the direction from start to end, as seen in the image: downwards for a
    line drawn from left to right.
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
    """Counts people in a region; an event whenever the count changes."""

    kind: Literal["region"]
    name: Name
    region: Polygon


class DwellRule(Exact):
    """Detects a person who stays in a region for longer than ``seconds``; one event per stay."""

    kind: Literal["dwell"]
    name: Name
    region: Polygon
    seconds: Seconds


class FallRule(Exact):
    """Detects a person whose hips stay below a line for ``seconds``. The line extends beyond its ends."""

    kind: Literal["fall"]
    name: Name
    start: Point
    end: Point
    seconds: Seconds = 3.0

    @model_validator(mode="after")
    def _is_not_upright(self) -> "FallRule":
        if abs(self.start[0] - self.end[0]) < 0.01:
            raise ValueError("start and end are on a vertical line, which has no side below it")
        return self


Rule = Annotated[LineRule | RegionRule | DwellRule | FallRule, Field(discriminator="kind")]


class CameraConfig(Exact):
    """A camera and its outputs."""

    name: Name
    source: Annotated[str, Field(min_length=1, max_length=4096)]
    """As for ``run``: a video file, a device, an RTSP address, or a GStreamer pipeline."""
    pace: Literal["real", "all"] = "real"
    """For files. "real": play at the file's rate and skip frames like a camera; "all": process every frame."""
    loop: bool = False
    """For files: restart at the end."""
    rotate: Literal[0, 90, 180, 270] = 0
    rate: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """Most frames per second to process."""
    ignore: tuple[Polygon, ...] = ()
    """Regions in which people (by the centre of their box) and keypoints are ignored."""
    memory: bool = True
    """Whether to use the memory of earlier frames."""
    stall: Seconds = 5.0
    """Seconds without a frame after which the camera is "away", is reconnected, and its memory is reset."""
    min_score: Share | None = None
    """Lowest score of a reported person; the bundle's threshold by default."""
    min_joints: Annotated[int, Field(ge=0, le=17)] = 0
    mqtt: bool = True
    """Whether to publish if there is a broker."""
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
    """The complete configuration."""

    model: ModelConfig = ModelConfig()
    web: WebConfig | None = WebConfig()
    mqtt: MqttConfig | None = None
    watchdog: Seconds = 30.0
    """Seconds without a finished frame of any camera, while frames arrive, after which the service counts as stuck."""
    park_after: Annotated[int, Field(ge=1, le=100)] = 3
    """Backend errors of a camera within a minute after which it is parked."""
    cameras: Annotated[tuple[CameraConfig, ...], Field(min_length=1, max_length=MOST_CAMERAS)]

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names = [camera.name.lower() for camera in cameras]
        if len(set(names)) < len(names):
            raise ValueError("two cameras have the same name")
        return cameras


def load_config(path: Path) -> ServiceConfig:
    """Read and check a configuration. Raises ConfigError with the first error and the number of others."""
    try:
        if path.stat().st_size > _LONGEST:
            raise ConfigError(f"{path} is larger than {_LONGEST} bytes, too large for a service configuration")
        text = read_text(path)
        if _DEEP.search(text):
            raise RecursionError
        return ServiceConfig.model_validate(_as_exact(tomllib.loads(text)))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {validation_message(error)}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError(f"{path} is not TOML: {one_line(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply for a service configuration") from error


def _as_exact(value: Any) -> Any:
    """Convert lists to tuples: TOML has only lists, and strict models want tuples."""
    if isinstance(value, dict):
        return {key: _as_exact(each) for key, each in value.items()}
    return tuple(_as_exact(each) for each in value) if isinstance(value, list) else value
