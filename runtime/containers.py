"""Whether a video file is shorter than its own header says: known before the first frame is decoded."""

from pathlib import Path
from typing import BinaryIO

_BOX_HEADER = 8
_BOX_WITH_LONG_SIZE = 1
_BOX_TO_END = 0


def is_cut_short(path: Path) -> bool:
    """True for an AVI (RIFF) or MP4/MOV (ISO base media) file with fewer bytes than its chunks declare.

    False for whole files, for other containers, and where the header leaves the size open.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _BOX_HEADER + int.from_bytes(head[4:8], "little") > size
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, size) > size
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends, in bytes."""
    position = 0
    while position + _BOX_HEADER <= size:
        file.seek(position)
        length = int.from_bytes(file.read(4), "big")
        file.read(4)
        if length == _BOX_TO_END:
            return size
        if length == _BOX_WITH_LONG_SIZE:
            length = int.from_bytes(file.read(8), "big")
        if length < _BOX_HEADER:
            return size  # not a box: garbage after the last one, which players ignore
        position += length
    return position
