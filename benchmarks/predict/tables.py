"""A prediction as tables: predict.md, and what the terminal shows."""

from benchmarks.predict.report import TITLE, CpuCheck, Report

Table = tuple[str, list[str], list[list[str]]]
"""Title, head and rows."""


def tables(report: Report) -> list[Table]:
    """All tables."""
    found = [("Devices", *_device_table(report)), ("Graphs", *_graph_table(report))]
    if report.check is not None:
        found.append(("This CPU: predicted beside measured", *_check_table(report.check)))
        found.append(("This CPU: where the time goes", *_arithmetic_table(report.check)))
    return found


def notes(report: Report) -> list[str]:
    """What has to be read with the tables."""
    lines = [report.limits]
    for one in report.devices:
        lines.append(f"{one.device} ({one.power_mode}): {one.basis}")
    efficiency = next((one.efficiency for one in report.devices if one.efficiency), None)
    if efficiency is not None:
        shares = ", ".join(f"{name} {value:g}" for name, value in efficiency.model_dump(exclude={"reason"}).items())
        lines.append(f"Assumed shares of the peaks: {shares}. {efficiency.reason}.")
    if report.check is not None:
        check = report.check
        lines.append(
            f"CPU: {check.machine}, {check.rates.threads} threads; {check.inputs}. Measured: matrix product "
            f"{check.rates.matmul_gflops:.0f} and convolution {check.rates.conv_gflops:.0f} GFLOP/s; "
            f"{check.rates.cached_gbs:.1f} GB/s in a cache and {check.rates.memory_gbs:.1f} beyond. A whole step "
            f"of the runtime, with letterbox and parts, takes {check.step_ms:.1f} ms. Rates of kernels come from "
            "single operators at sizes of their own; no time of these graphs goes into the prediction."
        )
        if check.frame.disturbed:
            lines.append("The machine was busy with something else: measure again when it is not.")
    return lines


def markdown(report: Report) -> str:
    """predict.md."""
    width, height = report.size
    parts = [f"# {TITLE}: {report.bundle} ({report.precision}, {width}x{height})", ""]
    for title, head, rows in tables(report):
        parts += [f"## {title}", "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    parts += ["## Notes", "", *(f"- {line}" for line in notes(report)), ""]
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _device_table(report: Report) -> tuple[list[str], list[list[str]]]:
    head = ["device", "frame, ms", "at full peaks, ms", "roof, TFLOP/s", "GB/s", "bound by"]
    rows = []
    for one in report.devices:
        floors = [graph.floor_milliseconds for graph in one.graphs]
        floor = "-" if None in floors else f"{sum(value or 0 for value in floors):.2f}"
        shares = {
            bound: sum(graph.bound.get(bound, 0) * graph.milliseconds for graph in one.graphs) / one.milliseconds
            for bound in ("compute", "bytes", "overhead")
        }
        rows.append(
            [
                one.device,
                f"{one.milliseconds:.2f}",
                floor,
                f"{one.peak_gflops / 1e3:.2f}",
                f"{one.bandwidth_gbs:.0f}",
                ", ".join(f"{bound} {share:.0%}" for bound, share in shares.items()),
            ]
        )
    return head, rows


def _graph_table(report: Report) -> tuple[list[str], list[list[str]]]:
    head = [
        "device",
        "graph",
        "kernels",
        "GFLOP",
        "MB",
        "FLOP/byte",
        "predicted, ms",
        "at full peaks, ms",
        "most of it",
    ]
    rows = []
    for one in report.devices:
        for graph in one.graphs:
            most = sorted(graph.kinds.items(), key=lambda pair: -pair[1])[:2]
            rows.append(
                [
                    one.device,
                    graph.graph,
                    str(graph.kernels),
                    f"{graph.operations / 1e9:.3f}",
                    f"{graph.bytes / 1e6:.1f}",
                    f"{graph.intensity:.1f}",
                    f"{graph.milliseconds:.2f}",
                    "-" if graph.floor_milliseconds is None else f"{graph.floor_milliseconds:.2f}",
                    ", ".join(f"{kind} {time / graph.milliseconds:.0%}" for kind, time in most),
                ]
            )
    return head, rows


def _check_table(check: CpuCheck) -> tuple[list[str], list[list[str]]]:
    head = ["graph", "predicted, ms", "measured, ms (5 to 95 %)", "predicted / measured"]
    rows = [
        [
            one.what,
            f"{one.predicted_ms:.2f}",
            f"{one.median_ms:.2f} ({one.low_ms:.2f} to {one.high_ms:.2f})",
            f"{one.ratio:.2f}",
        ]
        for one in (*check.graphs, check.frame)
    ]
    return head, rows


def _arithmetic_table(check: CpuCheck) -> tuple[list[str], list[list[str]]]:
    head = ["graph", "kind", "ms", "of the time", "of the operations", "GFLOP/s", "of the peak"]
    rows = []
    for graph in check.arithmetic:
        rows.append(
            [graph.graph, "all", f"{graph.milliseconds:.2f}", "", "", f"{graph.gflops:.1f}", f"{graph.peak_share:.0%}"]
        )
        for kind in graph.kinds:
            rows.append(
                [
                    graph.graph,
                    kind.kind,
                    f"{kind.milliseconds:.2f}",
                    f"{kind.time_share:.0%}",
                    f"{kind.operations_share:.1%}",
                    f"{kind.gflops:.1f}",
                    f"{kind.gflops / check.rates.peak_gflops:.0%}",
                ]
            )
    return head, rows
