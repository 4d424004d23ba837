"""The host's share of a predicted frame.

A frame is letterboxed, copied to the GPU and run through query encoder and read decoder. The results are copied back,
and the host groups them into people. The memory encoder runs during the grouping. With a file as source, the next frame
is letterboxed while the GPU runs the current one.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from benchmarks.predict.devices import Device
from benchmarks.predict.host import REFERENCE_MIPS, HostWork
from runtime.backends.arena import RESULTS
from stm_skeletons.bundle import BundleInfo
from stm_skeletons.strict import Strict
from stm_skeletons.table import Table

COPY = 0.375
"""Assumed share of the memory bandwidth for a copy: half of a kernel's, because a copy reads and writes each byte."""


class HostShare(Strict):
    """Times of a frame on a device, in milliseconds."""

    source: tuple[int, int]
    """Width and height of the camera's frames in pixels."""
    people: int
    letterbox: float
    copies: float
    """Copies to the GPU and back; on boards, CPU and GPU share one memory."""
    grouping: float
    """Grouping keypoints into people with ids."""
    parts: float
    """Assembling the result."""
    gpu: float
    """The three graphs."""
    latency: float
    """From the camera's frame to its people: the sum of all steps but the memory encoder."""
    frame: float
    """From one frame of a file to the next; of steps that run concurrently, the longer one counts."""

    @property
    def waiting(self) -> float:
        """Share of the time of a file's frame in which the GPU waits for the host."""
        return 1 - (self.gpu + self.copies) / self.frame


def host_shares(info: BundleInfo, device: Device, work: HostWork, graphs: Mapping[str, float]) -> tuple[HostShare, ...]:
    """The host's share for each size of frames and each number of people in ``work``; empty without ``device.core``.

    Args:
        info: of the bundle.
        device: its 7-zip rating, compared with the reference core's, scales the host's times.
        work: as measured on any machine.
        graphs: time of each graph on the device, in milliseconds.
    """
    if device.core is None:
        return ()
    slower = work.to_reference * REFERENCE_MIPS / device.core.seven_zip_mips
    copies = 1e3 * _copied(info) / (1e9 * device.bandwidth_gbs * COPY) + 2e-3 * device.launch_us
    shares = []
    for source, letterbox in work.letterbox.items():
        for people, grouping in work.people.items():
            before, after = letterbox * slower, (grouping + work.parts[people]) * slower
            detect = graphs["query_encoder"] + graphs["read_decoder"]
            shares.append(
                HostShare(
                    source=source,
                    people=people,
                    letterbox=before,
                    copies=copies,
                    grouping=grouping * slower,
                    parts=work.parts[people] * slower,
                    gpu=sum(graphs.values()),
                    latency=before + copies + detect + after,
                    frame=max(before, copies + detect) + max(graphs["memory_encoder"], after),
                )
            )
    return tuple(shares)


def _copied(info: BundleInfo) -> int:
    """Bytes of a frame copied to the GPU and of its results copied back."""
    inputs = map(info.row_of, info.graphs["query_encoder"].inputs)
    results = [spec for spec in info.graphs["read_decoder"].outputs if spec.name in RESULTS]
    return sum(prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in (*inputs, *results))


def host_table(shares: Sequence[tuple[str, HostShare]]) -> Table:
    """Table of devices and their shares."""
    rows = [
        (
            *(device, f"{share.source[0]}x{share.source[1]}", str(share.people)),
            *(f"{time:.2f}" for time in (share.letterbox, share.copies, share.grouping, share.parts)),
            *(f"{time:.2f}" for time in (share.gpu, share.latency, share.frame)),
            f"{100 * share.waiting:.0f}%",
        )
        for device, share in shares
    ]
    header = (
        "device",
        "frames",
        "people",
        "letterbox",
        "copies",
        "grouping",
        "parts",
        "GPU",
        "latency",
        "frame",
        "GPU waits",
    )
    return Table(
        "PREDICTION with the host's work on one core: latency, and time between the frames of a file, ms",
        header,
        rows,
        left=2,
    )
