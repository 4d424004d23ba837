"""Whether a video file is shorter than its own header says: known before the first frame is decoded."""

from pathlib import Path
from typing import BinaryIO

_BOX_HEADER = 8
_TOP_LEVEL_BOXES = {
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"pdin"),
    *(b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"emsg", b"prft"),
}
_SIZE_LEFT_OPEN = (0, 0xFFFFFFFF)
_BOX_WITH_LONG_SIZE = 1
_BOX_TO_END = 0


def is_cut_short(path: Path) -> bool:
    """True for an AVI (RIFF) or MP4/MOV (ISO base media) file with fewer bytes than its chunks declare.

    False for whole files, for other containers, where the header leaves the size open, and for MP4 files in fragments,
    which play up to where they were cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            declared = int.from_bytes(head[4:8], "little")
            return declared not in _SIZE_LEFT_OPEN and _BOX_HEADER + declared > size
        if head[4:8] in _TOP_LEVEL_BOXES:
            return _boxes_end(file, size) > size
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends, in bytes."""
    position = 0
    while position + _BOX_HEADER <= size:
        file.seek(position)
        length, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if name not in _TOP_LEVEL_BOXES or length == _BOX_TO_END:
            return size  # what follows the last box is not part of the video
        if name == b"moof":
            return size
        if length == _BOX_WITH_LONG_SIZE:
            length = int.from_bytes(file.read(8), "big")
        if length < _BOX_HEADER:
            return size
        position += length
    return position
