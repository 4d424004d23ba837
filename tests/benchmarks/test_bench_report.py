"""The report of a short real run: its contents, files and schema; and invalid reports."""

import json
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from benchmarks.run import bench_files
from benchmarks.run.bench import bench
from benchmarks.run.bench_files import PLOTS, check_folder, report_markdown, write_report
from benchmarks.run.bench_report import Report, load_report, report_text
from benchmarks.run.bench_tables import tables
from benchmarks.run.latency import summarise
from benchmarks.run.measure import ALL_STAGES, Length
from benchmarks.run.one_stream import Options
from runtime.backends import BackendOptions
from stm_skeletons.errors import BenchmarkError, SinkError


@pytest.fixture(scope="module")
def options(edge_bundle: Path, clip: Path) -> Options:
    return Options(str(clip), str(edge_bundle), BackendOptions(threads=1), Length(frames=70), streams=(2,))


@pytest.fixture(scope="module")
def report(options: Options) -> Report:
    lines: list[str] = []
    found = bench(options, threading.Event(), lines.append)
    assert [" ".join(line.split()[:3]) for line in lines[1:]] == ["measuring 2 concurrent", "measuring 2 cameras"]
    return found


def test_figures_match_the_raw_times(report: Report):
    raw = report.raw
    ends = np.array(raw.decode) + np.array(raw.frame)
    assert len(raw.frame) == report.end_to_end.count == 70
    again = summarise(ends, 100.0)
    assert report.end_to_end.deadline == 100.0, "the clip has 10 fps"
    for name in ("mean", "p50", "p90", "max", "jitter"):
        assert getattr(report.end_to_end, name) == pytest.approx(getattr(again, name), abs=0.002)
    assert (report.end_to_end.p95, report.end_to_end.p99) == (None, None), "too few frames"
    assert report.fps == pytest.approx(1e3 / ends.mean(), rel=1e-3)
    assert tuple(report.stages) == ALL_STAGES
    assert sum(one.count for one in report.people) == 70
    assert len(raw.warm_up) == report.start.warm_up.count == 50
    assert report.start.first_frame == raw.warm_up[0]
    assert [one.streams for one in report.streams] == [2]
    assert report.soak is None


def test_report_has_memory_and_machine(report: Report):
    memory = report.memory
    assert memory.before is not None
    assert memory.steady is not None
    assert memory.peak is not None
    assert memory.before > 10
    assert memory.steady <= memory.peak
    assert memory.device_peak is None
    assert report.environment.source == "vtest-10s.avi"
    assert report.environment.threads == 1


def test_no_frame_is_lost(report: Report):
    """The clip has 100 frames: every frame is a warm-up frame, timed, with recorded stages, or skipped."""
    counted = len(report.raw.warm_up) + len(report.raw.frame) + len(report.raw.stages["decode"])
    frames = counted + report.run.frames_left_out
    assert 100 * (report.run.passes - 1) < frames <= 100 * report.run.passes
    assert report.run.frames_left_out < 20


def test_written_report_reads_back_equal(report: Report, tmp_path: Path):
    write_report(report, tmp_path / "deep" / "out")
    assert load_report(tmp_path / "deep" / "out") == report
    jsonschema.validate(json.loads((tmp_path / "deep" / "out" / "report.json").read_text()), Report.model_json_schema())
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == ["report.json", "report.md"]


def test_notes_and_markdown_say_that_f1_was_not_measured(report: Report):
    assert "F1 was not measured; --data measures it" in report_markdown(report, plots=False)
    assert "F1 was not measured; --data measures it." in report.notes


def test_markdown_shows_every_table_and_the_plots(report: Report):
    text = report_markdown(report, plots=True)
    for table in tables(report):
        assert f"## {table.title}" in text
        assert all(len(row) == len(table.header) for row in table.rows), table.title
    assert all(f"({name})" in text for name in PLOTS)
    assert "png" not in report_markdown(report, plots=False)


def test_plots_are_drawn_also_without_stages_or_memory(report: Report, tmp_path: Path):
    from benchmarks.workstation.bench_plots import write_plots

    assert {path.name for path in write_plots(report, tmp_path / "whole")} == set(PLOTS)
    memory = report.raw.memory.model_copy(update={"resident_mb": [None] * len(report.raw.memory.seconds)})
    raw = report.raw.model_copy(update={"memory": memory})
    bare = report.model_copy(update={"stages": {}, "raw": raw})
    for path in write_plots(bare, tmp_path / "bare"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_invalid_reports_are_rejected(report: Report, tmp_path: Path):
    file = tmp_path / "report.json"
    with pytest.raises(BenchmarkError, match="cannot read"):
        load_report(file)
    whole = report_text(report)
    unequal = json.loads(whole)
    unequal["raw"]["people"].pop()
    newer = {**json.loads(whole), "format": 2}
    for text, message in (
        (whole[: len(whole) // 2], "not a valid report"),
        ("{}", "not a valid report"),
        ("[1]", "not a valid report"),
        (json.dumps(newer), "format"),
        (json.dumps(unequal), "differ in length"),
    ):
        file.write_text(text)
        with pytest.raises(BenchmarkError, match=message) as caught:
            load_report(file)
        assert "\n" not in str(caught.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BenchmarkError, match="not a valid report"):
        load_report(file)


def test_unwritable_folders_are_rejected_before_the_run(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SinkError, match="is a file"):
            check_folder(folder)
    check_folder(tmp_path / "not" / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is created yet"


def test_stop_before_the_first_frame_gives_no_report(options: Options):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        bench(options, stop, lambda _line: None)


def test_report_without_matplotlib_says_how_to_get_plots(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench_files, "find_spec", lambda _name: None)
    write_report(report, tmp_path)
    assert "bench plots report.json" in (tmp_path / "report.md").read_text()
