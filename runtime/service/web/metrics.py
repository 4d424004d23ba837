"""The service's metrics for Prometheus, read from the status when requested, so no state is kept here."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from runtime.service.status import Board, CameraStatus, ServiceStatus, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Labels are the configured names of cameras and outputs, which bounds their number."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._board.snapshot()
        yield from _of_service(status)
        yield from _of_cameras(status.cameras)
        yield from _of_outputs(status.cameras)


def _of_service(status: ServiceStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("stm_skeletons_up", "1 if the service is ready", float(status.ready))
    yield GaugeMetricFamily("stm_skeletons_stuck", "1 if frames wait but none is finished", float(status.stuck))
    yield GaugeMetricFamily("stm_skeletons_uptime_seconds", "Seconds since the start", status.uptime)
    yield GaugeMetricFamily("stm_skeletons_memory_bytes", "Resident memory of the process", status.memory_bytes)
    yield CounterMetricFamily("stm_skeletons_rebuilds", "Reloads of the model after backend errors", status.rebuilds)


def _of_cameras(cameras: tuple[CameraStatus, ...]) -> Iterator[Metric]:
    for counter, what in (
        ("frames", "Frames processed"),
        ("skipped", "Frames skipped"),
        ("reconnects", "Reconnects of the camera"),
        ("errors", "Frames lost to backend errors"),
    ):
        family: Metric = CounterMetricFamily(f"stm_skeletons_{counter}", what, labels=["camera"])
        for camera in cameras:
            family.add_metric([camera.name], getattr(camera, counter))
        yield family
    people = GaugeMetricFamily("stm_skeletons_people", "People in the latest frame", labels=["camera"])
    rate = GaugeMetricFamily("stm_skeletons_frames_per_second", "Processed, over 10 seconds", labels=["camera"])
    age = GaugeMetricFamily(
        "stm_skeletons_age_seconds", "From a frame's arrival to its results", labels=["camera", "quantile"]
    )
    state = GaugeMetricFamily("stm_skeletons_state", "1 for the camera's current state", labels=["camera", "state"])
    for camera in cameras:
        people.add_metric([camera.name], camera.people)
        rate.add_metric([camera.name], camera.frames_per_second)
        for quantile, seconds in (("0.5", camera.age_p50), ("0.99", camera.age_p99)):
            if seconds is not None:
                age.add_metric([camera.name, quantile], seconds)
        for name in get_args(State):
            state.add_metric([camera.name, name], float(name == camera.state))
    yield from (people, rate, age, state)


def _of_outputs(cameras: tuple[CameraStatus, ...]) -> Iterator[Metric]:
    for counter in ("written", "dropped", "failed"):
        family = CounterMetricFamily(
            f"stm_skeletons_output_{counter}", f"Results that an output has {counter}", labels=["camera", "output"]
        )
        for camera in cameras:
            for name, output in camera.outputs.items():
                family.add_metric([camera.name, name], getattr(output, counter))
        yield family
