"""Four cameras at 10 frames/s on this machine, through a real RTSP server: half an hour, in CI 18 s."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pace import slowdown
from rtsp import SYSTEM_PYTHON, free_port, need_gstreamer
from running import CLIP, Running

SERVER = Path(__file__).with_name("video_cameras.py")
CAMERAS = 4
CONFIG = """\
[model]
bundle = "{bundle}"
[web]
port = 0
"""
CAMERA = """\
[[cameras]]
name = "camera-{number}"
source = "rtsp://127.0.0.1:{port}/{number}"
"""


@pytest.fixture(scope="module")
def small_edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights at 320x192."""
    from export.export import Options, export_bundle
    from export.recover import recover_weights
    from training.model import ModelConfig

    folder = tmp_path_factory.mktemp("edge")
    recover_weights(ModelConfig(variant="edge"), folder / "edge.safetensors", "edge")
    options = Options(width=320, height=192, every=1, compact=True, keypoint_threshold=0.28)
    return export_bundle(folder / "edge.safetensors", folder / "edge-320", options).bundle.folder


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a server with four cameras, each of which starts at another frame of the clip."""
    need_gstreamer()
    capture = cv2.VideoCapture(str(CLIP))
    frames = []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame)
    folders = [tmp_path / f"frames-{number}" for number in range(CAMERAS)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        start = number * len(frames) // CAMERAS
        for index, frame in enumerate([*frames[start:], *frames[:start]]):
            cv2.imwrite(str(folder / f"{index:03}.jpg"), frame)
    number = free_port()
    command = [SYSTEM_PYTHON, str(SERVER), str(number), "10", *map(str, folders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield number
        server.kill()


def watch(service: Running, seconds: float, every: float) -> tuple[NDArray, NDArray, NDArray]:
    """Return results per second of each camera; then, over time, the median age of results in seconds, and memory in
    bytes."""
    before, started = service.status(), time.monotonic()
    ages, p99_ages, memory = [], [], []
    while time.monotonic() < started + seconds:
        time.sleep(every)
        status = service.status()
        ages.append([camera["age_p50"] for camera in status["cameras"]])
        p99_ages.append([camera["age_p99"] for camera in status["cameras"]])
        memory.append(status["memory_bytes"])
    after, took = service.status(), time.monotonic() - started
    frames = np.array([b["frames"] - a["frames"] for a, b in zip(before["cameras"], after["cameras"], strict=True)])
    print(f"frames a second {np.round(frames / took, 2)}, ages {np.median(ages):.3f} s (p99 {np.median(p99_ages):.3f})")
    print(f"memory {memory[0] / 1e6:.1f} to {memory[-1] / 1e6:.1f} MB")
    return frames / took, np.array(ages), np.array(memory)


def serve_and_watch(
    bundle: Path, port: int, folder: Path, seconds: float, every: float, least: float, spread: float
) -> None:
    """``least``: results per second that each camera must get; ``spread``: allowed relative difference to the mean."""
    cameras = [CAMERA.format(number=number, port=port) for number in range(CAMERAS)]
    config = folder / "serve.toml"
    config.write_text("\n".join([CONFIG.format(bundle=bundle), *cameras]))
    service = Running(config)
    try:
        service.wait(lambda: all(camera["state"] == "live" for camera in service.status()["cameras"]))
        time.sleep(5)
        rates, ages, memory = watch(service, seconds, every)
        assert rates.min() > least, rates
        assert np.abs(rates / rates.mean() - 1).max() < spread, rates
        third = max(1, len(ages) // 3)
        assert np.median(ages[-third:]) < 1.2 * np.median(ages[:third]) + 0.05
        assert memory[-1] < 1.03 * memory[len(memory) // 3]
        code, took = service.stop()
        assert code == 0
        assert took < 4
    finally:
        service.close()


@pytest.mark.slow
def test_four_cameras_for_18_s(small_edge: Path, port: int, tmp_path: Path):
    serve_and_watch(small_edge, port, tmp_path, 18, 1, 4 / slowdown() / 2, 0.3)


@pytest.mark.soak
def test_four_cameras_for_half_an_hour(small_edge: Path, port: int, tmp_path: Path):
    serve_and_watch(small_edge, port, tmp_path, 1800, 10, 4, 0.1)
