"""The GPU checklist's script without a GPU: it runs to the end, and each step reports its problem in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.gpu import NoGpu, find_gpu

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_steps_without_a_gpu_report_the_reason_in_one_line(tmp_path: Path):
    try:
        find_gpu()
    except NoGpu:
        pass
    else:
        pytest.skip("there is a GPU: run the script itself")
    commands = {"PY": sys.executable, "STM": f"{sys.executable} -m stm_skeletons", "PYTORCH": "true"}
    result = subprocess.run(
        [ROOT / "tests" / "gpu" / "on_gpu.sh"],
        env={**os.environ, **commands, "OUT": str(tmp_path), "WITHIN": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "no tests: no GPU answers" in result.stdout
    steps = {line.split()[0]: line.split()[2] for line in (tmp_path / "steps.txt").read_text().splitlines()}
    succeeded = {name for name, code in steps.items() if code == "0"}
    assert {"machine", "doctor", "edge-cpu"} <= succeeded
    failing = {
        "gpu",
        "edge-build",
        "edge-gpu",
        "edge-same-parts",
        "edge-no-graphs",
        "edge-calls",
        "edge-bench",
        "in-turn",
    }
    assert failing <= steps.keys() - succeeded
    for name in failing - {"gpu"}:
        output = (tmp_path / f"{name}.txt").read_text()
        assert "Traceback" not in output, output
        assert len(output.strip().splitlines()[-1]) > 20
