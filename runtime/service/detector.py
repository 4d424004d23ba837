"""The one thread that owns the model: frames of all cameras in, results to rules and outputs out."""

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
from runtime.service.status import Board, CameraMarks
from runtime.session_group import MOST_CAMERAS, SessionGroup
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import StmError, one_line
from stm_skeletons.parts import Parts

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to load the model again; the last is kept to."""
_ALL_PARKED = 60.0
"""Seconds after which all are tried again, where every camera is parked: then it is no camera's fault."""
_ROOM = 4
"""The group has room for a multiple of so many cameras, so that one may come without loading the model again."""
_LOOK_UP = 0.25
"""Seconds after which who waits for frames looks what else there is to do."""


class Looks(Protocol):
    """Notices events; see ``runtime.service.rules.Rules``."""

    def look(self, result: Result) -> tuple[Event, ...]: ...


@dataclass(frozen=True, eq=False)
class Channel:
    """A camera with all that is its own."""

    config: CameraConfig
    feed: CameraFeed
    marks: CameraMarks
    rules: Looks
    outputs: tuple[Output, ...]
    clip_name: Callable[[Event], str] | None = None
    """Says in which clip an event will be seen; to be asked before it is offered to any output."""


@dataclass
class _Ids:
    """A camera's ids go on where they were when the model is loaded again."""

    before: int = 0
    """Added to what the group counts."""
    highest: int = 0
    """That was ever given."""


class Detector:
    """Steps the newest frames of all cameras together, for as long as it may run."""

    def __init__(
        self,
        bundle: Bundle,
        model: ModelConfig,
        park_after: int,
        board: Board,
        news: threading.Condition,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            bundle: the model.
            model: what runs it, and how long frames wait for each other.
            park_after: errors of a camera within a minute after which it is parked.
            board: where it is noted how it goes.
            news: notified by feeds.
            say: told of errors, in a line.
        """
        self._bundle, self._model, self._board, self._news, self._say = bundle, model, board, news, say
        self.faults = Faults(park_after)
        self.finished = 0
        """Frames, since the start."""
        self.error: BaseException | None = None
        """Why the thread has ended, unless it was asked to."""
        self._opened = threading.Event()
        self._asked = threading.Event()
        self._wanted: tuple[Channel, ...] | None = None
        self._applied = threading.Event()
        self._channels: tuple[Channel, ...] = ()
        self._group: SessionGroup | None = None
        self._slots: dict[Channel, int] = {}
        """The number of each in the group."""
        self._ids: dict[str, _Ids] = {}
        self._parked: dict[Channel, str] = {}
        self._options = backend_options(model, bundle)
        self._together = takes_several(bundle, self._options)
        self._turn = 0
        """Place of the camera whose turn it is, where they are stepped one by one."""
        self._all_parked_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)

    def start(self, channels: tuple[Channel, ...]) -> None:
        """Begin to load the model for these cameras, and to take their frames then."""
        self._wanted = channels
        self._thread.start()

    def is_open(self, within: float) -> bool:
        """Wait for the model. Raises what was wrong with it: BackendError, BundleError or EngineError."""
        self._opened.wait(within)
        if self.error is not None:
            raise self.error
        return self._opened.is_set()

    def serve(self, channels: tuple[Channel, ...], within: float) -> bool:
        """From now on serve these cameras; those that were parked are tried again. Cameras that were there before keep
        their memory if there is room for the others. Whether that was done in so many seconds; else it is done later.
        """
        with self._news:
            self._wanted = channels
            self._applied.clear()
            self._news.notify_all()
        return self._applied.wait(within)

    @property
    def has_work(self) -> bool:
        """Whether a camera that is not parked has a frame to take."""
        return any(channel.feed.waiting and channel not in self._parked for channel in self._channels)

    def stop(self, within: float) -> bool:
        """Finish the step at hand. Whether the thread has ended in so many seconds."""
        self._asked.set()
        with self._news:
            self._news.notify_all()
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            assert self._wanted is not None
            self._group = self._open(len(self._wanted))
            self._opened.set()
            while not self._asked.is_set():
                self._apply_wanted()
                self._try_all_again()
                if taken := self._gather():
                    self._step(taken)
        except BaseException as error:  # told in the main thread
            self.error = error
        finally:
            self._opened.set()
            self._close()

    def _open(self, cameras: int) -> SessionGroup:
        """A group with room for so many. Of everybody, whatever the score: cameras have thresholds of their own."""
        room = min(-(-cameras // _ROOM) * _ROOM, MOST_CAMERAS)
        return SessionGroup.open(self._bundle, room, self._options, min_score=0.0)

    def _close(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            with suppress(Exception):  # a device that has failed may fail once more
                group.close()

    def _apply_wanted(self) -> None:
        """Take over what ``serve`` was given."""
        with self._news:
            wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        for channel in self._parked:
            self.faults.forgive(channel.config.name)
            channel.marks.park(None)
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
        with self._news:
            if self._wanted is None:  # else there is not room for all, and others are wanted by now
                self._applied.set()

    def _opened_group(self) -> SessionGroup:
        if self._group is None:  # asked to stop while it could not be opened
            raise SystemExit
        return self._group

    def _gather(self) -> dict[Channel, Frame]:
        """The newest frame of every camera that has one, on a CPU of the next one; empty where there is something else
        to do."""
        with self._news:
            if not self._news.wait_for(self._is_due, _LOOK_UP) or self._asked.is_set() or self._wanted is not None:
                return {}
            if self._bundle.info.batch > 1:
                self._news.wait_for(self._is_complete, self._model.wait)
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
        """Whether nobody is worth waiting for."""
        now = time.monotonic()
        return self._asked.is_set() or all(
            channel.feed.waiting or not channel.marks.gives_frames(now)
            for channel in self._channels
            if channel not in self._parked
        )

    def _step(self, taken: dict[Channel, Frame]) -> None:
        if not self.faults.one_by_one(time.monotonic()):
            self._step_together(taken)
            return
        for channel, frame in taken.items():
            if channel in self._slots and channel not in self._parked:  # meanwhile
                self._step_together({channel: frame})

    def _step_together(self, taken: dict[Channel, Frame]) -> None:
        group = self._opened_group()
        try:
            for channel, frame in taken.items():
                if frame.anew or not channel.config.memory:
                    group.reset(self._slots[channel])
            found = group.step({self._slots[channel]: frame.image for channel, frame in taken.items()})
        except Exception as error:  # whatever a device or its library raises: these frames are lost, and no more
            self._failed(list(taken), error)
            return
        for channel, frame in taken.items():
            self._publish(channel, frame, found[self._slots[channel]])

    def _publish(self, channel: Channel, frame: Frame, parts: Parts) -> None:
        """Have rules look at what was found, and offer it to the outputs."""
        assert frame.arrived is not None
        own = channel.config.min_score
        everybody = self._numbered(channel.config.name, parts)
        parts = reported(everybody, channel.config, self._bundle.info.person_threshold if own is None else own)
        arrived = time.time() - (time.monotonic() - frame.arrived)
        result = Result(channel.config.name, frame, parts, arrived, everybody)
        events = channel.rules.look(result)
        if channel.clip_name is not None:
            events = tuple(replace(event, clip=channel.clip_name(event)) for event in events)
        result = replace(result, events=events)
        for output in channel.outputs:
            output.offer(result)
        now = time.monotonic()
        channel.marks.answered(now, now - frame.arrived, len(parts.people))
        self.finished += 1

    def _numbered(self, camera: str, parts: Parts) -> Parts:
        """With ids that nobody had before the model was loaded again."""
        ids, people = self._ids[camera], parts.people
        if ids.before:
            people = replace(people, ids=np.where(people.ids > 0, people.ids + ids.before, 0))
        ids.highest = max(ids.highest, int(people.ids.max(initial=0)))
        return replace(parts, people=people)

    def _failed(self, channels: list[Channel], error: Exception) -> None:
        """The backend could not take the frames of these cameras."""
        names = [channel.config.name for channel in channels]
        what = _told(error)
        for channel in channels:
            channel.marks.failed()
        self._say(f"{', '.join(names)}: error of the backend: {what}; the model is loaded again")
        if self.faults.add(names, time.monotonic()):
            self._park(channels[0], f"{self.faults.park_after} errors of the backend in a minute, the last: {what}")
        self._rebuild(error)

    def _park(self, channel: Channel, why: str) -> None:
        self._parked[channel] = why
        channel.marks.park(why)
        if all(each in self._parked or each.feed.ended for each in self._channels):
            self._all_parked_since = time.monotonic()

    def _try_all_again(self) -> None:
        """Where every camera is parked, the device is at fault, and may have got over it."""
        if self._all_parked_since is None or time.monotonic() - self._all_parked_since < _ALL_PARKED:
            return
        self._say("all cameras are parked: they are tried again")
        self._all_parked_since = None
        for channel in self._parked:
            self.faults.forgive(channel.config.name)
            channel.marks.park(None)
        self._parked.clear()

    def _rebuild(self, error: Exception | None) -> None:
        """Load the model again, for as long as it takes; nobody's memory is left, and ids go on."""
        self._close()
        attempt = 0
        while not self._asked.is_set():
            try:
                self._group = group = self._open(max(len(self._wanted or self._channels), 1))
                # All begin afresh. Fewer cameras may be wanted by now; who has no place then is about to go.
                self._slots = dict(zip(self._channels, range(len(group)), strict=False))
                break
            except Exception as problem:
                why = f"the model cannot be loaded: {_told(problem)}"
                self._say(f"{why}; trying again")
                for channel in self._channels:
                    channel.marks.park(why)
            self._asked.wait(_WAITS[min(attempt, len(_WAITS) - 1)])
            attempt += 1
        for channel in self._channels:
            channel.marks.park(self._parked.get(channel))
        for ids in self._ids.values():
            ids.before = ids.highest
        if error is not None:
            self._board.rebuilt()


def takes_several(bundle: Bundle, options: BackendOptions) -> bool:
    """Whether frames of several cameras are taken at once, by a device or in one run. A CPU takes one after the other,
    and each is newer if it is taken last."""
    return bundle.info.batch > 1 or options.backend == "tensorrt" or options.provider != "cpu"


def backend_options(model: ModelConfig, bundle: Bundle) -> BackendOptions:
    """What a configuration says of the backend; the one that is chosen where it leaves that open."""
    engines = None if model.engines is None else Path(model.engines)
    options = BackendOptions(model.backend, model.provider, model.threads, engines, model.cuda_graphs)
    return choose_backend(options, bundle)


def _told(error: Exception) -> str:
    return one_line(error if isinstance(error, StmError) else f"{type(error).__name__}: {error}")
