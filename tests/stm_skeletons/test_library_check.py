"""Libraries that do not load, or do not work together."""

import os
import subprocess
from pathlib import Path

import pytest
from command import COMMAND

from stm_skeletons import library_check
from stm_skeletons.library_check import library_problems, numpy_mismatch


def test_installed_libraries_load():
    assert library_problems() == []


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"numpy": "2.1.0", "opencv-python": "4.8.1.78", "onnxruntime": "1.20.0"}, "opencv-python 4.8 was built for"),
        ({"numpy": "2.1.0", "opencv-python": "4.10.0.84", "onnxruntime": "1.18.1"}, "onnxruntime 1.18 was built for"),
        ({"numpy": "2.1.0", "opencv-python": "4.10.0.84", "onnxruntime": "1.19.0"}, None),
        ({"numpy": "1.26.4", "opencv-python": "4.8.1.78", "onnxruntime": "1.18.1"}, None),
        ({"numpy": "2.1.0"}, None),
    ],
)
def test_numpy_2_with_libraries_built_for_numpy_1_is_reported(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], message: str | None
):
    monkeypatch.setattr(library_check, "installed_version", versions.get)
    found = numpy_mismatch()
    assert (found is None) == (message is None)
    if message is not None:
        assert found is not None
        assert found.startswith(message)
        assert "pip install" in found


@pytest.mark.parametrize("command", [["doctor"], ["run", "x.avi"]])
def test_incomplete_opencv_is_refused_in_one_line_with_the_remedy(tmp_path: Path, command: list[str]):
    (tmp_path / "cv2").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "cv2" / "__init__.py").touch()
    done = subprocess.run([*COMMAND, *command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip uninstall -y opencv-python opencv-python-headless" in done.stdout + done.stderr
