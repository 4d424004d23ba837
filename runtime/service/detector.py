"""The thread that owns the model: takes frames of all cameras, gives results to rules and outputs."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.backends import BackendOptions, choose_backend
from runtime.frames import Frame
from runtime.service.camera_feed import CameraFeed
from runtime.service.config import CameraConfig, ModelConfig
from runtime.service.faults import Faults
from runtime.service.ignore import reported
from runtime.service.results import Event, Output, Result
from runtime.service.status import Board, CameraStats
from runtime.session_group import MOST_CAMERAS, SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import StmError, one_line
from stm_skeletons.parts import Parts

_RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to reload the model; the last value repeats."""
_ALL_PARKED = 60.0
"""Seconds after which all cameras are retried if every one is parked: then the device is at fault, not a camera."""
_ROOM = 4
"""The group's size is a multiple of this, so that a camera can be added without reloading the model."""
_POLL_SECONDS = 0.25
"""Interval in seconds at which a wait for frames checks for other work."""


class EventDetector(Protocol):
    """Detects events, see ``runtime.service.rules.Rules``."""

    def evaluate(self, result: Result) -> tuple[Event, ...]: ...


@dataclass(frozen=True, eq=False)
class Channel:
    """A camera with its feed, rules and outputs."""

    config: CameraConfig
    feed: CameraFeed
    stats: CameraStats
    rules: EventDetector
    outputs: tuple[Output, ...]
    clip_name: Callable[[Event], str] | None = None
    """Returns the clip that will show an event; call it before the event is offered to any output."""


@dataclass
class _Ids:
    """Offset that lets a camera's ids continue after the model is reloaded."""

    before: int = 0
    """Added to the group's ids."""
    highest: int = 0
    """Highest id given so far."""


class Detector:
    """Steps the newest frames of all cameras together until it is stopped."""

    def __init__(
        self,
        bundle: Bundle,
        model: ModelConfig,
        park_after: int,
        board: Board,
        wakeup: threading.Condition,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            bundle: the model.
            model: backend, and how long frames wait for each other.
            park_after: backend errors of a camera within a minute after which it is parked.
            board: receives the detector's condition.
            wakeup: notified by feeds.
            say: called with a line for each error.
        """
        self._bundle, self._model, self._board, self._wakeup, self._say = bundle, model, board, wakeup, say
        self.faults = Faults(park_after)
        self.finished = 0
        """Frames finished since the start."""
        self.error: BaseException | None = None
        """Why the thread ended, unless it was asked to stop."""
        self._opened = threading.Event()
        self._asked = threading.Event()
        self._wanted: tuple[Channel, ...] | None = None
        self._applied = threading.Event()
        self._channels: tuple[Channel, ...] = ()
        self._group: SessionGroup | None = None
        self._slots: dict[Channel, int] = {}
        """Each camera's number in the group."""
        self._ids: dict[str, _Ids] = {}
        self._parked: dict[Channel, str] = {}
        self._options = backend_options(model, bundle)
        self._together = steps_together(bundle, self._options)
        self._turn = 0
        """Position of the camera whose turn it is, if cameras are stepped one by one."""
        self._all_parked_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)

    def start(self, channels: tuple[Channel, ...]) -> None:
        """Start loading the model for these cameras; then their frames are processed."""
        self._wanted = channels
        self._thread.start()

    def is_open(self, within: float) -> bool:
        """Wait for the model. Raises its BackendError, BundleError or EngineError."""
        self._opened.wait(within)
        if self.error is not None:
            raise self.error
        return self._opened.is_set()

    def serve(self, channels: tuple[Channel, ...], within: float) -> bool:
        """Serve these cameras from now on, and retry parked ones. Cameras that stay keep their memory if the group has
        room for the others. Returns whether this was done in ``within`` seconds; otherwise it is done later.
        """
        with self._wakeup:
            self._wanted = channels
            self._applied.clear()
            self._wakeup.notify_all()
        return self._applied.wait(within)

    @property
    def has_work(self) -> bool:
        """Whether a camera that is not parked has a frame."""
        return any(channel.feed.waiting and channel not in self._parked for channel in self._channels)

    def stop(self, within: float) -> bool:
        """Finish the current step and stop. Returns whether the thread ended in ``within`` seconds."""
        self._asked.set()
        with self._wakeup:
            self._wakeup.notify_all()
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            assert self._wanted is not None
            self._group = self._open(len(self._wanted))
            self._opened.set()
            while not self._asked.is_set():
                self._apply_channels()
                self._try_all_again()
                if taken := self._gather():
                    self._step(taken)
        except BaseException as error:  # reported in the main thread
            self.error = error
        finally:
            self._opened.set()
            self._close()

    def _open(self, cameras: int) -> SessionGroup:
        """Open a group with room for ``cameras``. Reports all people, because cameras have their own thresholds."""
        room = min(-(-cameras // _ROOM) * _ROOM, MOST_CAMERAS)
        return SessionGroup.open(self._bundle, room, self._options, min_score=0.0)

    def _close(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            with suppress(Exception):  # a failed device may fail again
                group.close()

    def _apply_channels(self) -> None:
        """Apply the cameras given to ``serve``."""
        with self._wakeup:
            wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        for channel in self._parked:
            self.faults.forgive(channel.config.name)
            channel.stats.park(None)
        self._parked.clear()
        self._all_parked_since = None
        self._channels = wanted
        self._slots = {channel: slot for channel, slot in self._slots.items() if channel in wanted}
        if len(wanted) > len(self._opened_group()):
            self._rebuild(None)
        for channel in wanted:
            self._ids.setdefault(channel.config.name, _Ids())
        free = sorted(set(range(len(self._opened_group()))) - set(self._slots.values()))
        without = [channel for channel in wanted if channel not in self._slots]
        self._slots |= dict(zip(without, free, strict=False))
        with self._wakeup:
            if self._wanted is None:  # otherwise there was no room for all, and others are wanted by now
                self._applied.set()

    def _opened_group(self) -> SessionGroup:
        if self._group is None:  # asked to stop before it could be opened
            raise SystemExit
        return self._group

    def _gather(self) -> dict[Channel, Frame]:
        """Take the newest frame of every camera that has one, on a CPU of the next camera only; empty if there is other
        work."""
        with self._wakeup:
            if (
                not self._wakeup.wait_for(self._is_due, _POLL_SECONDS)
                or self._asked.is_set()
                or self._wanted is not None
            ):
                return {}
            if self._bundle.info.batch > 1:
                self._wakeup.wait_for(self._is_complete, self._model.wait)
            chosen = [each for each in self._in_turn() if each.feed.waiting and each not in self._parked]
            chosen = chosen if self._together else chosen[:1]
            self._turn = self._channels.index(chosen[-1]) + 1 if chosen else 0
            taken = {channel: channel.feed.take() for channel in chosen}
        return {channel: frame for channel, frame in taken.items() if frame is not None}

    def _in_turn(self) -> tuple[Channel, ...]:
        return self._channels[self._turn :] + self._channels[: self._turn]

    def _is_due(self) -> bool:
        return self._asked.is_set() or self._wanted is not None or self.has_work

    def _is_complete(self) -> bool:
        """Whether no other camera is worth waiting for."""
        now = time.monotonic()
        return self._asked.is_set() or all(
            channel.feed.waiting or not channel.stats.gives_frames(now)
            for channel in self._channels
            if channel not in self._parked
        )

    def _step(self, taken: dict[Channel, Frame]) -> None:
        if not self.faults.one_by_one(time.monotonic()):
            self._step_together(taken)
            return
        for channel, frame in taken.items():
            if channel in self._slots and channel not in self._parked:  # may have changed meanwhile
                self._step_together({channel: frame})

    def _step_together(self, taken: dict[Channel, Frame]) -> None:
        group = self._opened_group()
        try:
            for channel, frame in taken.items():
                if frame.resets_memory or not channel.config.memory:
                    group.reset(self._slots[channel])
            found = group.step({self._slots[channel]: frame.image for channel, frame in taken.items()})
        except Exception as error:  # whatever a device or its library raises: only these frames are lost
            self._failed(list(taken), error)
            return
        for channel, frame in taken.items():
            self._publish(channel, frame, found[self._slots[channel]])

    def _publish(self, channel: Channel, frame: Frame, parts: Parts) -> None:
        """Apply the rules to the results, and offer them to the outputs."""
        assert frame.arrived is not None
        own = channel.config.min_score
        everybody = self._with_continuing_ids(channel.config.name, parts)
        parts = reported(everybody, channel.config, self._bundle.info.person_threshold if own is None else own)
        arrived = time.time() - (time.monotonic() - frame.arrived)
        result = Result(channel.config.name, frame, parts, arrived, everybody)
        events = channel.rules.evaluate(result)
        if channel.clip_name is not None:
            events = tuple(replace(event, clip=channel.clip_name(event)) for event in events)
        result = replace(result, events=events)
        for output in channel.outputs:
            output.offer(result)
        now = time.monotonic()
        channel.stats.answered(now, now - frame.arrived, len(parts.people))
        self.finished += 1

    def _with_continuing_ids(self, camera: str, parts: Parts) -> Parts:
        """Shift ids so that they differ from those before the model was reloaded."""
        ids, people = self._ids[camera], parts.people
        if ids.before:
            people = replace(people, ids=np.where(people.ids > 0, people.ids + ids.before, 0))
        ids.highest = max(ids.highest, int(people.ids.max(initial=0)))
        return replace(parts, people=people)

    def _failed(self, channels: list[Channel], error: Exception) -> None:
        """Handle a backend error on these cameras' frames."""
        names = [channel.config.name for channel in channels]
        what = _describe_error(error)
        for channel in channels:
            channel.stats.failed()
        self._say(f"{', '.join(names)}: backend error: {what}; reloading the model")
        if self.faults.add(names, time.monotonic()):
            self._park(channels[0], f"{self.faults.park_after} backend errors in a minute, the last: {what}")
        self._rebuild(error)

    def _park(self, channel: Channel, why: str) -> None:
        self._parked[channel] = why
        channel.stats.park(why)
        if all(each in self._parked or each.feed.ended for each in self._channels):
            self._all_parked_since = time.monotonic()

    def _try_all_again(self) -> None:
        """Retry all cameras if every one is parked: the device was at fault and may have recovered."""
        if self._all_parked_since is None or time.monotonic() - self._all_parked_since < _ALL_PARKED:
            return
        self._say("all cameras are parked, retrying them")
        self._all_parked_since = None
        for channel in self._parked:
            self.faults.forgive(channel.config.name)
            channel.stats.park(None)
        self._parked.clear()

    def _rebuild(self, error: Exception | None) -> None:
        """Reload the model, retrying until it succeeds. All memories are lost; ids continue."""
        self._close()
        attempt = 0
        while not self._asked.is_set():
            try:
                self._group = group = self._open(max(len(self._wanted or self._channels), 1))
                # All cameras start over. Fewer may be wanted by now; those without a slot are about to go.
                self._slots = dict(zip(self._channels, range(len(group)), strict=False))
                break
            except Exception as problem:
                why = f"cannot load the model: {_describe_error(problem)}"
                self._say(f"{why}; retrying")
                for channel in self._channels:
                    channel.stats.park(why)
            self._asked.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1
        for channel in self._channels:
            channel.stats.park(self._parked.get(channel))
        for ids in self._ids.values():
            ids.before = ids.highest
        if error is not None:
            self._board.rebuilt()


def steps_together(bundle: Bundle, options: BackendOptions) -> bool:
    """Whether frames of several cameras are processed together, on a device or in one batch. A CPU processes them one
    after the other, and taking each frame last keeps it newer."""
    return bundle.info.batch > 1 or options.backend == "tensorrt" or options.provider != "cpu"


def backend_options(model: ModelConfig, bundle: Bundle) -> BackendOptions:
    """Return the configured backend options, with "auto" resolved."""
    engines = None if model.engines is None else Path(model.engines)
    options = BackendOptions(model.backend, model.provider, model.threads, engines, model.cuda_graphs)
    return choose_backend(options, bundle)


def _describe_error(error: Exception) -> str:
    return one_line(error if isinstance(error, StmError) else f"{type(error).__name__}: {error}")
