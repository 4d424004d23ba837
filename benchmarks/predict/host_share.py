"""The host's share of a predicted frame: what it does before and after the graphs, while the GPU waits.

A frame is letterboxed, copied to the GPU, seen by the query encoder and the read decoder; what came out is copied back,
and the host says who is who. Of a file the next frame is letterboxed while the GPU sees this one; while the host says
who is who, the memory encoder runs.
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
"""Assumed share of the memory's bandwidth that a copy within it gets: half of a kernel's, as it reads and writes."""


class HostShare(Strict):
    """Milliseconds of a frame on a device."""

    source: tuple[int, int]
    """Pixels of the camera's frames."""
    people: int
    letterbox: float
    copies: float
    """To the GPU and back; boards have one memory for both."""
    grouping: float
    """Who is who."""
    parts: float
    gpu: float
    """The three graphs."""
    latency: float
    """From the camera's frame to its people: all in turn but for the memory encoder."""
    frame: float
    """From one frame of a file to the next: what runs at the same time counts once."""

    @property
    def waiting(self) -> float:
        """Share of a file's frame in which the GPU waits for the host."""
        return 1 - (self.gpu + self.copies) / self.frame


def host_shares(info: BundleInfo, device: Device, work: HostWork, graphs: Mapping[str, float]) -> tuple[HostShare, ...]:
    """Of each size of frames and number of people that was measured.

    Args:
        info: of the bundle whose frames these are.
        device: whose processor is slower than the reference core by as much as 7-zip is.
        work: as measured on any machine.
        graphs: milliseconds of each on the device.
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
    """Bytes of a frame that goes to the GPU, and of what comes back."""
    given = map(info.row_of, info.graphs["query_encoder"].inputs)
    found = [spec for spec in info.graphs["read_decoder"].outputs if spec.name in RESULTS]
    return sum(prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in (*given, *found))


def host_table(shares: Sequence[tuple[str, HostShare]]) -> Table:
    """Of devices and their shares."""
    rows = [
        (
            *(device, f"{share.source[0]}x{share.source[1]}", str(share.people)),
            *(f"{one:.2f}" for one in (share.letterbox, share.copies, share.grouping, share.parts)),
            *(f"{one:.2f}" for one in (share.gpu, share.latency, share.frame)),
            f"{100 * share.waiting:.0f} %",
        )
        for device, share in shares
    ]
    header = (
        "device",
        "frames",
        "people",
        "letterbox",
        "copies",
        "who",
        "parts",
        "GPU",
        "latency",
        "frame",
        "GPU waits",
    )
    return Table(
        "PREDICTION with what the host does on one core: latency, and time between the frames of a file, ms",
        header,
        rows,
        left=2,
    )
