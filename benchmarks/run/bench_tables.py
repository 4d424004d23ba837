"""Tables of a report, for the terminal and for Markdown."""

from benchmarks.run.bench_report import F1, Report
from benchmarks.run.environment import Environment, State
from benchmarks.run.latency import Summary
from benchmarks.run.tail import Estimate, TailChange
from stm_skeletons.table import Table

UNKNOWN = "-"


def tables(report: Report) -> list[Table]:
    """All tables of a report that have rows."""
    makers = (_latency, _stages, _streams, _groups, _start, _memory, _soak, _people, accuracy_table, _run, _environment)
    return [table for make in makers if (table := make(report)).rows]


F1_HEADER = ("data", "sequences", "threshold", "F1", "95% CI", "precision", "recall")
_FIGURES = ("frames", "mean", "p50", "p90", "p95", "p99", "max", "jitter")


def _figures(summary: Summary) -> tuple[str, ...]:
    shown = (summary.mean, summary.p50, summary.p90, summary.p95, summary.p99, summary.max, summary.jitter)
    return str(summary.count), *map(_number, shown)


def _number(value: float | None, digits: int = 2) -> str:
    return UNKNOWN if value is None else f"{value:.{1 if digits == 2 and value >= 100 else digits}f}"


def _misses(summary: Summary) -> str:
    share = summary.miss_share
    return UNKNOWN if share is None else f"{100 * share:.1f}%"


def _latency(report: Report) -> Table:
    rows = {"end to end": report.end_to_end, "decode": report.decode, "decoded to parts": report.frame}
    deadline = report.end_to_end.deadline or 0
    return Table(
        "Latency, ms",
        ("step", *_FIGURES, f"over {deadline:g} ms"),
        [(name, *_figures(summary), _misses(summary)) for name, summary in rows.items()],
    )


def _stages(report: Report) -> Table:
    rows = [(name.replace("_", " "), *_figures(summary)) for name, summary in report.stages.items()]
    if rows:
        total = sum(summary.mean for summary in report.stages.values())
        rows.append(("all stages", rows[0][1], _number(total), *[UNKNOWN] * 6))
    return Table("Stages, ms", ("stage", *_FIGURES), rows)


def _streams(report: Report) -> Table:
    rows = [("1, timed frames", _number(report.fps, 1), _number(report.fps, 1), *_brief(report.end_to_end), UNKNOWN)]
    for result in report.streams:
        if result.streams > 1:
            each = f"{min(result.fps_each):.1f} to {max(result.fps_each):.1f}"
        else:
            each = _number(result.fps, 1)
        figures = (_number(result.fps, 1), each, *_brief(result.latency), _number(result.resident_mb, 0))
        rows.append((str(result.streams), *figures))
    header = ("streams", "fps", "fps per stream", "frames", "p50, ms", "p99, ms", "late", "MB")
    return Table("Throughput", header, rows)


def _groups(report: Report) -> Table:
    rows = [
        (
            str(result.cameras),
            *(figure for summary in (result.group, result.in_turn) for figure in _brief(summary)[:2]),
            _number(result.ratio, 3),
        )
        for result in report.groups
    ]
    header = ("cameras", "steps", "group, ms", "steps", "separate sessions, ms", "group / separate")
    title = "A step of all cameras, in one group and in separate sessions"
    if any(result.batch > 1 for result in report.groups):
        title += " (each of which encodes a whole batch)"
    return Table(title, header, rows)


def _brief(summary: Summary) -> tuple[str, ...]:
    return str(summary.count), _number(summary.p50), _number(summary.p99), _misses(summary)


def _start(report: Report) -> Table:
    start = report.start
    row = tuple(map(_number, (start.load, start.first_frame, start.warm_up.p50, start.warm_up.max)))
    header = ("opening the session", "first frame", f"p50 of {start.warm_up.count} warm-up frames", "max of these")
    return Table("Start, ms", header, [row], left=0)


def _memory(report: Report) -> Table:
    memory = report.memory
    rows = [("process", *(_number(value, 1) for value in (memory.before, memory.steady, memory.peak)))]
    device = (memory.device_before, memory.device_steady, memory.device_peak)
    if any(value is not None for value in device):
        rows.append(("whole GPU", *(_number(value, 1) for value in device)))
    return Table("Memory, MB", ("of", "before", "steady", "peak"), rows)


def _soak(report: Report) -> Table:
    soak = report.soak
    if soak is None:
        return Table("Soak", (), [])
    rows = [
        ("verdict", soak.verdict),
        ("reason", soak.why),
        ("minutes", _number(soak.minutes, 1)),
        ("memory, MB per hour", _estimate(soak.memory_mb_an_hour)),
        ("median latency, % per hour", _estimate(soak.latency_percent_an_hour)),
    ]
    if soak.p99 is not None:
        rows += _tail(soak.p99)
    return Table("Soak", ("figure", "value"), rows, left=2)


def _tail(p99: TailChange) -> list[tuple[str, str]]:
    tails = [("p99", p99.frames)] + ([] if p99.yardstick is None else [("p99 of the yardstick", p99.yardstick)])
    rows = []
    for name, tail in tails:
        rows += [
            (f"{name}, 2nd tenth, ms", _number(tail.second_ms)),
            (f"{name}, last tenth, ms", _number(tail.last_ms)),
        ]
        rows.append((f"{name}, change in %", _estimate(tail.percent)))
    if p99.relative_percent is not None:
        rows.append(("p99 relative to the yardstick, change in %", _estimate(p99.relative_percent)))
    return rows


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return UNKNOWN
    return f"{estimate.value:+.2f} (95% CI {estimate.low:+.2f} to {estimate.high:+.2f})"


def _people(report: Report) -> Table:
    rows = [
        (str(group.people), str(group.count), *map(_number, (group.mean, group.p10, group.p50, group.p90)))
        for group in report.people
    ]
    return Table("Decoded to parts by people, ms", ("people", "frames", "mean", "p10", "p50", "p90"), rows, left=0)


def accuracy_table(report: Report) -> Table:
    """Table of F1; without rows if it was not measured."""
    return Table("Accuracy", F1_HEADER, [f1_row(f1) for f1 in report.accuracy])


def f1_row(f1: F1) -> tuple[str, ...]:
    """A row under F1_HEADER."""
    interval = UNKNOWN if f1.low is None else f"{f1.low:.3f} to {_number(f1.high, 3)}"
    figures = (_number(f1.f1, 3), interval, _number(f1.precision, 3), _number(f1.recall, 3))
    data = f"{f1.kind}, occluded" if f1.occluded else f1.kind
    return data, str(f1.sequences), f"{f1.threshold:g}", *figures


def _run(report: Report) -> Table:
    run = report.run
    backend = f"{run.backend}{', CUDA graphs' if run.cuda_graphs else ''}"
    length = f"{run.minutes:g} minutes" if run.minutes is not None else f"{run.frames} timed frames"
    rows = [
        ("network", f"{run.network}, {run.size[0]}x{run.size[1]}, {run.precision}, {run.slots} slots"),
        ("backend", backend if run.backend == "tensorrt" else f"{backend}, {run.provider}"),
        ("source", f"{run.source_fps:g} fps, {'x'.join(map(str, run.frame_size or ())) or 'unknown size'}"),
        ("requested", length + (", STOPPED EARLY" if run.stopped_early else "")),
        ("measured", f"{run.seconds:.1f} s, {run.frames_left_out} frames skipped at changes of block"),
    ]
    return Table("Run", ("property", "value"), rows, left=2)


def _environment(report: Report) -> Table:
    return environment_table(report.environment, report.after)


def environment_table(environment: Environment, after: State) -> Table:
    """Table of the machine and its software, without unknown values."""
    fields = environment.model_dump(exclude={"state"})
    fields |= {f"{name}, before": value for name, value in environment.state.model_dump().items()}
    fields |= {f"{name}, after": value for name, value in after.model_dump().items()}
    rows = [(name.replace("_", " "), str(value)) for name, value in fields.items() if value is not None]
    return Table("Machine", ("property", "value"), rows, left=2)
