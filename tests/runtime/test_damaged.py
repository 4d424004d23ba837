"""Damaged files of every kind: frames or one clear line, never a crash, a hang or a traceback."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from test_video import make_image, write_video

# Runs in its own process: a decoder that crashes or hangs must not take the tests with it.
READ = """
import faulthandler, random, sys
from pathlib import Path
from runtime.sources import open_source
from stm_skeletons.errors import StmError
bases, target, first, count = sys.argv[1].split(","), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
contents = [Path(base).read_bytes() for base in bases]
outcomes = {"read": 0, "refused": 0}
for seed in range(first, first + count):
    dice = random.Random(seed)
    which = dice.randrange(len(bases))
    data = bytearray(contents[which])
    for kind in dice.sample(["cut", "flip", "zero", "insert", "header"], dice.randint(1, 2)):
        at = dice.randrange(len(data)) if data else 0
        if kind == "cut":
            del data[at:]
        elif kind == "flip":
            for _ in range(dice.randint(1, 60)):
                if data:
                    data[dice.randrange(len(data))] = dice.randrange(256)
        elif kind == "zero":
            data[at : at + dice.randint(1, 400)] = bytes(min(len(data) - at, 100))
        elif kind == "insert":
            data[at:at] = dice.randbytes(dice.randint(1, 200))
        elif data:
            for _ in range(8):
                data[dice.randrange(min(len(data), 64))] = dice.randrange(256)
    path = target / f"x{Path(bases[which]).suffix}"
    path.write_bytes(data)
    print(seed, flush=True)
    faulthandler.dump_traceback_later(10, exit=True)
    try:
        source = open_source(str(path))
        try:
            for frame in source:
                assert frame.image.ndim == 3
                if frame.number > 1000:
                    break
        finally:
            source.close()
        outcomes["read"] += 1
    except StmError as error:
        assert "\\n" not in str(error) and len(str(error)) < 600, str(error)
        outcomes["refused"] += 1
    faulthandler.cancel_dump_traceback_later()
print(outcomes)
"""
KINDS = {
    "x.mp4": ("libx264", "yuv420p"),
    "x.mov": ("mpeg4", "yuv420p"),
    "x.mkv": ("libx265", "yuv420p"),
    "x.webm": ("libvpx-vp9", "yuv420p"),
    "x.avi": ("mjpeg", "yuvj420p"),
    "x.gif": ("gif", "rgb8"),
    "av1.mp4": ("libsvtav1", "yuv420p"),
}


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.soak)])
def test_damaged_files_give_frames_or_an_error_of_one_line(tmp_path: Path, count: int):
    bases = []
    for name, (codec, pixels) in KINDS.items():
        write_video(tmp_path / name, codec, pixels, [number / 25 for number in range(8)])
        bases.append(tmp_path / name)
    for suffix in ("jpg", "png", "webp", "bmp", "tif"):
        bases.append(tmp_path / f"image.{suffix}")
        cv2.imwrite(str(bases[-1]), make_image(0))
    (tmp_path / "out").mkdir()
    arguments = [",".join(map(str, bases)), str(tmp_path / "out"), "0", str(count)]
    done = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, check=False)
    seeds = [line for line in done.stdout.splitlines() if line.isdecimal()]
    assert done.returncode == 0, f"at seed {seeds[-1:]}: {done.stderr[-2000:]}"
    print(done.stdout.splitlines()[-1])
