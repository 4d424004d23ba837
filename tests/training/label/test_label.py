import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.frames import Frame
from stm_skeletons.errors import DataError, SourceError
from stm_skeletons.skeleton import COCO17
from training.data.posetrack import read_posetrack
from training.label import label as module
from training.label.label import label
from training.label.people_labels import Person

WIDTH, HEIGHT = 160, 120


class WalkingTeacher:
    """Finds one person who walks to the right, with one uncertain joint, and an uncertain person from frame 3 on."""

    skeleton = COCO17
    has_memory = False

    def __init__(self, name: str = "walking") -> None:
        self.description: dict[str, Any] = {"kind": name}
        self.seen_frames: list[int] = []

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        number = int(image[0, 0, 0])
        self.seen_frames.append(number)
        if number == 2:
            return []
        people = [standing(20.123 + 2 * number, 0.9)]
        people[0].pose[9, 2] = 0.29
        return people + ([standing(100, 0.19)] if number >= 3 else [])

    def reset(self) -> None:
        self.seen_frames.clear()


class RememberingTeacher(WalkingTeacher):
    """Its output depends on the number of frames it has seen."""

    has_memory = True

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        self.seen_frames.append(int(image[0, 0, 0]))
        return [standing(20 + len(self.seen_frames), 0.9)]


def standing(left: float, score: float) -> Person:
    pose = np.full((17, 3), score, np.float32)
    pose[:, 0] = left + np.arange(17)
    pose[:, 1] = 20 + 5 * np.arange(17)
    return Person(pose, np.array([left - 5, 15, left + 25, 105], np.float32))


def frames(count: int, fails_at: int | None = None) -> Iterator[Frame]:
    for number in range(count):
        if number == fails_at:
            raise SourceError("the source broke")
        yield Frame(number, 0.0, np.full((HEIGHT, WIDTH, 3), number, np.uint8))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video file of eight frames."""
    path = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for frame in frames(8):
        writer.write(frame.image)
    writer.release()
    return path


def test_file_has_posetracks_fields_and_is_marked_as_pseudo(video: Path, tmp_path: Path):
    summary = label(frames(8), video, tmp_path / "labels", WalkingTeacher())
    content = json.loads(summary.labels.read_text())
    assert content["pseudo"] is True
    assert content["teacher"] == {"kind": "walking"}
    assert content["complete"] is True
    (category,) = content["categories"]
    assert category["keypoints"] == list(COCO17.joints)
    assert [image["frame_id"] for image in content["images"]] == list(range(8))
    for image in content["images"]:
        assert image["file_name"] == "../walk.avi"
        assert (image["width"], image["height"], image["nframes"]) == (WIDTH, HEIGHT, 8)
        assert image["is_labeled"] is True
        assert image["vid_id"] == "walk"
    assert 2 not in [person["image_id"] for person in content["annotations"]]
    person = content["annotations"][0]
    assert len(person["keypoints"]) == 51
    assert person["keypoints"][:3] == pytest.approx([20.1, 20, 1])
    assert person["keypoints"][27:30] == [0, 0, 0]
    assert person["scores"][9] == pytest.approx(0.29)
    assert person["num_keypoints"] == 16
    assert person["bbox"] == pytest.approx([15.1, 15, 30, 90], abs=0.11)
    assert (person["category_id"], person["id"]) == (1, 1)
    assert {person["track_id"] for person in content["annotations"]} == {0}
    assert (summary.frames, summary.people, summary.unsure, summary.complete) == (8, 7, 5, True)


def test_uncertain_people_become_ignore_regions(video: Path, tmp_path: Path):
    summary = label(frames(4), video, tmp_path / "labels", WalkingTeacher())
    images = json.loads(summary.labels.read_text())["images"]
    assert [image["ignore_regions_x"] for image in images] == [[], [], [], [[95, 125, 125, 95]]]
    assert images[3]["ignore_regions_y"] == [[15, 15, 105, 105]]


def test_training_reads_the_labels_back(video: Path, tmp_path: Path):
    summary = label(frames(8), video, tmp_path / "labels", WalkingTeacher())
    data = read_posetrack([summary.labels], tmp_path / "labels", COCO17)
    (read,) = data.videos
    assert data.pseudo
    assert read.numbers == tuple(range(8))
    assert read.images[5].file.frame == 5
    assert read.images[5].file.path.resolve() == video.resolve()
    assert read.images[0].poses.shape == (1, 17, 3)
    assert read.images[0].poses[0, 9, 2] == 0
    assert len(read.images[2].poses) == 0
    assert read.images[3].ignored.draw((WIDTH, HEIGHT))[60, 110] == 1


@pytest.mark.parametrize("teacher", [WalkingTeacher, RememberingTeacher])
@pytest.mark.parametrize("every", [1, 2])
def test_continued_run_gives_the_same_files(video: Path, tmp_path: Path, teacher: type[WalkingTeacher], every: int):
    whole = label(frames(8), video, tmp_path / "whole", teacher(), every)
    with pytest.raises(SourceError):
        label(frames(8, fails_at=5), video, tmp_path / "parts", teacher(), every)
    interrupted = json.loads((tmp_path / "parts" / "walk.json").read_text())
    assert interrupted["complete"] is False
    assert interrupted["next_frame"] == 5
    second = teacher()
    parts = label(frames(8), video, tmp_path / "parts", second, every)
    assert parts.labels.read_bytes() == whole.labels.read_bytes()
    assert parts.contact_sheet.read_bytes() == whole.contact_sheet.read_bytes()
    labelled = list(range(0, 8, every))
    assert second.seen_frames == (labelled if second.has_memory else [number for number in labelled if number >= 5])


def test_teacher_is_reset_before_each_source(video: Path, tmp_path: Path):
    teacher = RememberingTeacher()
    other = tmp_path / "other.avi"
    other.write_bytes(video.read_bytes())
    label(frames(5), other, tmp_path / "labels", teacher)
    second = label(frames(8), video, tmp_path / "labels", teacher)
    alone = label(frames(8), video, tmp_path / "alone", RememberingTeacher())
    assert second.labels.read_bytes() == alone.labels.read_bytes()


def test_labels_with_a_byte_order_mark_are_continued(video: Path, tmp_path: Path):
    path = label(frames(4), video, tmp_path / "labels", WalkingTeacher()).labels
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert label(frames(8), video, tmp_path / "labels", WalkingTeacher()).frames == 8


def test_stopped_run_saves_incomplete_labels_and_can_be_continued(video: Path, tmp_path: Path):
    answers = iter([False, False, True])
    summary = label(frames(8), video, tmp_path / "labels", WalkingTeacher(), stop=lambda: next(answers))
    assert (summary.frames, summary.complete) == (3, False)
    again = label(frames(8), video, tmp_path / "labels", WalkingTeacher())
    assert (again.frames, again.complete) == (8, True)


def test_interrupted_frame_is_left_out(video: Path, tmp_path: Path):
    class Interrupted(WalkingTeacher):
        def people(self, image: NDArray[np.uint8]) -> list[Person]:
            if image[0, 0, 0] == 4:
                raise KeyboardInterrupt
            return super().people(image)

    with pytest.raises(KeyboardInterrupt):
        label(frames(8), video, tmp_path / "labels", Interrupted())
    content = json.loads((tmp_path / "labels" / "walk.json").read_text())
    assert [image["frame_id"] for image in content["images"]] == [0, 1, 2, 3]
    assert content["next_frame"] == 4


def test_progress_is_saved_during_the_run(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0)
    path = tmp_path / "labels" / "walk.json"
    next_frames = []

    def record_progress() -> bool:
        next_frames.append(json.loads(path.read_text())["next_frame"])
        return False

    label(frames(3), video, tmp_path / "labels", WalkingTeacher(), stop=record_progress)
    assert next_frames == [1, 2, 3]


def test_labels_can_start_at_a_later_frame(video: Path, tmp_path: Path):
    def later_frames() -> Iterator[Frame]:
        return (frame for frame in frames(8) if frame.number >= 5)

    summary = label(later_frames(), video, tmp_path / "labels", WalkingTeacher(), first=5)
    again = label(later_frames(), video, tmp_path / "labels", WalkingTeacher(), first=5)
    assert (summary.added, again) == (3, replace(summary, added=0))
    (read,) = read_posetrack([summary.labels], tmp_path / "labels", COCO17).videos
    assert read.numbers == (5, 6, 7)


def test_labels_that_cannot_be_continued_are_refused_in_one_line(video: Path, tmp_path: Path):
    out = tmp_path / "labels"
    path = label(frames(2), video, out, WalkingTeacher()).labels
    before = path.read_bytes()
    with pytest.raises(DataError, match="another teacher"):
        label(frames(2), video, out, WalkingTeacher("another"))
    with pytest.raises(DataError, match="has every frame, not every 2nd frame"):
        label(frames(2), video, out, WalkingTeacher(), every=2)
    with pytest.raises(DataError, match="begins with frame 0, not 3"):
        label(frames(2), video, out, WalkingTeacher(), first=3)
    other = tmp_path / "other" / "walk.avi"
    other.parent.mkdir()
    other.write_bytes(b"")
    with pytest.raises(DataError, match="other footage"):
        label(frames(2), other, out, WalkingTeacher())
    assert path.read_bytes() == before
    for text in ("", before.decode()[:200], '{"images": []}', "[]"):
        path.write_text(text)
        with pytest.raises(DataError, match="not a file of pseudo labels") as caught:
            label(frames(2), video, out, WalkingTeacher())
        assert "\n" not in str(caught.value)
        assert path.read_text() == text


def test_sources_that_cannot_be_labelled_leave_no_files(video: Path, tmp_path: Path):
    out = tmp_path / "labels"
    with pytest.raises(DataError, match="every is 0, must be at least 1"):
        label(frames(2), video, out, WalkingTeacher(), every=0)
    with pytest.raises(DataError, match="no video or folder"):
        label(frames(2), tmp_path / "missing.avi", out, WalkingTeacher())
    with pytest.raises(DataError, match="no frames"):
        label(frames(0), video, out, WalkingTeacher())
    assert not out.exists() or not list(out.iterdir())


def test_images_of_a_folder_are_listed_by_path(tmp_path: Path):
    folder = tmp_path / "footage" / "walk"
    folder.mkdir(parents=True)
    images = [folder / f"{number}.png" for number in range(3)]
    for image, frame in zip(images, frames(3), strict=True):
        cv2.imwrite(str(image), frame.image)
    near = label(frames(3), folder, tmp_path / "footage" / "labels", WalkingTeacher(), image_files=images)
    names = [image["file_name"] for image in json.loads(near.labels.read_text())["images"]]
    assert names == ["../walk/0.png", "../walk/1.png", "../walk/2.png"]
    far = label(frames(3), folder, tmp_path / "elsewhere" / "labels", WalkingTeacher(), image_files=images)
    names = [image["file_name"] for image in json.loads(far.labels.read_text())["images"]]
    assert names == [str(image.resolve()) for image in images]
    with pytest.raises(DataError, match="images were added or removed"):
        label(frames(3), folder, tmp_path / "elsewhere" / "labels", WalkingTeacher(), image_files=images[1:])
    with pytest.raises(DataError, match="would be one of the images to label"):
        label(frames(3), folder, folder, WalkingTeacher(), image_files=images)


def test_contact_sheet_shows_evenly_spread_frames_with_people(video: Path, tmp_path: Path):
    def fifty_frames() -> Iterator[Frame]:
        return (Frame(number, 0.0, np.full((HEIGHT, WIDTH, 3), number, np.uint8)) for number in range(50))

    summary = label(fifty_frames(), video, tmp_path / "labels", WalkingTeacher())
    sheet = cv2.imread(str(summary.contact_sheet))
    assert sheet is not None
    # Every fourth of the 50 frames is shown: 13 images in four rows of four.
    rows, columns = 4, 4
    tile = sheet.shape[0] // rows, sheet.shape[1] // columns
    assert tile[1] / tile[0] == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    for place in range(13):
        top, left = place // columns * tile[0], place % columns * tile[1]
        shown = sheet[top : top + tile[0], left : left + tile[1]]
        assert abs(float(np.median(shown)) - 4 * place) <= 3
        assert (np.ptp(shown, axis=2) > 60).sum() > 100  # skeletons are drawn in colours
