"""kill -9 at random moments: written files stay readable, and the next start takes no longer."""

import json
import os
import random
import re
import subprocess
import time
from pathlib import Path

import av
import av.error
import pytest
from command import COMMAND
from pace import slowdown
from running import CLIP, Running, camera

RATE = 10
"""Frames per second of the clip."""
MAX_MISSING = 2.0
"""Seconds of a video that may be missing at its end."""
READY = 5.0
"""Seconds allowed from the start until the service is ready."""
FILE_NAME = re.compile(r"(door|yard)-\d{8}T\d{6}Z(-\d+)?(\.jsonl|\.mp4|-event\.mp4)")


def frames_of(path: Path) -> int:
    """Count the frames that can be decoded; the file may be cut off at its end, and the first frame is there twice."""
    frames = 0
    try:
        with av.open(str(path)) as container:
            for _ in container.decode(video=0):
                frames += 1
    except av.error.InvalidDataError:
        assert frames, f"{path.name}, {path.stat().st_size} bytes, does not play"
    return frames - 1


def lines_of(path: Path) -> int:
    """Count the complete lines, all of which must be readable; half a line may follow."""
    *complete, _half = path.read_bytes().split(b"\n")
    return len([json.loads(line) for line in complete])


@pytest.mark.slow
def test_files_survive_three_kills(tmp_path: Path, edge_bundle: Path):
    kill_repeatedly(tmp_path, edge_bundle, 3)


@pytest.mark.soak
def test_files_survive_fifty_kills(tmp_path: Path, edge_bundle: Path):
    kill_repeatedly(tmp_path, edge_bundle, 50)


def kill_repeatedly(folder: Path, bundle: Path, times: int) -> None:
    out, config = folder / "out", folder / "serve.toml"
    region = {"kind": "region", "name": "all", "region": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}
    config.write_text(
        f"[model]\nbundle = '{bundle}'\nthreads = 1\n[web]\nport = 0\n"
        + camera("door", CLIP, loop=True, lines={"folder": out}, recording={"folder": out, "minutes": 0.08})
        + camera("yard", CLIP, loop=True, lines={"folder": out}, clips={"folder": out, "after": 1.0}, rules=[region])
    )
    randomness, videos, lines = random.Random(9), 0, 0
    waits: list[float] = []
    seen: set[str] = set()
    for kill in range(times):
        if kill % 5 == 4:  # during the start
            process = subprocess.Popen([*COMMAND, "serve", str(config)], stderr=subprocess.PIPE)
            time.sleep(randomness.uniform(0, 3))
            process.kill()
            process.communicate()
        else:
            waits.append(run_and_kill(config, randomness.uniform(0, 8)))
        new = files_of(out, seen)
        lines += sum(new[suffix][0] for suffix in new if suffix.endswith(".jsonl"))
        videos += sum(new[suffix][1] for suffix in new if suffix.endswith(".mp4"))
        missing = new["door.jsonl"][0] - new["door.mp4"][0]
        assert missing <= MAX_MISSING * RATE + 2, f"{missing} frames are missing at the end"
    print(f"{lines} lines, {videos} videos; ready after {min(waits):.1f} to {max(waits):.1f} s")
    assert max(waits) < READY * slowdown()


def run_and_kill(config: Path, seconds: float) -> float:
    """Return the seconds until the service was ready."""
    started = time.monotonic()
    service = Running(config)
    try:
        service.wait(lambda: service.http_status("/readyz") == 200)
        ready = time.monotonic() - started
        time.sleep(seconds)
        os.kill(service.process.pid, 9)
    finally:
        service.close()
    assert "Traceback" not in "\n".join(service.errors)
    return ready


def files_of(out: Path, seen: set[str]) -> dict[str, tuple[int, int]]:
    """Return lines or frames, and number, of new files by camera and kind; all must be readable."""
    found: dict[str, tuple[int, int]] = {}
    for kind in ("door.jsonl", "yard.jsonl", "door.mp4", "yard-event.mp4"):
        found[kind] = 0, 0
    for path in sorted(path for path in out.glob("*") if path.name not in seen):
        seen.add(path.name)
        match = FILE_NAME.fullmatch(path.name)
        assert match is not None, f"{path.name} was left behind"
        kind = match[1] + match[3]
        content = lines_of(path) if path.suffix == ".jsonl" else frames_of(path)
        found[kind] = found[kind][0] + content, found[kind][1] + 1
    return found
