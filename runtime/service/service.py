"""The service: wires cameras, model, rules, outputs and page, and runs until it is told to stop."""

import signal
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import cv2

from runtime.service.camera_feed import CameraFeed
from runtime.service.check import check
from runtime.service.config import CameraConfig, ServiceConfig, load_config
from runtime.service.detector import Channel
from runtime.service.detectors import Detectors
from runtime.service.log import Log, logging_to
from runtime.service.results import Event, Output
from runtime.service.status import Board, ModelStatus
from runtime.service.watchdog import ServiceManager, StuckTest
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import ServiceError, StmError, one_line

if TYPE_CHECKING:
    from runtime.service.outputs.mqtt import MqttPublisher
    from runtime.service.web.hub import Hub
    from runtime.service.web.server import WebServer

_TICK = 0.1
"""Seconds between looks at how everything is."""
_FINISH = 1.7
"""Seconds in which all files are finished when the service is told to stop."""
_FINISH_AT_THE_END = 10.0
"""The same where it ends by itself, so that nothing is lost."""
_TAKE_OVER = 5.0
"""Seconds in which the detector should have let go of a camera."""


@runtime_checkable
class NamesClips(Protocol):
    """The output that makes a video of each event."""

    def name_for(self, event: Event) -> str: ...


class Service:
    """All of it, for one configuration file."""

    def __init__(self, path: Path) -> None:
        """Reads and checks the configuration; see ``load_config`` and ``check`` for what is raised."""
        self._path = path
        self._config = load_config(path)
        self._bundle = check(self._config)
        self._log = Log()
        self.board = Board()
        self._news = threading.Condition()
        self._manager = ServiceManager()
        self._stuck: list[StuckTest] = []
        """Of each detector."""
        self._channels: tuple[Channel, ...] = ()
        self._hanging: list[CameraFeed] = []
        """Of cameras that are gone; their decoders did not end in time."""
        self._told: dict[str, str] = {}
        """States of cameras that were told."""
        self._detector: Detectors | None = None
        self._hub: Hub | None = None
        self._web: WebServer | None = None
        self._mqtt: MqttPublisher | None = None
        self.left_behind = False
        """Whether threads hang in a decoder or device and could not be ended."""

    def run(self, seconds: float | None = None) -> None:
        """Run until SIGTERM or Ctrl-C, until all files are over, or for so long. SIGHUP reads the configuration again.

        Raises:
            ServiceError: the page's address is taken, or the detector ended.
            BackendError, EngineError: the model cannot run here.
            SinkError: an output cannot be opened.
        """
        until = float("inf") if seconds is None else time.monotonic() + seconds
        finish = _FINISH
        with _Signals() as signals, logging_to(self._log):
            try:
                detector = self._start(signals)
                while detector is not None and not signals.stop and time.monotonic() < until:
                    if detector.error is not None:
                        raise ServiceError(f"the detector has ended: {_where(detector.error)}") from detector.error
                    if self._web is not None and self._web.has_ended:
                        raise ServiceError("the web server has ended; the line before says why")
                    if signals.reload:
                        signals.reload = False
                        self._reload(detector)
                    self._look(detector)
                    if self._channels and all(each.feed.ended and not each.feed.waiting for each in self._channels):
                        finish = _FINISH_AT_THE_END
                        break
                    time.sleep(_TICK)
            finally:
                self._stop(finish)

    def _start(self, signals: "_Signals") -> Detectors | None:
        """Everything, the page first; None where it was told to stop meanwhile."""
        config = self._config
        if config.model.threads is not None:
            cv2.setNumThreads(config.model.threads)
        for camera in config.cameras:
            self.board.camera(camera.name)
        self._open_page(config)
        if config.mqtt is not None:
            from runtime.service.outputs.mqtt import MqttPublisher

            self._mqtt = MqttPublisher(config.mqtt)
        for camera in config.cameras:
            self._channels += (self._channel(camera),)
        detector = Detectors(
            self._bundle, config.model, config.park_after, self.board, self._news, self._log, len(config.cameras)
        )
        self._stuck = [StuckTest(config.watchdog) for _ in detector.each]
        self._detector = detector
        detector.start(self._channels)
        while not detector.is_open(_TICK):
            if signals.stop:
                return None
        self.board.model = _about(self._bundle, config)
        for channel in self._channels:
            channel.feed.start()
        self._manager.ready()
        return detector

    def _open_page(self, config: ServiceConfig) -> None:
        if config.web is None:
            return
        from runtime.service.web.app import make_app
        from runtime.service.web.hub import Hub
        from runtime.service.web.server import WebServer

        self._hub = Hub(config.web)
        self._web = WebServer(make_app(self.board, self._hub, config), config.web)
        self._web.start()
        self._log(f"the page is at {self._web.address}")

    def _channel(self, camera: CameraConfig) -> Channel:
        """A camera with its rules and outputs; its feed is not started yet. Raises SinkError."""
        from runtime.service.rules import Rules

        marks = self.board.renew(camera.name)
        rules = Rules(camera, self._bundle.info.skeleton)
        marks.outputs = self._outputs(camera)
        feed = CameraFeed(camera, marks, self._news, lambda line: self._log(f"{camera.name}: {line}"))
        clips = next((each for each in marks.outputs if isinstance(each, NamesClips)), None)
        return Channel(camera, feed, marks, rules, marks.outputs, None if clips is None else clips.name_for)

    def _outputs(self, camera: CameraConfig) -> tuple[Output, ...]:
        outputs: list[Output] = []
        with ExitStack() as undo:
            undo.callback(lambda: [each.close(1.0) for each in outputs])
            if camera.lines is not None:
                from runtime.service.outputs.lines import LinesOutput

                outputs.append(LinesOutput(camera))
            if camera.recording is not None:
                from runtime.service.outputs.recording import RecordingOutput

                outputs.append(RecordingOutput(camera))
            if camera.clips is not None:
                from runtime.service.outputs.clips import ClipsOutput

                outputs.append(ClipsOutput(camera))
            if self._mqtt is not None and camera.mqtt:
                outputs.append(self._mqtt.output(camera.name))
            if self._hub is not None:
                outputs.append(self._hub.output(camera.name))
            undo.pop_all()
        return tuple(outputs)

    def _look(self, detector: Detectors) -> None:
        """How is everything? Tell whoever wants to know."""
        pairs = zip(self._stuck, detector.each, strict=True)
        stuck = [test.look(each.finished, each.has_work) for test, each in pairs]  # all look, each time
        self.board.stuck = any(stuck)
        if self.board.stuck:
            self._log(f"stuck: no frame was finished for {self._config.watchdog:g} s")
        else:
            self._manager.alive()
        live = 0
        for channel in self._channels:
            name, (state, why) = channel.config.name, channel.marks.state()
            live += state == "live"
            if state != self._told.get(name, "starting"):
                self._log(f"{name}: {state}" + (f": {why}" if why else ""))
            if state != self._told.get(name) and self._mqtt is not None and channel.config.mqtt:
                self._mqtt.publish_state(name, state)
            self._told[name] = state
        self._manager.status(f"{live} of {len(self._channels)} cameras live" + (", stuck" * self.board.stuck))
        self._log.tidy()

    def _reload(self, detector: Detectors) -> None:
        """Read the configuration again; cameras that stay as they are go on as they are."""
        self._manager.reloading()
        try:
            config = load_config(self._path)
            check(config)
        except StmError as error:
            self._log(f"{error}; the configuration of before stays")
            self._manager.ready()
            return
        if fixed := [part for part in ("model", "web", "mqtt") if getattr(config, part) != getattr(self._config, part)]:
            self._log(f"{' and '.join(fixed)} changed: that takes a restart; the cameras are taken over now")
        kept = {each.config.name: each for each in self._channels if each.config in config.cameras}
        self._let_go([each for each in self._channels if each.config.name not in kept], list(kept.values()), detector)
        new: list[Channel] = []
        for camera in config.cameras:
            if camera.name not in kept:
                new += self._added(camera)
        channels = {each.config.name: each for each in (*kept.values(), *new)}
        self._channels = tuple(channels[camera.name] for camera in config.cameras if camera.name in channels)
        self.board.keep([camera.name for camera in config.cameras])
        detector.park_after(config.park_after)
        for test in self._stuck:
            test.patience = config.watchdog
        detector.serve(self._channels, _TAKE_OVER)
        for channel in new:
            channel.feed.start()
        self._config = config
        self._told = {name: state for name, state in self._told.items() if name in kept}
        self._log(f"{self._path} is taken over: {len(kept)} cameras go on, {len(new)} are new or changed")
        self._manager.ready()

    def _let_go(self, gone: list[Channel], kept: list[Channel], detector: Detectors) -> None:
        """Read these cameras no longer, and finish their files."""
        if not gone:
            return
        for channel in gone:
            channel.feed.ask_to_stop()
        detector.serve(tuple(kept), _TAKE_OVER)
        self._hanging = [feed for feed in self._hanging if not feed.close(0.0)]
        until = time.monotonic() + _FINISH
        _close_all(gone, until)
        for channel in gone:
            if not channel.feed.close(max(0.05, until - time.monotonic())):
                self._hanging.append(channel.feed)
            if self._mqtt is not None and channel.config.mqtt:
                self._mqtt.publish_state(channel.config.name, "stopped")

    def _added(self, camera: CameraConfig) -> list[Channel]:
        """A camera that a new configuration brings; none where its outputs cannot be opened, which the page says."""
        try:
            return [self._channel(camera)]
        except StmError as error:
            self._log(f"{camera.name}: {error}; it stays stopped")
            self.board.renew(camera.name).is_now("stopped", str(error))
            return []

    def _stop(self, within: float) -> None:
        """Finish everything within so many seconds."""
        until = time.monotonic() + within
        self._manager.stopping()
        for channel in self._channels:
            channel.feed.ask_to_stop()
        ended = self._detector is None or self._detector.stop(max(0.1, within - 0.7))
        _close_all(self._channels, until)
        if self._mqtt is not None:
            self._mqtt.close(max(0.1, until - time.monotonic()))
        if self._web is not None:
            self._web.stop(max(0.3, until - time.monotonic()))
        feeds = [*self._hanging, *(channel.feed for channel in self._channels)]
        closed = [feed.close(max(0.0, until - time.monotonic())) for feed in feeds]
        self.left_behind = not (ended and all(closed))
        self._log.tidy(everything=True)


def _close_all(channels: "list[Channel] | tuple[Channel, ...]", until: float) -> None:
    """Finish the files of all these cameras at once, by that time."""

    def close(outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            output.close(max(0.1, until - time.monotonic()))

    threads = [threading.Thread(target=close, args=(each.outputs,), daemon=True) for each in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.1, until - time.monotonic()))


def _about(bundle: Bundle, config: ServiceConfig) -> ModelStatus:
    from runtime.service.detector import backend_options

    options = backend_options(config.model, bundle)
    provider = "gpu" if options.backend == "tensorrt" else options.provider
    return ModelStatus(
        bundle=bundle.folder.name, precision=bundle.info.precision, backend=options.backend, provider=provider
    )


def _where(error: BaseException) -> str:
    """An error that nobody foresaw, in a line, with the place."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    at = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {one_line(error)}{at}"


class _Signals:
    """What we were told by signals. Plain flags, which are looked at: a handler may not wait for locks."""

    def __init__(self) -> None:
        self.stop = self.reload = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True
