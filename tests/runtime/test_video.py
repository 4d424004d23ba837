"""Video files of many formats, read and written."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.codec import codecs_available

from runtime.frames import Frame
from runtime.overlay import Painter
from runtime.session import Session
from runtime.sinks import OverlaySink
from runtime.sources import open_source
from stm_skeletons.errors import SourceError

SIZE = (96, 64)


def make_image(number: int) -> np.ndarray:
    """Grey image, brighter with every number, with a white corner at the upper left."""
    image = np.full((SIZE[1], SIZE[0], 3), 20 + 10 * number, np.uint8)
    image[:24, :24] = 255
    return image


def write_video(path: Path, codec: str, pixels: str, times: list[float], **options: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        tick = Fraction(1, 25 if path.suffix == ".avi" else 1000)
        stream.codec_context.time_base = tick
        for number, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(make_image(number), format="bgr24").reformat(format=pixels)
            frame.pts, frame.time_base = round(seconds / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(path: Path) -> list[Frame]:
    source = open_source(str(path))
    frames = list(source)
    source.close()
    assert source.frame_size == frames[0].image.shape[1::-1]
    return frames


def check_upright(frames: list[Frame], count: int, grey: int) -> None:
    assert [frame.number for frame in frames] == list(range(count))
    for frame in frames:
        assert abs(int(frame.image[-8, -8].mean()) - 20 - 10 * frame.number) < grey
        assert frame.image[8, 8].mean() > 200


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("x.mp4", "libx264", "yuv420p"),
        ("444.mp4", "libx264", "yuv444p"),
        ("x.mkv", "libx265", "yuv420p10le"),
        ("av1.mp4", "libsvtav1", "yuv420p"),
        ("x.webm", "libvpx-vp9", "yuv420p"),
        ("x.avi", "mjpeg", "yuvj420p"),
        ("x.mov", "mpeg4", "yuv420p"),
        ("x.gif", "gif", "rgb8"),
        ("noise.mkv", "ffv1", "yuv420p"),
    ],
)
def test_videos_of_many_formats_are_read(tmp_path: Path, name: str, codec: str, pixels: str):
    if codec not in codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    times = [number / 25 for number in range(8)]
    write_video(tmp_path / name, codec, pixels, times)
    frames = read(tmp_path / name)
    check_upright(frames, 8, grey=40 if codec == "gif" else 12)  # GIF has few colours
    assert [frame.time for frame in frames] == pytest.approx(times, abs=0.011)


@pytest.mark.parametrize(
    ("degrees", "matrix"),
    [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))],
)
def test_rotation_stored_by_a_phone_is_applied(tmp_path: Path, degrees: int, matrix: tuple[int, int, int, int]):
    """The file stores the rotation; the images in it are not rotated."""
    path = tmp_path / "phone.mp4"
    write_video(path, "libx264", "yuv420p", [0.0, 0.04])
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    rotation = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}[degrees]
    for frame, number in zip(read(path), (0, 1), strict=True):
        expected = cv2.rotate(make_image(number), rotation)
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 6


def test_overlay_keeps_variable_frame_times(edge_bundle: Path, tmp_path: Path):
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.7]
    write_video(tmp_path / "phone.mp4", "libx264", "yuv420p", times)
    for suffix in ("mp4", "mkv", "webm"):
        overlay = tmp_path / f"o.{suffix}"
        source = open_source(str(tmp_path / "phone.mp4"))
        with (
            Session.open(edge_bundle) as session,
            OverlaySink(str(overlay), source.frames_per_second, Painter()) as sink,
        ):
            for frame in source:
                sink.write(frame, session.step(frame.image))
        source.close()
        assert [frame.time for frame in read(overlay)] == pytest.approx(times, abs=0.002)


def test_overlays_play_in_browsers_and_when_truncated(edge_bundle: Path, clip: Path, tmp_path: Path):
    overlay = tmp_path / "o.mp4"
    with Session.open(edge_bundle) as session, OverlaySink(str(overlay), 25, Painter()) as sink:
        for number in range(120):
            image = np.full((97, 161, 3), 60 + number, np.uint8)
            sink.write(Frame(number, number / 25, image), session.step(image))
    with av.open(str(overlay)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (160, 96)
    assert len(read(overlay)) == 120
    content = overlay.read_bytes()
    overlay.write_bytes(content[: len(content) * 2 // 3])
    source = open_source(str(overlay))
    played = []
    try:
        played.extend(frame for frame in source)
    except SourceError as error:
        assert "damaged" in str(error)  # noqa: PT017
    assert len(played) >= 50


def test_file_with_sound_only_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "x.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match="no video"):
        open_source(str(tmp_path / "x.mka"))
