"""Detects truncated video files from their headers, before the first frame is decoded."""

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
    """Return True for an AVI (RIFF) or MP4/MOV (ISO base media) file that is shorter than its headers declare.

    False for complete files, for other containers, if the header leaves the size open, and for fragmented MP4 files,
    which play up to the truncation.
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
    """End of the last top-level box, in bytes."""
    position = 0
    while position + _BOX_HEADER <= size:
        file.seek(position)
        length, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if name not in _TOP_LEVEL_BOXES or length == _BOX_TO_END:
            return size  # bytes after the last box are not part of the video
        if name == b"moof":
            return size
        if length == _BOX_WITH_LONG_SIZE:
            length = int.from_bytes(file.read(8), "big")
        if length < _BOX_HEADER:
            return size
        position += length
    return position
