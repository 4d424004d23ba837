"""A report as tables of text, for the terminal and for Markdown."""

from benchmarks.run.bench_report import F1, Report
from benchmarks.run.environment import Environment, State
from benchmarks.run.latency import Summary
from benchmarks.run.tail import Estimate, TailChange
from stm_skeletons.table import Table

UNKNOWN = "-"


def tables(report: Report) -> list[Table]:
    """All tables of a report; those without rows are left out."""
    made = (_latency, _stages, _streams, _groups, _start, _memory, _soak, _people, accuracy_table, _run, _environment)
    return [table for make in made if (table := make(report)).rows]


F1_HEADER = ("data", "sequences", "threshold", "F1", "95 %", "precision", "recall")
_FIGURES = ("frames", "mean", "p50", "p90", "p95", "p99", "max", "jitter")


def _figures(summary: Summary) -> tuple[str, ...]:
    shown = (summary.mean, summary.p50, summary.p90, summary.p95, summary.p99, summary.max, summary.jitter)
    return str(summary.count), *map(_number, shown)


def _number(value: float | None, digits: int = 2) -> str:
    return UNKNOWN if value is None else f"{value:.{1 if digits == 2 and value >= 100 else digits}f}"


def _misses(summary: Summary) -> str:
    share = summary.miss_share
    return UNKNOWN if share is None else f"{100 * share:.1f} %"


def _latency(report: Report) -> Table:
    rows = {"end to end": report.end_to_end, "decode": report.decode, "then to parts": report.frame}
    deadline = report.end_to_end.deadline or 0
    return Table(
        "Latency, ms",
        ("what", *_FIGURES, f"over {deadline:g}"),
        [(name, *_figures(summary), _misses(summary)) for name, summary in rows.items()],
    )


def _stages(report: Report) -> Table:
    rows = [(name.replace("_", " "), *_figures(summary)) for name, summary in report.stages.items()]
    if rows:
        total = sum(summary.mean for summary in report.stages.values())
        rows.append(("together", rows[0][1], _number(total), *[UNKNOWN] * 6))
    return Table("Stages, ms", ("stage", *_FIGURES), rows)


def _streams(report: Report) -> Table:
    rows = [("1, beside stages", _number(report.fps, 1), _number(report.fps, 1), *_some(report.end_to_end), UNKNOWN)]
    for one in report.streams:
        each = f"{min(one.fps_each):.1f} to {max(one.fps_each):.1f}" if one.streams > 1 else _number(one.fps, 1)
        rows.append((str(one.streams), _number(one.fps, 1), each, *_some(one.latency), _number(one.resident_mb, 0)))
    header = ("streams", "fps", "fps each", "frames", "p50, ms", "p99, ms", "late", "MB")
    return Table("Throughput", header, rows)


def _groups(report: Report) -> Table:
    rows = [
        (str(one.cameras), *(f for each in (one.group, one.in_turn) for f in _some(each)[:2]), _number(one.ratio, 3))
        for one in report.groups
    ]
    header = ("cameras", "steps", "group, ms", "steps", "in turn, ms", "group / in turn")
    title = "A step of all cameras, in a group and each in a session of its own"
    if any(one.batch > 1 for one in report.groups):
        title += " (of a bundle for batches each of these encodes a whole batch)"
    return Table(title, header, rows)


def _some(summary: Summary) -> tuple[str, ...]:
    return str(summary.count), _number(summary.p50), _number(summary.p99), _misses(summary)


def _start(report: Report) -> Table:
    start = report.start
    row = tuple(map(_number, (start.load, start.first_frame, start.warm_up.p50, start.warm_up.max)))
    header = ("opening the session", "first frame", f"p50 of {start.warm_up.count} warm-up frames", "their max")
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
        ("why", soak.why),
        ("minutes", _number(soak.minutes, 1)),
        ("memory, MB an hour", _estimate(soak.memory_mb_an_hour)),
        ("median latency, % an hour", _estimate(soak.latency_percent_an_hour)),
    ]
    if soak.p99 is not None:
        rows += _tail(soak.p99)
    return Table("Soak", ("what", "found"), rows, left=2)


def _tail(p99: TailChange) -> list[tuple[str, str]]:
    parts = [("p99", p99.frames)] + ([] if p99.yardstick is None else [("p99 of a fixed piece of work", p99.yardstick)])
    rows = []
    for name, tail in parts:
        rows += [
            (f"{name}, second tenth, ms", _number(tail.second_ms)),
            (f"{name}, last tenth, ms", _number(tail.last_ms)),
        ]
        rows.append((f"{name}, change in %", _estimate(tail.percent)))
    if p99.beside_percent is not None:
        rows.append(("the one change beside the other, %", _estimate(p99.beside_percent)))
    return rows


def _estimate(found: Estimate | None) -> str:
    return UNKNOWN if found is None else f"{found.value:+.2f} (95 %: {found.low:+.2f} to {found.high:+.2f})"


def _people(report: Report) -> Table:
    rows = [
        (str(one.people), str(one.count), *map(_number, (one.mean, one.p10, one.p50, one.p90))) for one in report.people
    ]
    return Table("Decoded to parts by people, ms", ("people", "frames", "mean", "p10", "p50", "p90"), rows, left=0)


def accuracy_table(report: Report) -> Table:
    """F1; without rows where it was not measured."""
    return Table("Accuracy", F1_HEADER, [f1_row(one) for one in report.accuracy])


def f1_row(one: F1) -> tuple[str, ...]:
    """A row under F1_HEADER."""
    interval = UNKNOWN if one.low is None else f"{one.low:.3f} to {_number(one.high, 3)}"
    figures = (_number(one.f1, 3), interval, _number(one.precision, 3), _number(one.recall, 3))
    data = f"{one.kind}, occluded" if one.occluded else one.kind
    return data, str(one.sequences), f"{one.threshold:g}", *figures


def _run(report: Report) -> Table:
    run = report.run
    how = f"{run.backend}{', CUDA graphs' if run.cuda_graphs else ''}"
    length = f"{run.minutes:g} minutes" if run.minutes is not None else f"{run.frames} undisturbed frames"
    rows = [
        ("network", f"{run.network}, {run.size[0]}x{run.size[1]}, {run.precision}, {run.slots} slots"),
        ("run by", how if run.backend == "tensorrt" else f"{how}, {run.provider}"),
        ("source", f"{run.source_fps:g} fps, {'x'.join(map(str, run.frame_size or ())) or 'unknown size'}"),
        ("asked for", length + (", STOPPED EARLY" if run.stopped_early else "")),
        ("measured", f"{run.seconds:.1f} s, {run.frames_left_out} frames left out at changes between blocks"),
    ]
    return Table("Run", ("what", "found"), rows, left=2)


def _environment(report: Report) -> Table:
    return environment_table(report.environment, report.after)


def environment_table(environment: Environment, after: State) -> Table:
    """The machine and the programs; what is unknown is left out."""
    fields = environment.model_dump(exclude={"state"})
    fields |= {f"{name}, before": value for name, value in environment.state.model_dump().items()}
    fields |= {f"{name}, after": value for name, value in after.model_dump().items()}
    rows = [(name.replace("_", " "), str(value)) for name, value in fields.items() if value is not None]
    return Table("Machine", ("what", "found"), rows, left=2)
