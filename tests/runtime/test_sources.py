import os
import random
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.containers import is_cut_short
from runtime.frames import Frame
from runtime.sources import SourceOptions, open_source
from stm_skeletons.errors import SourceError, StmError

NOISE = random.Random(5)  # FFmpeg now and then takes other noise for some codec


@pytest.fixture(autouse=True)
def _quiet_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")


def read_all(source: str) -> list[Frame]:
    opened = open_source(source)
    try:
        return list(opened)
    finally:
        opened.close()


def write_video(path: Path, codec: str, count: int = 30, size: tuple[int, int] = (64, 48)) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 5 * number, np.uint8))
    writer.release()


def test_a_video_gives_every_frame_with_its_time(clip: Path):
    opened = open_source(str(clip))
    assert opened.total == 100
    assert opened.frames_per_second == 10
    assert opened.frame_size == (768, 576)
    assert not opened.live
    frames = list(opened)
    opened.close()
    assert [frame.number for frame in frames] == list(range(100))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(100) / 10, atol=1e-6)
    assert frames[0].image.shape == (576, 768, 3)


def test_folder_gives_its_images_in_order_of_names(tmp_path: Path):
    for name, value in (("b.png", 2), ("a.jpg", 1), ("c.JPG", 3), ("notes.txt", 0)):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            cv2.imwrite(str(tmp_path / name), np.full((8 * value, 16, 3), 40 * value, np.uint8))
    frames = read_all(str(tmp_path))
    assert [frame.image.shape[0] for frame in frames] == [8, 16, 24]
    assert [frame.time for frame in frames] == [0, 0.04, 0.08]


def test_one_image_is_one_frame_even_among_numbered_images(tmp_path: Path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"img_{number:03}.png"), np.full((8, 8, 3), number, np.uint8))
    frames = read_all(str(tmp_path / "img_001.png"))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1]


@pytest.mark.parametrize(("name", "codec"), [("x.avi", "MJPG"), ("x.mp4", "mp4v")])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_video_is_found_before_decoding(tmp_path: Path, name: str, codec: str, share: float):
    whole = tmp_path / name
    write_video(whole, codec)
    assert not is_cut_short(whole)
    assert len(read_all(str(whole))) == 30
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError, match=r"truncated|cannot open"):
        open_source(str(whole))


def test_videos_that_only_look_truncated_are_read(tmp_path: Path):
    """An AVI whose writer could not seek back to fill in the size, and an MP4 with a note after its last box."""
    avi, mp4 = tmp_path / "x.avi", tmp_path / "x.mp4"
    write_video(avi, "MJPG")
    for open_size in (0, 0xFFFFFFFF):
        content = bytearray(avi.read_bytes())
        content[4:8] = open_size.to_bytes(4, "little")
        avi.write_bytes(content)
        assert not is_cut_short(avi)
    write_video(mp4, "mp4v")
    mp4.write_bytes(mp4.read_bytes() + b"recorded by camera no. 7")
    assert not is_cut_short(mp4)
    assert len(read_all(str(mp4))) == 30


def test_video_with_undecodable_frames_ends_in_an_error(tmp_path: Path, clip: Path):
    """The header fits the file, but most frames cannot be decoded."""
    content = bytearray(clip.read_bytes())
    start = content.index(b"movi")
    content[start + 200_000 :] = NOISE.randbytes(len(content) - start - 200_000)
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(content)
    with pytest.raises(SourceError, match=r"only [0-9]+ of 100 frames|no frame of"):
        read_all(str(damaged))


def test_invalid_sources_are_refused_in_one_line(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "noise.avi").write_bytes(NOISE.randbytes(10_000))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "folder").mkdir()
    cases = {
        "missing.mp4": "check the name",
        "empty.mp4": "empty",
        "text.mp4": "not a video",
        "noise.avi": "not a video",
        "broken.png": "cannot decode",
        "folder": "contains no images",
    }
    for name, message in cases.items():
        with pytest.raises(SourceError, match=message) as caught:
            read_all(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["73", "rtsp://user:secret@127.0.0.1:9/none", "videotestsrc ! appsink_that_is_not_there"]
)
def test_missing_camera_or_stream_is_refused(source: str):
    with pytest.raises(SourceError, match=r"cannot open .*doctor") as caught:
        open_source(source)
    assert "secret" not in str(caught.value)


def test_folder_is_read_in_numerical_order(tmp_path: Path):
    for name in ("img10.png", "img2.png", "img1.png", "b/img3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    assert [frame.file for frame in read_all(str(tmp_path))] == ["img1.png", "img2.png", "img10.png"]
    everything = open_source(str(tmp_path), SourceOptions(recursive=True))
    assert [frame.file for frame in everything] == ["b/img3.png", "img1.png", "img2.png", "img10.png"]
    (tmp_path / "b" / "c").mkdir()
    (tmp_path / "b" / "img3.png").rename(tmp_path / "b" / "c" / "img3.png")
    with pytest.raises(SourceError, match="add --recursive"):
        open_source(str(tmp_path / "b"))


def test_file_names_that_are_not_utf8_are_accepted(tmp_path: Path):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 7, np.uint8))[1].tobytes())
    for source in (tmp_path, tmp_path / name):
        (frame,) = read_all(str(source))
        assert frame.image[0, 0, 0] == 7
        assert frame.file == "\ufffd.png"


def test_broken_images_are_skipped_on_request(tmp_path: Path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    for number, content in ((0, b""), (3, b"\x89PNG\r\n\x1a\n")):
        (tmp_path / f"{number}.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot decode .*0\.png .*--skip-broken"):
        read_all(str(tmp_path))
    skipped: list[StmError] = []
    frames = list(open_source(str(tmp_path), SourceOptions(skip=skipped.append)))
    assert [(frame.number, int(frame.image[0, 0, 0])) for frame in frames] == [(1, 1), (2, 2), (4, 4)]
    assert ["3.png" in str(error) for error in skipped] == [False, True]
    for number in (1, 2, 4):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(SourceError, match="none of 5 images"):
        open_source(str(tmp_path), SourceOptions(skip=skipped.append))


@pytest.mark.parametrize(
    ("names", "follow"),
    [
        (["a_01.png", "a_02.png", "a_03.png"], True),
        (["0.png", "5.png", "10.png", "20.png"], True),
        (["000000000139.png", "000000000285.png", "000000000632.png", "000000000724.png"], False),
        (["door.png", "hall.png"], False),
        (["cam1_1.png", "cam2_2.png"], False),
    ],
)
def test_image_sequences_are_guessed_and_the_guess_is_reported(tmp_path: Path, names: list[str], follow: bool):
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    messages: list[str] = []
    frames = list(open_source(str(tmp_path), SourceOptions(say=messages.append)))
    assert [frame.resets_memory for frame in frames] == [False] + [not follow] * (len(names) - 1)
    assert len(messages) == 1
    assert ("--independent" in messages[0]) == follow
    for sequence in (True, False):
        frames = list(open_source(str(tmp_path), SourceOptions(sequence=sequence, say=messages.append)))
        assert [frame.resets_memory for frame in frames][1:] == [not sequence] * (len(names) - 1)
    assert len(messages) == 1
    cv2.imwrite(str(tmp_path / names[-1]), np.zeros((8, 9, 3), np.uint8))
    assert [frame.resets_memory for frame in open_source(str(tmp_path))][1:] == [True] * (len(names) - 1), (
        "sizes differ"
    )


def test_cut_in_a_video_resets_the_memory(shared: Path, tmp_path: Path):
    """A video joined from three has two cuts; videos of one camera have none."""
    joined, scenes = tmp_path / "joined.avi", []
    for name in ("vtest.avi", "05_default_juggle.mp4", "test_video_structuralize.mp4"):
        source = open_source(str(shared / "video" / name))
        scenes.append([cv2.resize(frame.image, (320, 192)) for frame in islice(source, 25)])
        source.close()
    writer = cv2.VideoWriter(str(joined), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 192))
    for image in chain(*scenes):
        writer.write(image)
    writer.release()
    assert [frame.number for frame in open_source(str(joined)) if frame.resets_memory] == [25, 50]
    for video in sorted((shared / "video").iterdir()):
        assert not [frame.number for frame in islice(open_source(str(video)), 60) if frame.resets_memory]


def test_images_of_cameras_and_scanners_are_read(tmp_path: Path):
    """Rotated by EXIF, 16 bit, grey, transparent, 8K, a single pixel."""
    image = np.full((40, 60, 3), 90, np.uint8)
    image[:10, :10] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    # One entry of an IFD: tag 0x0112 (orientation), a short, 6: rotate clockwise by 90 degrees.
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    (tmp_path / "exif.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "grey.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([image, image[..., 0]]))
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((4320, 7680, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "one.png"), image[:1, :1])
    frames = {frame.file: frame.image for frame in open_source(str(tmp_path))}
    assert {name: image.shape for name, image in frames.items()} == {
        "clear.png": (40, 60, 3),
        "deep.png": (40, 60, 3),
        "exif.jpg": (60, 40, 3),
        "grey.png": (40, 60, 3),
        "large.png": (4320, 7680, 3),
        "one.png": (1, 1, 3),
    }
    np.testing.assert_array_equal(frames["deep.png"], image)
    assert frames["exif.jpg"][5, -5].mean() > 240
    assert frames["exif.jpg"][5, 5].mean() < 110
