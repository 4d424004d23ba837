"""COCO's and PoseTrack18's JSON written from real lines, read back by pycocotools and our own readers."""

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
    """Folder with the output of the shipped model for the sample clip in every format, and the clip's first frames."""
    folder = tmp_path_factory.mktemp("results")
    source = open_source(str(clip))
    footage = Footage.of(source, str(clip))
    sinks: list[Sink] = [JsonLinesSink(str(folder / "parts.jsonl"))]
    sinks += [DataSetSink(str(folder / f"{name}.json"), writer, footage) for name, writer in WRITERS.items()]
    with Session.open("edge", BackendOptions(threads=1), min_score=0.2) as session:
        run(source, session, sinks, FRAMES)
    assert sorted(path.name for path in folder.iterdir()) == ["coco.json", "parts.jsonl", "posetrack18.json"]
    images = folder / clip.stem
    images.mkdir()
    for frame in open_source(str(clip)):
        if frame.number < FRAMES:
            cv2.imwrite(str(images / f"{frame.number:06}.jpg"), frame.image)
    return folder


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]


def joints_in_frame(line: dict, person: dict, with_predicted: bool) -> dict[str, list[float]]:
    """x, y of a person's joints inside the frame, by name."""
    width, height = line["size"]
    return {
        joint: [x, y]
        for i, (joint, (x, y, _)) in enumerate(zip(COCO17.joints, person["keypoints"], strict=True))
        if (with_predicted or i not in person["predicted"]) and 0 <= x <= width and 0 <= y <= height and (x or y)
    }


def poses_of(image: LabelledImage, joints: tuple[str, ...]) -> list[dict[str, list[float]]]:
    """The same for all people of an image that was read."""
    return [{joint: pose[i, :2].tolist() for i, joint in enumerate(joints) if pose[i, 2] == 1} for pose in image.poses]


def assert_same_poses(written: list[dict[str, list[float]]], read: list[dict[str, list[float]]]) -> None:
    assert [set(one) for one in written] == [set(one) for one in read]
    for one, other in zip(written, read, strict=True):
        for joint, xy in one.items():
            assert xy == pytest.approx(other[joint], abs=1e-3)


def test_coco_reads_back_as_written(results: Path, clip: Path):
    lines = lines_of(results)
    assert sum(len(line["people"]) for line in lines) > 3 * FRAMES
    data = read_coco(results / "coco.json", results, COCO17)
    assert data.problems == ()
    images = {image.file.path.name: image for image in data.images}
    for line in lines:
        if not line["people"]:
            continue
        image = images[f"{line['frame']:06}.jpg"]
        assert image.size == (768, 576)
        assert_same_poses(
            [joints_in_frame(line, person, with_predicted=True) for person in line["people"]],
            poses_of(image, COCO17.joints),
        )
        boxes = np.array([person["box"] for person in line["people"]])
        np.testing.assert_allclose(image.boxes, np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), atol=1e-3)


def test_pycocotools_reads_coco_as_labels_and_as_results(results: Path, capsys: pytest.CaptureFixture[str]):
    truth: Any = COCO(str(results / "coco.json"))
    assert truth.getCatIds(catNms=["person"]) == [1]
    category = truth.cats[1]
    assert tuple(category["keypoints"]) == COCO17.joints
    assert tuple((a - 1, b - 1) for a, b in category["skeleton"]) == COCO17.edges
    assert sorted(truth.imgs) == list(range(FRAMES))
    found = truth.loadRes(json.loads((results / "coco.json").read_text())["annotations"])
    assert len(found.anns) == len(truth.anns)
    people = [(line, person) for line in lines_of(results) for person in line["people"]]
    for (line, person), note in zip(people, truth.dataset["annotations"], strict=True):
        v = np.array(note["keypoints"][2::3])
        assert note["image_id"] == line["frame"]
        assert note["score"] == person["score"]
        assert note.get("track_id") == person["id"]
        assert note["iscrowd"] == 0
        assert note["num_keypoints"] == (v > 0).sum()
        found_joints = joints_in_frame(line, person, with_predicted=False)
        np.testing.assert_array_equal(v == 2, [joint in found_joints for joint in COCO17.joints])
        assert note["area"] == pytest.approx(person["box"][2] * person["box"][3], abs=0.06)


@pytest.mark.parametrize("skeleton", [COCO17, POSETRACK15], ids=lambda skeleton: skeleton.name)
def test_posetrack18_reads_back_with_tracks_and_frames_of_the_video(results: Path, clip: Path, skeleton):
    data = read_posetrack([results / "posetrack18.json"], results, skeleton)
    assert data.problems == ()
    assert data.pseudo, "labels made by a network"
    (video,) = data.videos
    assert list(video.numbers) == list(range(FRAMES))
    for line, image in zip(lines_of(results), video.images, strict=True):
        assert image.file.path.resolve() == clip.resolve()
        assert image.file.frame == line["frame"]
        tracked = [person for person in line["people"] if person["id"]]
        assert image.tracks.tolist() == [person["id"] for person in tracked]
        expected = [joints_in_frame(line, person, with_predicted=False) for person in tracked]
        assert_same_poses(
            [{joint: xy for joint, xy in pose.items() if joint in SHARED_JOINTS} for pose in expected],
            poses_of(image, skeleton.joints),
        )


def test_posetrack18_has_the_fields_that_its_tools_need(results: Path, capsys: pytest.CaptureFixture[str]):
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
        assert not keypoints[1:3].any(), "neck and top of the head stay empty"


def make_person(**changes: Any) -> dict[str, Any]:
    keypoints = [[10.0 + i, 20.0, 0.5] for i in range(17)]
    return {"id": 1, "score": 0.5, "box": [10, 20, 16, 0], "keypoints": keypoints, "predicted": []} | changes


def convert(name: str, lines: list[dict], tmp_path: Path, footage: Footage | None = None) -> dict[str, Any]:
    file, out = tmp_path / "lines", StringIO()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    WRITERS[name](file, out, footage or Footage("clip"), tmp_path / "out.json")
    return json.loads(out.getvalue())


def make_line(number: int, *people: dict[str, Any], joints: tuple[str, ...] = COCO17.joints) -> dict[str, Any]:
    return {"frame": number, "size": [100, 50], "keypoints": {joint: [] for joint in joints}, "people": list(people)}


def test_predicted_unknown_and_outside_joints_get_their_visibility(tmp_path: Path):
    person = make_person(predicted=[3, 4, 5])
    person["keypoints"][0] = [0, 0, 0]
    person["keypoints"][4] = [-0.1, 20, 0.1]
    person["keypoints"][6] = [100.1, 20, 0.7]
    expected = {"coco": [0, 2, 2, 1, 0, 1, 0, *[2] * 10], "posetrack18": [0, 0, 0, 0, 0, 0, 0, *[1] * 10]}
    for name, v in expected.items():
        (note,) = convert(name, [make_line(0, person)], tmp_path)["annotations"]
        keypoints = np.reshape(note["keypoints"], (17, 3))
        assert keypoints[:, 2].tolist() == v
        assert not keypoints[keypoints[:, 2] == 0].any()
        assert note["num_keypoints"] == np.count_nonzero(v)


def test_people_without_joints_or_for_posetrack_without_id_are_left_out(tmp_path: Path):
    outside = make_person(keypoints=[[500, 20, 0.5]] * 17)
    lines = [
        make_line(0),
        make_line(1, make_person(id=None), outside),
        make_line(2, make_person(), make_person(id=2)),
    ]
    coco, posetrack = (convert(name, lines, tmp_path) for name in ("coco", "posetrack18"))
    assert [(note["id"], note["image_id"], note.get("track_id")) for note in coco["annotations"]] == [
        (1, 1, None),
        (2, 2, 1),
        (3, 2, 2),
    ]
    assert [(note["id"], note["image_id"], note["track_id"]) for note in posetrack["annotations"]] == [
        (1, 2, 1),
        (2, 2, 2),
    ]
    assert [image["id"] for image in posetrack["images"]] == [0, 1, 2], "frames without people are listed too"


def test_joints_of_another_skeleton_are_mapped_by_name(tmp_path: Path):
    keypoints = [[i + 1.0, 20.0, 0.5] for i in range(15)]
    lines = [make_line(0, make_person(keypoints=keypoints), joints=POSETRACK15.joints)]
    for name, joints in (("coco", COCO17.joints), ("posetrack18", POSETRACK18_JOINTS)):
        (note,) = convert(name, lines, tmp_path)["annotations"]
        x = dict(zip(joints, note["keypoints"][::3], strict=True))
        assert x == {j: POSETRACK15.joints.index(j) + 1 if j in POSETRACK15.joints else 0 for j in joints}


def test_images_of_a_folder_keep_their_names(tmp_path: Path):
    folder = tmp_path / "000342_mpii_test"
    folder.mkdir()
    for name in ("000000.jpg", "000004.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((50, 100, 3), np.uint8))
    footage = Footage.of(open_source(str(folder)), str(folder))
    lines = [make_line(0, make_person()), make_line(1)]
    coco, posetrack = (convert(name, lines, tmp_path, footage) for name in ("coco", "posetrack18"))
    assert [image["file_name"] for image in coco["images"]] == ["000000.jpg", "000004.jpg"]
    # PoseTrack's own tools identify the sequence by the folder.
    assert [image["file_name"] for image in posetrack["images"]] == [
        "000342_mpii_test/000000.jpg",
        "000342_mpii_test/000004.jpg",
    ]
    assert posetrack["images"][0]["vid_id"] == "000342_mpii_test"
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert len(read_coco(tmp_path / "coco.json", folder, COCO17).images) == 1


def test_frame_names_of_a_camera_do_not_contain_its_address(clip: Path):
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
                file.write(json.dumps(make_line(number, make_person(), make_person(id=2))) + "\n")
        with (tmp_path / "out.json").open("w") as out:
            tracemalloc.start()
            WRITERS[name](lines, out, Footage("clip"), tmp_path / "out.json")
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return used

    few, many = peak(20), peak(400)
    assert len(json.loads((tmp_path / "out.json").read_text())["annotations"]) == 800
    assert many < few + 50_000


def test_failed_write_keeps_the_old_file_and_leaves_no_other(edge_bundle: Path, clip: Path, tmp_path: Path):
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    old = tmp_path / "coco.json"
    old.write_text("yesterday's\n")
    footage = Footage("clip")
    with (
        Session.open(edge_bundle, BackendOptions(threads=1)) as session,
        pytest.raises(SinkError, match=r"coco\.json: No space left"),
    ):
        run(open_source(str(clip)), session, [DataSetSink(str(old), fail, footage, force=True)], 2)
    assert old.read_text() == "yesterday's\n"
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]
