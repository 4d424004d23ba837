import multiprocessing
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from stm_skeletons.errors import DataError
from training.data.images import VideoReader, read_image
from training.data.labels import ImageFile


def gradient(size: tuple[int, int] = (96, 64), shift: int = 0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.stack([(2 * x + shift) % 256, (3 * y) % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def write_video(path: Path, frames: int, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (96, 64))
    for i in range(frames):
        writer.write(gradient(shift=2 * i))
    writer.release()
    return path


def decoded(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (got := capture.read())[0]:
        frames.append(got[1])
    return frames


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_an_image_is_read_as_bgr(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), gradient())
    image = read_image(ImageFile(path))
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - gradient()).mean() < (3 if suffix == ".jpg" else 1e-9)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str, share: float):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), gradient((640, 480)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=path.name):
        read_image(ImageFile(path))


def test_jpeg_with_preview_and_trailing_bytes_is_read_unless_truncated(tmp_path: Path):
    jpeg = cv2.imencode(".jpg", gradient((640, 480)))[1].tobytes()
    preview = cv2.imencode(".jpg", gradient((32, 24)))[1].tobytes()
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:2] + segment + jpeg[2:] + b"\0" * 100)
    assert read_image(ImageFile(path)).shape == (480, 640, 3)
    path.write_bytes(jpeg[:2] + segment + jpeg[2 : len(jpeg) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_image(ImageFile(path))


def test_missing_and_non_image_files_are_refused(tmp_path: Path):
    text = tmp_path / "a.jpg"
    text.write_text("no image")
    for path, message in (
        (tmp_path / "none.jpg", "does not exist"),
        (text, "cannot be decoded"),
        (tmp_path, "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            read_image(ImageFile(path))
    for video in (text, text.rename(tmp_path / "a.mp4")):
        video.write_text("no video")
        with pytest.raises(DataError, match=r"cannot open .* as a video|has only 0 frames"):
            read_image(ImageFile(video, 0))


def check_random_access(path: Path, wanted: list[int], expected: list[np.ndarray]) -> None:
    reader = VideoReader(path)
    for number in wanted:
        np.testing.assert_array_equal(reader.read(number), expected[number], err_msg=f"frame {number} of {path}")


@pytest.mark.parametrize("name", ["pose_1.mp4", "test_video_structuralize.mp4", "pose_squats.mp4"])
def test_random_access_equals_sequential_decoding(shared: Path, name: str):
    path = shared / "video" / name
    expected = decoded(path)
    last = len(expected) - 1
    wanted = [last // 2, 3, 3, 4, last, 0, last - 1, 5, *np.random.default_rng(0).integers(0, last, 10).tolist()]
    check_random_access(path, wanted, expected)


def test_random_access_to_the_shipped_clip(clip: Path):
    expected = decoded(clip)
    check_random_access(clip, [50, 99, 0, 98, 10, 60, 59, 61, 1], expected)


@pytest.mark.parametrize("codec", [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.webm", "VP80")])
def test_random_access_in_other_formats(tmp_path: Path, codec: tuple[str, str]):
    path = write_video(tmp_path / codec[0], 90, codec[1])
    check_random_access(path, [80, 2, 89, 40, 0, 85], decoded(path))


def test_random_access_with_variable_frame_rate(tmp_path: Path):
    """OpenCV seeks by the mean frame rate and gets wrong frames in this video."""
    constant = write_video(tmp_path / "constant.avi", 120)
    varying = tmp_path / "varying.mkv"
    # The first half has 10 frames per second, the second half 2.
    times = "setpts='if(lt(N,60),N,60+(N-60)*5)/10/TB'"
    command = ["ffmpeg", "-v", "error", "-i", constant, "-vf", times, "-vsync", "vfr", "-c:v", "mjpeg", "-y", varying]
    try:
        subprocess.run(command, check=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("needs the ffmpeg program to write such a video")
    expected = decoded(varying)
    assert len(expected) == 120
    check_random_access(varying, [110, 2, 70, 119, 0, 100, 40, 3], expected)


def test_frame_after_the_end_is_refused(clip: Path):
    with pytest.raises(DataError, match="has only 100 frames"):
        read_image(ImageFile(clip, 100))
    assert read_image(ImageFile(clip, 99)).shape == (576, 768, 3)


def test_more_videos_can_be_read_than_stay_open(tmp_path: Path):
    paths = [write_video(tmp_path / f"{i}.avi", 5 + i) for i in range(7)]
    for number in (0, 4, 2):
        for path in paths:
            np.testing.assert_array_equal(read_image(ImageFile(path, number)), decoded(path)[number])


def _mean(image: ImageFile) -> float:
    return float(read_image(image).mean())


def test_forked_worker_opens_its_own_video(clip: Path):
    images = [ImageFile(clip, number) for number in (30, 5, 60)]
    expected = [_mean(image) for image in images]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map_async(_mean, images).get(timeout=30) == expected
    assert [_mean(image) for image in images] == expected
