"""The service: connects cameras, model, rules, outputs and page, and runs until it is stopped."""

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
"""Interval in seconds between checks of the service's condition."""
_FINISH = 1.7
"""Seconds for finishing all files when the service is stopped."""
_FINISH_AT_THE_END = 10.0
"""The same if the service ends by itself, so that nothing is lost."""
_TAKE_OVER = 5.0
"""Seconds for the detector to release a camera."""


@runtime_checkable
class ClipNamer(Protocol):
    """The output that writes a video of each event."""

    def name_for(self, event: Event) -> str: ...


class Service:
    """The service for one configuration file."""

    def __init__(self, path: Path) -> None:
        """Reads and checks the configuration; raises the errors of ``load_config`` and ``check``."""
        self._path = path
        self._config = load_config(path)
        self._bundle = check(self._config)
        self._log = Log()
        self.board = Board()
        self._wakeup = threading.Condition()
        self._manager = ServiceManager()
        self._stuck: list[StuckTest] = []
        """One for each detector."""
        self._channels: tuple[Channel, ...] = ()
        self._hanging: list[CameraFeed] = []
        """Feeds of removed cameras whose decoders did not end in time."""
        self._logged_states: dict[str, str] = {}
        """Last logged state of each camera."""
        self._detector: Detectors | None = None
        self._hub: Hub | None = None
        self._web: WebServer | None = None
        self._mqtt: MqttPublisher | None = None
        self.left_behind = False
        """Whether threads that hang in a decoder or device could not be ended."""

    def run(self, seconds: float | None = None) -> None:
        """Run until SIGTERM, Ctrl-C, the end of all files, or for ``seconds``. SIGHUP reloads the configuration.

        Raises:
            ServiceError: the page's address is in use, or the detector ended.
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
                        raise ServiceError(
                            f"the detector stopped: {_describe_error(detector.error)}"
                        ) from detector.error
                    if self._web is not None and self._web.has_ended:
                        raise ServiceError("the web server stopped; see the previous log line")
                    if signals.reload:
                        signals.reload = False
                        self._reload(detector)
                    self._check_condition(detector)
                    if self._channels and all(each.feed.ended and not each.feed.waiting for each in self._channels):
                        finish = _FINISH_AT_THE_END
                        break
                    time.sleep(_TICK)
            finally:
                self._stop(finish)

    def _start(self, signals: "_Signals") -> Detectors | None:
        """Start everything, the page first; None if asked to stop meanwhile."""
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
            self._bundle, config.model, config.park_after, self.board, self._wakeup, self._log, len(config.cameras)
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
        self._log(f"live page: {self._web.address}")

    def _channel(self, camera: CameraConfig) -> Channel:
        """Create a camera's channel without starting its feed. Raises SinkError."""
        from runtime.service.rules import Rules

        stats = self.board.renew(camera.name)
        rules = Rules(camera, self._bundle.info.skeleton)
        stats.outputs = self._outputs(camera)
        feed = CameraFeed(camera, stats, self._wakeup, lambda line: self._log(f"{camera.name}: {line}"))
        clips = next((each for each in stats.outputs if isinstance(each, ClipNamer)), None)
        return Channel(camera, feed, stats, rules, stats.outputs, None if clips is None else clips.name_for)

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

    def _check_condition(self, detector: Detectors) -> None:
        """Check the service's condition and report it."""
        pairs = zip(self._stuck, detector.each, strict=True)
        stuck = [test.update(each.finished, each.has_work) for test, each in pairs]  # every test must be updated
        self.board.stuck = any(stuck)
        if self.board.stuck:
            self._log(f"stuck: no frame finished for {self._config.watchdog:g} s")
        else:
            self._manager.alive()
        live = 0
        for channel in self._channels:
            name, (state, why) = channel.config.name, channel.stats.state()
            live += state == "live"
            if state != self._logged_states.get(name, "starting"):
                self._log(f"{name}: {state}" + (f": {why}" if why else ""))
            if state != self._logged_states.get(name) and self._mqtt is not None and channel.config.mqtt:
                self._mqtt.publish_state(name, state)
            self._logged_states[name] = state
        self._manager.status(f"{live} of {len(self._channels)} cameras live" + (", stuck" * self.board.stuck))
        self._log.tidy()

    def _reload(self, detector: Detectors) -> None:
        """Reload the configuration; unchanged cameras continue undisturbed."""
        self._manager.reloading()
        try:
            config = load_config(self._path)
            check(config)
        except StmError as error:
            self._log(f"{error}; keeping the previous configuration")
            self._manager.ready()
            return
        if fixed := [part for part in ("model", "web", "mqtt") if getattr(config, part) != getattr(self._config, part)]:
            self._log(f"restart the service to apply changes of {' and '.join(fixed)}; camera changes apply now")
        kept = {each.config.name: each for each in self._channels if each.config in config.cameras}
        self._remove([each for each in self._channels if each.config.name not in kept], list(kept.values()), detector)
        new: list[Channel] = []
        for camera in config.cameras:
            if camera.name not in kept:
                new += self._add(camera)
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
        self._logged_states = {name: state for name, state in self._logged_states.items() if name in kept}
        self._log(f"reloaded {self._path}: {len(kept)} cameras unchanged, {len(new)} new or changed")
        self._manager.ready()

    def _remove(self, gone: list[Channel], kept: list[Channel], detector: Detectors) -> None:
        """Stop these cameras and finish their files."""
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

    def _add(self, camera: CameraConfig) -> list[Channel]:
        """Create a camera added by a reload; none if its outputs cannot be opened, which log and page report."""
        try:
            return [self._channel(camera)]
        except StmError as error:
            self._log(f"{camera.name}: {error}; the camera stays stopped")
            self.board.renew(camera.name).set_state("stopped", str(error))
            return []

    def _stop(self, within: float) -> None:
        """Stop and finish everything in ``within`` seconds."""
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
    """Finish the files of all these cameras in parallel, by this time."""

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


def _describe_error(error: BaseException) -> str:
    """Describe an unexpected error on one line, with its position."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    at = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {one_line(error)}{at}"


class _Signals:
    """Received signals as plain flags that are polled, because a signal handler must not take locks."""

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
