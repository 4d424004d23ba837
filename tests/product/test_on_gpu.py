"""The GPU checklist's script where there is no GPU: it goes through to the end, and each step says in a line what is
missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.gpu import NoGpu, find_gpu

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_without_a_gpu_every_step_says_in_a_line_what_is_missing(tmp_path: Path):
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
    without = {name for name, code in steps.items() if code == "0"}
    assert {"machine", "doctor", "edge-cpu"} <= without
    wanted = {
        "gpu",
        "edge-build",
        "edge-gpu",
        "edge-same-parts",
        "edge-no-graphs",
        "edge-calls",
        "edge-bench",
        "in-turn",
    }
    assert wanted <= steps.keys() - without
    for name in wanted - {"gpu"}:
        said = (tmp_path / f"{name}.txt").read_text()
        assert "Traceback" not in said, said
        assert len(said.strip().splitlines()[-1]) > 20
