"""COCO's and PoseTrack18's JSON made of real lines, read back by pycocotools and by our own readers."""

import json
import tracemalloc
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from runtime.backends import BackendOptions
from runtime.formats import POSETRACK18_JOINTS, WRITERS, Footage
from runtime.run import run
from runtime.session import Session
from runtime.sinks import DataSetSink, JsonLinesSink, Sink
from runtime.sources import open_source
from stm_skeletons.errors import SinkError
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.data.coco import read_coco
from training.data.labels import LabelledImage
from training.data.posetrack import read_posetrack

FRAMES = 15
SHARED_JOINTS = [joint for joint in POSETRACK15.joints if joint in COCO17.joints]


@pytest.fixture(scope="module")
def results(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one run of the shipped model on the sample clip gives in every format, and the clip cut."""
    folder = tmp_path_factory.mktemp("results")
    source = open_source(str(clip))
    footage = Footage.of(source, str(clip))
    sinks: list[Sink] = [JsonLinesSink(str(folder / "parts.jsonl"))]
    sinks += [DataSetSink(str(folder / f"{name}.json"), writer, footage) for name, writer in WRITERS.items()]
    with Session.open("edge", BackendOptions(threads=1), min_score=0.2) as session:
        run(source, session, sinks, FRAMES)
    assert sorted(path.name for path in folder.iterdir()) == ["coco.json", "parts.jsonl", "posetrack18.json"]
    frame_name = folder / clip.stem
    frame_name.mkdir()
    for frame in open_source(str(clip)):
        if frame.number < FRAMES:
            cv2.imwrite(str(frame_name / f"{frame.number:06}.jpg"), frame.image)
    return folder


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]


def found_in(line: dict, one: dict, placed: bool) -> dict[str, list[float]]:
    """x, y of the joints inside the frame that a person of a line has, by name."""
    width, height = line["size"]
    return {
        joint: [x, y]
        for i, (joint, (x, y, _)) in enumerate(zip(COCO17.joints, one["keypoints"], strict=True))
        if (placed or i not in one["predicted"]) and 0 <= x <= width and 0 <= y <= height and (x or y)
    }


def poses_of(picture: LabelledImage, joints: tuple[str, ...]) -> list[dict[str, list[float]]]:
    """The same of everybody in a picture that was read."""
    return [
        {joint: pose[i, :2].tolist() for i, joint in enumerate(joints) if pose[i, 2] == 1} for pose in picture.poses
    ]


def same(ours: list[dict[str, list[float]]], theirs: list[dict[str, list[float]]]) -> None:
    assert [set(one) for one in ours] == [set(one) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for joint, xy in one.items():
            assert xy == pytest.approx(other[joint], abs=1e-3)


def test_coco_is_read_back_as_it_was_written(results: Path, clip: Path):
    lines = lines_of(results)
    assert sum(len(line["people"]) for line in lines) > 3 * FRAMES
    data = read_coco(results / "coco.json", results, COCO17)
    assert data.problems == ()
    pictures = {picture.file.path.name: picture for picture in data.images}
    for line in lines:
        if not line["people"]:
            continue
        picture = pictures[f"{line['frame']:06}.jpg"]
        assert picture.size == (768, 576)
        same([found_in(line, one, placed=True) for one in line["people"]], poses_of(picture, COCO17.joints))
        boxes = np.array([one["box"] for one in line["people"]])
        np.testing.assert_allclose(picture.boxes, np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), atol=1e-3)


def test_coco_is_what_pycocotools_takes_as_truth_and_as_results(results: Path, capsys: pytest.CaptureFixture[str]):
    truth: Any = COCO(str(results / "coco.json"))
    assert truth.getCatIds(catNms=["person"]) == [1]
    category = truth.cats[1]
    assert tuple(category["keypoints"]) == COCO17.joints
    assert tuple((a - 1, b - 1) for a, b in category["skeleton"]) == COCO17.edges
    assert sorted(truth.imgs) == list(range(FRAMES))
    found = truth.loadRes(json.loads((results / "coco.json").read_text())["annotations"])
    assert len(found.anns) == len(truth.anns)
    people = [(line, one) for line in lines_of(results) for one in line["people"]]
    for (line, one), note in zip(people, truth.dataset["annotations"], strict=True):
        v = np.array(note["keypoints"][2::3])
        assert note["image_id"] == line["frame"]
        assert note["score"] == one["score"]
        assert note.get("track_id") == one["id"]
        assert note["iscrowd"] == 0
        assert note["num_keypoints"] == (v > 0).sum()
        seen = found_in(line, one, placed=False)
        np.testing.assert_array_equal(v == 2, [joint in seen for joint in COCO17.joints])
        assert note["area"] == pytest.approx(one["box"][2] * one["box"][3], abs=0.06)


@pytest.mark.parametrize("skeleton", [COCO17, POSETRACK15], ids=lambda skeleton: skeleton.name)
def test_posetrack18_is_read_back_with_its_tracks_and_frames_of_the_video(results: Path, clip: Path, skeleton):
    data = read_posetrack([results / "posetrack18.json"], results, skeleton)
    assert data.problems == ()
    assert data.pseudo, "a network's labels, not people's"
    (video,) = data.videos
    assert list(video.numbers) == list(range(FRAMES))
    for line, picture in zip(lines_of(results), video.images, strict=True):
        assert picture.file.path.resolve() == clip.resolve()
        assert picture.file.frame == line["frame"]
        followed = [one for one in line["people"] if one["id"]]
        assert picture.tracks.tolist() == [one["id"] for one in followed]
        expected = [found_in(line, one, placed=False) for one in followed]
        same(
            [{joint: xy for joint, xy in one.items() if joint in SHARED_JOINTS} for one in expected],
            poses_of(picture, skeleton.joints),
        )


def test_posetrack18_has_what_its_tools_ask_for(results: Path, capsys: pytest.CaptureFixture[str]):
    truth: Any = COCO(str(results / "posetrack18.json"))
    assert tuple(truth.cats[1]["keypoints"]) == POSETRACK18_JOINTS
    edges = {tuple(POSETRACK18_JOINTS[i - 1] for i in edge) for edge in truth.cats[1]["skeleton"]}
    assert edges == {(POSETRACK15.joints[a], POSETRACK15.joints[b]) for a, b in POSETRACK15.edges}
    assert len(truth.anns) > FRAMES
    for image in truth.dataset["images"]:
        assert (image["nframes"], image["vid_id"], image["is_labeled"]) == (FRAMES, "vtest-10s", True)
    for note in truth.dataset["annotations"]:
        keypoints = np.reshape(note["keypoints"], (17, 3))
        assert isinstance(note["track_id"], int)
        assert note["track_id"] > 0
        assert len(note["scores"]) == 17
        assert set(keypoints[:, 2]) <= {0, 1}
        assert not keypoints[keypoints[:, 2] == 0].any()
        assert not np.array(note["scores"])[keypoints[:, 2] == 0].any()
        assert not keypoints[1:3].any(), "nothing is made up for the neck and the top of the head"


def person(**changes: Any) -> dict[str, Any]:
    keypoints = [[10.0 + i, 20.0, 0.5] for i in range(17)]
    return {"id": 1, "score": 0.5, "box": [10, 20, 16, 0], "keypoints": keypoints, "predicted": []} | changes


def written(name: str, lines: list[dict], tmp_path: Path, footage: Footage | None = None) -> dict[str, Any]:
    file, out = tmp_path / "lines", StringIO()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    WRITERS[name](file, out, footage or Footage("clip"), tmp_path / "out.json")
    return json.loads(out.getvalue())


def frame(number: int, *people: dict[str, Any], joints: tuple[str, ...] = COCO17.joints) -> dict[str, Any]:
    return {"frame": number, "size": [100, 50], "keypoints": {joint: [] for joint in joints}, "people": list(people)}


def test_joints_that_are_placed_unknown_or_outside(tmp_path: Path):
    one = person(predicted=[3, 4, 5])
    one["keypoints"][0] = [0, 0, 0]
    one["keypoints"][4] = [-0.1, 20, 0.1]
    one["keypoints"][6] = [100.1, 20, 0.7]
    expected = {"coco": [0, 2, 2, 1, 0, 1, 0, *[2] * 10], "posetrack18": [0, 0, 0, 0, 0, 0, 0, *[1] * 10]}
    for name, v in expected.items():
        (note,) = written(name, [frame(0, one)], tmp_path)["annotations"]
        keypoints = np.reshape(note["keypoints"], (17, 3))
        assert keypoints[:, 2].tolist() == v
        assert not keypoints[keypoints[:, 2] == 0].any()
        assert note["num_keypoints"] == np.count_nonzero(v)


def test_who_has_no_id_or_no_joint_left(tmp_path: Path):
    gone = person(keypoints=[[500, 20, 0.5]] * 17)
    lines = [frame(0), frame(1, person(id=None), gone), frame(2, person(), person(id=2))]
    coco, posetrack = (written(name, lines, tmp_path) for name in ("coco", "posetrack18"))
    assert [(note["id"], note["image_id"], note.get("track_id")) for note in coco["annotations"]] == [
        (1, 1, None),
        (2, 2, 1),
        (3, 2, 2),
    ]
    assert [(note["id"], note["image_id"], note["track_id"]) for note in posetrack["annotations"]] == [
        (1, 2, 1),
        (2, 2, 2),
    ]
    assert [image["id"] for image in posetrack["images"]] == [0, 1, 2], "frames without anybody are there all the same"


def test_another_skeletons_joints_go_by_their_names(tmp_path: Path):
    keypoints = [[i + 1.0, 20.0, 0.5] for i in range(15)]
    lines = [frame(0, person(keypoints=keypoints), joints=POSETRACK15.joints)]
    for name, joints in (("coco", COCO17.joints), ("posetrack18", POSETRACK18_JOINTS)):
        (note,) = written(name, lines, tmp_path)["annotations"]
        x = dict(zip(joints, note["keypoints"][::3], strict=True))
        assert x == {j: POSETRACK15.joints.index(j) + 1 if j in POSETRACK15.joints else 0 for j in joints}


def test_images_of_a_folder_keep_their_names(tmp_path: Path):
    folder = tmp_path / "000342_mpii_test"
    folder.mkdir()
    for name in ("000000.jpg", "000004.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((50, 100, 3), np.uint8))
    footage = Footage.of(open_source(str(folder)), str(folder))
    lines = [frame(0, person()), frame(1)]
    coco, posetrack = (written(name, lines, tmp_path, footage) for name in ("coco", "posetrack18"))
    assert [image["file_name"] for image in coco["images"]] == ["000000.jpg", "000004.jpg"]
    # PoseTrack's own tools tell the sequence by the folder.
    assert [image["file_name"] for image in posetrack["images"]] == [
        "000342_mpii_test/000000.jpg",
        "000342_mpii_test/000004.jpg",
    ]
    assert posetrack["images"][0]["vid_id"] == "000342_mpii_test"
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert len(read_coco(tmp_path / "coco.json", folder, COCO17).images) == 1


def test_a_cameras_frames_are_named_without_its_address(clip: Path):
    class Camera:
        live = True

    address = "rtsp://user:secret@10.0.0.1/stream"
    for text in (address, "0", "v4l2src ! " + "videoconvert ! " * 99 + "appsink"):
        assert Footage.of(Camera(), text).frame_name(12) == "camera/000012.jpg"  # type: ignore[arg-type]
    assert Footage.of(Camera(), str(clip)).frame_name(12) == "vtest-10s/000012.jpg"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_the_lines(name: str, tmp_path: Path):
    def peak(count: int) -> int:
        lines = tmp_path / "lines"
        with lines.open("w") as file:
            for number in range(count):
                file.write(json.dumps(frame(number, person(), person(id=2))) + "\n")
        with (tmp_path / "out.json").open("w") as out:
            tracemalloc.start()
            WRITERS[name](lines, out, Footage("clip"), tmp_path / "out.json")
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return used

    few, many = peak(20), peak(400)
    assert len(json.loads((tmp_path / "out.json").read_text())["annotations"]) == 800
    assert many < few + 50_000


def test_what_goes_wrong_in_the_writing_leaves_nothing(edge_bundle: Path, clip: Path, tmp_path: Path):
    def break_down(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    old = tmp_path / "coco.json"
    old.write_text("yesterday's\n")
    footage = Footage("clip")
    with (
        Session.open(edge_bundle, BackendOptions(threads=1)) as session,
        pytest.raises(SinkError, match=r"coco\.json: No space left"),
    ):
        run(open_source(str(clip)), session, [DataSetSink(str(old), break_down, footage, force=True)], 2)
    assert old.read_text() == "yesterday's\n"
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]
