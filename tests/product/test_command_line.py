"""The whole product as its users see it: the command ``stm-skeletons``."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import torch
from command import COMMAND, refused, stm

from export.export import Options, export_bundle
from stm_skeletons.bundle import Bundle, BundleInfo
from training.model import Edge, ModelConfig, build
from training.model.weights import load_weights, save_weights


def test_the_main_job_on_the_sample_clip(clip: Path, tmp_path: Path):
    parts, overlay = tmp_path / "parts.jsonl", tmp_path / "overlay.mp4"
    result = stm("run", clip, "--parts", parts, "--overlay", overlay)
    assert (result.returncode, result.stdout) == (0, "")
    assert re.fullmatch(
        r"stm-skeletons: .*: 100 frames at .* fps on the CPU with .* \(change with --backend\); .* people and "
        r".* keypoints per frame; wrote .*\n",
        result.stderr,
    ), "the closing line"
    lines = [json.loads(line) for line in parts.read_text().splitlines()]
    schema = json.loads(stm("schema", "parts").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    for number, line in enumerate(lines):
        jsonschema.validate(line, schema)
        assert line["frame"] == number
        assert len(line["keypoints"]["left_shoulder"]) + len(line["keypoints"]["right_shoulder"]) >= 3
        assert line["people"]
    assert len(lines) == 100
    ids = [{person["id"] for person in line["people"]} for line in lines]
    assert ids[0] == {None}, "ids need a second frame that confirms the person"
    assert any(len(one & other - {None}) >= 3 for one, other in zip(ids[:50], ids[50:], strict=True))
    capture = cv2.VideoCapture(str(overlay))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.mp4", "parts.jsonl"]


def test_run_without_outputs_prints_people_unless_quiet(clip: Path, edge_bundle: Path):
    result = stm("run", clip, "--model", edge_bundle, "--min-score", "0", "--max-frames", "3")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"frame \d, \d\.\d\d s: \d+ people(: [-\d ]+)?", line) for line in lines)
    result = stm("run", clip, "--model", edge_bundle, "--max-frames", "3", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_images_in_images_out(clip: Path, edge_bundle: Path, tmp_path: Path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "b").mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip))
    for name in ("img2.png", "img10.jpg", "b/1.png"):
        cv2.imwrite(str(folder / name), np.asarray(capture.read()[1]))
    run = ("--model", edge_bundle, "--sequence")
    assert stm("run", folder / "img2.png", *run, "--overlay", tmp_path / "one.png").returncode == 0
    assert np.asarray(cv2.imread(str(tmp_path / "one.png"))).shape == (576, 768, 3)
    lines = tmp_path / "p.jsonl"
    result = stm("run", folder, *run, "--recursive", "--overlay", out, "--parts", lines)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["file"] for line in lines.read_text().splitlines()] == ["b/1.png", "img2.png", "img10.jpg"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["b/1.png", "img10.jpg", "img2.png"]
    assert "give a folder" in refused("run", folder, *run, "--overlay", tmp_path / "two.png")
    assert "already exists" in refused("run", folder, *run, "--recursive", "--overlay", out)
    (folder / "img3.png").write_bytes(b"")
    result = stm("run", folder, *run, "--skip-broken", "--quiet")
    assert result.returncode == 3
    assert "skipped 1 images" in result.stderr


def test_killed_run_leaves_whole_lines_and_no_lock(clip: Path, edge_bundle: Path, tmp_path: Path):
    parts, overlay = tmp_path / "parts.jsonl", tmp_path / "overlay.avi"
    arguments = ["run", str(clip), "--model", str(edge_bundle), "--parts", str(parts), "--overlay", str(overlay)]
    with subprocess.Popen([*COMMAND, *arguments, "--threads", "1"], stderr=subprocess.DEVNULL) as process:
        while not parts.exists() or len(parts.read_bytes().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert [json.loads(line)["frame"] for line in parts.read_text().splitlines()[:3]] == [0, 1, 2]
    assert parts.read_text().endswith("\n")
    result = stm(*arguments, "--force", "--max-frames", "2")
    assert result.returncode == 0, result.stderr
    assert len(parts.read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.avi", "parts.jsonl"]


@pytest.mark.slow
def test_every_frame_of_every_shared_video_has_a_line(shared: Path, edge_bundle: Path, tmp_path: Path):
    for video in sorted((shared / "video").iterdir()):
        capture = cv2.VideoCapture(str(video))
        count = 0
        while capture.grab():
            count += 1
        parts = tmp_path / f"{video.stem}.jsonl"
        result = stm("run", video, "--model", edge_bundle, "--parts", parts)
        assert result.returncode == 0, result.stderr
        assert len(parts.read_text().splitlines()) == count


def test_python_example_of_the_readme_prints_wrists():
    root = Path(__file__).parents[2]
    readme = (root / "README.md").read_text(encoding="utf-8")
    code = readme.partition("<!-- wrists -->\n```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 10
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert (result.returncode, result.stderr) == (0, "")
    wrist = r" -?\d+\.\d,-?\d+\.\d \([01]\.\d\d\)"
    assert all(re.fullmatch(rf"\d+{wrist}{wrist}", line) for line in result.stdout.splitlines())
    ids = [line.split()[0] for line in result.stdout.splitlines()]
    assert {"0", "1", "2", "3"} <= set(ids)
    assert ids.count("1") > 10


def test_people_are_written_in_the_formats_of_data_sets(clip: Path, tmp_path: Path):
    few = ("--max-frames", "6", "--min-score", "0.2", "--min-joints", "5")
    for name in ("jsonl", "coco", "posetrack18"):
        result = stm("run", clip, "--format", name, "--parts", tmp_path / name, *few)
        assert (result.returncode, result.stdout) == (0, "")
        assert len(result.stderr.splitlines()) == 1, "the closing line"
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    coco, posetrack = (json.loads((tmp_path / name).read_text()) for name in ("coco", "posetrack18"))
    people = [person for line in lines for person in line["people"]]
    assert len(people) == len(coco["annotations"]) > 6
    assert len([person for person in people if person["id"]]) == len(posetrack["annotations"]) > 6
    assert min(person["score"] for person in people) >= 0.2
    assert min(17 - len(person["predicted"]) for person in people) >= 5
    assert [image["frame_id"] for image in posetrack["images"]] == list(range(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "jsonl", "posetrack18"]


def test_draw_option_changes_the_overlay(clip: Path, edge_bundle: Path, tmp_path: Path):
    images = {}
    for draw in ("people", "parts", "maps"):
        overlay = tmp_path / f"{draw}.avi"
        result = stm("run", clip, "--model", edge_bundle, "--overlay", overlay, "--draw", draw, "--max-frames", "2")
        assert result.returncode == 0, result.stderr
        images[draw] = cv2.VideoCapture(str(overlay)).read()[1]
    for one, other in (("people", "parts"), ("parts", "maps"), ("maps", "people")):
        assert np.abs(images[one].astype(float) - images[other]).mean() > 0.1


def test_invalid_run_options_are_rejected(clip: Path, edge_bundle: Path, tmp_path: Path):
    parts = ("--parts", tmp_path / "p.json")
    for options, message in (
        (("--format", "coco"), "--format coco requires --parts FILE"),
        (("--format", "posetrack18", "--parts", "-"), "--format posetrack18 requires --parts FILE"),
        (("--format", "voc", *parts), "voc"),
        (("--draw", "maps", *parts), "--draw maps requires --overlay or --window"),
        (("--draw", "faces", "--overlay", tmp_path / "o.avi"), "faces"),
        (("--min-score", "1.01", *parts), "--min-score"),
        (("--min-score", "-0.01", *parts), "--min-score"),
        (("--min-score", "nan", *parts), "--min-score"),
        (("--min-score", "many", *parts), "--min-score"),
        (("--min-joints", "-1", *parts), "--min-joints"),
        (("--min-joints", "18", *parts), "--min-joints"),
        (("--min-joints", "2.5", *parts), "--min-joints"),
    ):
        assert message in refused("run", clip, "--model", edge_bundle, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_options_for_people_are_rejected_if_the_bundle_finds_none(clip: Path, tmp_path: Path):
    weights, bundle = tmp_path / "w.safetensors", tmp_path / "stm"
    save_weights(weights, build(ModelConfig(variant="stm", width=0.0625)), "random, for tests")
    export_bundle(weights, bundle, Options(width=96, height=64, slots=2, every=2, peaks=3))
    for options in (("--format", "coco"), ("--min-score", "0.3"), ("--min-joints", "3")):
        message = refused("run", clip, "--model", bundle, "--parts", tmp_path / "p.json", *options)
        assert f"{' '.join(options) if options[0] == '--format' else options[0]} needs people" in message
    ran = stm("run", clip, "--model", bundle, "--parts", "-", "--max-frames", "2")
    assert [json.loads(line)["people"] for line in ran.stdout.splitlines()] == [[], []]


def test_parts_can_go_to_standard_output(clip: Path, edge_bundle: Path):
    result = stm("run", clip, "--model", edge_bundle, "--parts", "-", "--max-frames", "3", "--threads", "1")
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 1, 2]


def test_closed_pipe_ends_the_run_quietly(clip: Path, edge_bundle: Path):
    command = [*COMMAND, "run", str(clip), "--model", str(edge_bundle), "--parts", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert re.fullmatch(r"stm-skeletons: .*: \d+ frames at .* \(stopped early\)\n", process.stderr.read())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signals_end_the_run_with_complete_files(clip: Path, tmp_path: Path, number: signal.Signals):
    parts, overlay = tmp_path / "parts.jsonl", tmp_path / "overlay.mp4"
    folder = tmp_path / "frames"
    folder.mkdir()
    capture = cv2.VideoCapture(str(clip))
    _, image = capture.read()
    assert image is not None
    for i in range(2000):
        # Many names, one image: a source that outlasts the test.
        target = folder / f"{i:04}.png"
        cv2.imwrite(str(target), image) if i == 0 else os.link(folder / "0000.png", target)
    arguments = ["run", str(folder), "--parts", str(parts), "--overlay", str(overlay)]
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".overlay*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        printed = process.stderr.read()
    lines = [json.loads(line) for line in parts.read_text().splitlines()]
    assert 0 < len(lines) < 2000
    assert f": {len(lines)} frames at" in printed
    assert printed.endswith(f"wrote {parts} and {overlay} (stopped early)\n")
    assert cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)
    assert not list(tmp_path.glob(".*"))


def test_a_seed_is_read_from_a_coco_file(shared: Path, edge_bundle: Path, tmp_path: Path):
    annotations = json.loads((shared / "coco" / "person_keypoints_train.json").read_text())
    first = annotations["images"][0]
    image = shared / "coco" / "images" / Path(first["file_name"]).name
    seed = shared / "coco" / "person_keypoints_train.json"
    result = stm("run", image, "--model", edge_bundle, "--seed", seed, "--parts", tmp_path / "seeded.jsonl")
    assert result.returncode == 0, result.stderr
    result = stm("run", image, "--model", edge_bundle, "--parts", tmp_path / "cold.jsonl")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "seeded.jsonl").read_text() != (tmp_path / "cold.jsonl").read_text()


def test_bad_sources(tmp_path: Path, clip: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    (tmp_path / "short.avi").write_bytes(clip.read_bytes()[:500_000])
    (tmp_path / "readme.txt").write_text("a long story\n" * 99)
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    out = tmp_path / "out"
    out.mkdir()
    for source, message in {
        tmp_path / "missing.mp4": "no file, folder or camera",
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "text.mp4": "not a video",
        tmp_path / "short.avi": "truncated",
        out: "contains no images",
        tmp_path / "readme.txt": "is a text file",
        "": "name is empty",
        "9" * 20: "no file, folder or camera",
        "x" * 300: "name too long",
        tmp_path / "huge.png": "cannot decode",
    }.items():
        assert message in refused("run", source, "--parts", out / "p.jsonl", "--overlay", out / "o.mp4")
        assert list(out.iterdir()) == []


def test_bad_models_backends_and_providers(clip: Path, edge_bundle: Path, tmp_path: Path):
    import onnxruntime

    cases = {
        ("--model", "yolo"): "no model or bundle 'yolo'",
        ("--model", str(tmp_path)): "is not a bundle",
        ("--backend", "tensorrt9"): "unknown backend 'tensorrt9'",
        ("--provider", "tpu"): "unknown provider 'tpu'",
    }
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        cases["--provider", "cuda"] = "provider 'cuda' is missing in this ONNX Runtime"
    for options, message in cases.items():
        assert message in refused("run", clip, *options, "--parts", tmp_path / "p.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_bad_seeds(clip: Path, edge_bundle: Path, tmp_path: Path):
    seed = tmp_path / "seed.json"
    joints = ["nose", "left_wrist"]
    whole = {
        "categories": [{"id": 1, "keypoints": joints}],
        "images": [{"id": 1, "width": 768, "height": 576}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 1, 3, 4, 1]}],
    }
    for content, message in (
        ("{", "is not JSON"),
        (json.dumps({**whole, "annotations": []}), "no person with labelled joints"),
        (json.dumps({**whole, "categories": [{"id": 1, "keypoints": ["tail", "nose"]}]}), "tail"),
        (json.dumps({**whole, "images": [{"id": 1, "width": 640, "height": 480}]}), "640x480"),
    ):
        seed.write_text(content)
        options = ("--model", edge_bundle, "--seed", seed, "--parts", tmp_path / "p.jsonl")
        assert message in refused("run", clip, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["seed.json"]


def test_unwritable_outputs(clip: Path, edge_bundle: Path, tmp_path: Path):
    for option, target, message in (
        ("--parts", tmp_path / "missing" / "p.jsonl", "does not exist"),
        ("--overlay", tmp_path / "missing" / "o.mp4", "does not exist"),
        ("--overlay", tmp_path / "o.gif", "must end in one of"),
        ("--parts", tmp_path, "it is a folder"),
    ):
        assert message in refused("run", clip, "--model", edge_bundle, option, target)
    both = ("--parts", tmp_path / "x.mp4", "--overlay", tmp_path / "x.mp4")
    assert "another output" in refused("run", clip, "--model", edge_bundle, *both)
    assert list(tmp_path.iterdir()) == []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "device or pipe" in refused("run", clip, "--model", edge_bundle, "--parts", pipe)
    assert pipe.is_fifo()
    source = tmp_path / "source.avi"
    source.write_bytes(clip.read_bytes())
    assert "an input" in refused("run", source, "--model", edge_bundle, "--overlay", tmp_path / "." / "source.avi")
    assert source.read_bytes() == clip.read_bytes()


def test_a_full_disk_is_an_error(clip: Path, edge_bundle: Path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = [*COMMAND, "run", str(clip), "--model", str(edge_bundle), "--parts", "-", "--max-frames", "3"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 2
    assert "No space left" in result.stderr.splitlines()[0]


def test_usage_errors_are_reported_in_one_line(clip: Path):
    assert "--max-frames" in refused("run", clip, "--max-frames", "many")
    assert "--threads" in refused("run", clip, "--threads", "0")
    assert "--bogus" in refused("run", clip, "--bogus")
    assert "dance" in refused("dance")
    assert "SOURCE" in refused("run").upper()


def test_info_doctor_help_and_version_print_text(edge_bundle: Path):
    info = stm("info", edge_bundle)
    assert info.returncode == 0
    for words in ("edge", "160 x 96", "4 slots", "by centres and edges", "random, for tests"):
        assert words in info.stdout
    doctor = stm("doctor")
    assert doctor.returncode == 0, doctor.stderr
    assert "This machine can run" in doctor.stdout
    assert " fps, " in " ".join(doctor.stdout.split())
    assert stm("--help").returncode == 0
    assert stm("--version").stdout.strip().count(".") == 2


def test_new_weights_become_a_bundle_that_runs(tmp_path: Path, clip: Path):
    weights, bundle = tmp_path / "w.safetensors", tmp_path / "deep" / "bundle"
    made = stm("init", "edge", "--out", weights, "--skeleton", "posetrack15")
    assert made.returncode == 0, made.stderr
    sizes = ("--size", "160x96", "--slots", "3", "--every", "2", "--peaks", "3")
    exported = stm("export", weights, "--out", bundle, *sizes)
    assert exported.returncode == 0, exported.stderr
    assert "closed loop" in exported.stdout
    info = stm("info", bundle)
    assert "3 slots: first frame, previous frame, others 2 frames apart" in " ".join(info.stdout.split())
    ran = stm("run", clip, "--model", bundle, "--parts", "-", "--max-frames", "2")
    assert ran.returncode == 0, ran.stderr
    line = json.loads(ran.stdout.splitlines()[0])
    assert "head_top-nose" in line["edges"]
    assert "head_top" in line["keypoints"]


@pytest.fixture(scope="module")
def trained(edge_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of edge as after training with a memory of four slots, every third frame."""
    model, _ = load_weights(edge_weights)
    assert isinstance(model, Edge)
    torch.nn.init.constant_(model.slot_match, 3.7)
    path = tmp_path_factory.mktemp("trained") / "edge.safetensors"
    save_weights(path, model, "random, for tests", {"memory": {"slots": 4, "every": 3, "truncate": 8}})
    return path


def exported(weights: Path, out: Path, *options: str) -> BundleInfo:
    result = stm("export", weights, "--out", out, "--size", "160x96", "--peaks", "8", *options)
    assert result.returncode == 0, result.stderr
    return Bundle.open(out).info


def test_training_settings_reach_the_bundle_and_weights_made_from_it(trained: Path, tmp_path: Path):
    """Exporting again gives the same graphs; weights of edge are rounded by default."""
    first = exported(trained, tmp_path / "first")
    shipped = Bundle.open("edge").info.keypoint_threshold
    assert (first.slots, first.every, first.keypoint_threshold) == (4, 3, shipped)
    assert (first.precision, first.stored_weights) == ("fp32", "fp16")
    made = stm("init", "edge", "--from", tmp_path / "first", "--out", tmp_path / "again.safetensors")
    assert made.returncode == 0, made.stderr
    again = exported(tmp_path / "again.safetensors", tmp_path / "again")
    changed = {"weights_sha256": again.weights_sha256, "weights_origin": again.weights_origin}
    assert again == first.model_copy(update=changed)
    assert changed["weights_origin"] == "random, for tests; taken from a bundle, rounded to FP16"


def test_options_override_training_settings(trained: Path, tmp_path: Path):
    options = ("--slots", "3", "--every", "2", "--no-compact", "--threshold", "0.45")
    info = exported(trained, tmp_path / "b", *options)
    assert (info.slots, info.every, info.keypoint_threshold) == (3, 2, 0.45)
    assert info.stored_weights == "fp32"
    info = exported(trained, tmp_path / "b", "--slots", "3", "--compact", "--threshold", "1")
    assert (info.slots, info.every, info.keypoint_threshold) == (3, 3, 1)
    assert info.stored_weights == "fp16"


def test_bad_exports_and_inits(tmp_path: Path, edge_weights: Path):
    out = tmp_path / "b"
    assert "multiple of 32" in refused("export", edge_weights, "--out", out, "--size", "100x96")
    assert "WIDTHxHEIGHT" in refused("export", edge_weights, "--out", out, "--size", "huge")
    assert "every is 0, must be at least 1" in refused("export", edge_weights, "--out", out, "--every", "0")
    assert "slots is 0, must be at least 2" in refused("export", edge_weights, "--out", out, "--slots", "0")
    assert "--threshold" in refused("export", edge_weights, "--out", out, "--threshold", "1.01")
    assert "--threshold" in refused("export", edge_weights, "--out", out, "--threshold", "-0.1")
    assert "no weights file" in refused("export", tmp_path / "none", "--out", out)
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(np.random.default_rng(0).bytes(1000))
    assert "not a safetensors file" in refused("export", junk, "--out", out)
    weights = tmp_path / "w.safetensors"
    assert "unknown skeleton" in refused("init", "edge", "--out", weights, "--skeleton", "hand")
    assert "edges_only" in refused("init", "edge", "--out", weights, "--edges-only")
    assert "edges_only" in refused("init", "edge", "--out", weights, "--edges-only", "--from", "edge")
    assert "another network" in refused("init", "stm", "--out", weights, "--from", "edge")
    assert "not a bundle" in refused("init", "edge", "--out", weights, "--from", tmp_path)
    assert f"cannot read {junk} as ONNX" in refused("init", "edge", "--out", weights, "--from", junk)
    assert f"cannot read {junk} as PyTorch" in refused("init", "stm", "--out", weights, "--from", junk)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junk.safetensors"]
