"""Libraries that do not load, or not beside each other."""

import os
import subprocess
from pathlib import Path

import pytest
from command import COMMAND

from stm_skeletons import library_check
from stm_skeletons.library_check import library_problems, numpy_mismatch


def test_what_is_installed_here_loads():
    assert library_problems() == []


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ({"numpy": "2.1.0", "opencv-python": "4.8.1.78", "onnxruntime": "1.20.0"}, "opencv-python 4.8 was built for"),
        ({"numpy": "2.1.0", "opencv-python": "4.10.0.84", "onnxruntime": "1.18.1"}, "onnxruntime 1.18 was built for"),
        ({"numpy": "2.1.0", "opencv-python": "4.10.0.84", "onnxruntime": "1.19.0"}, None),
        ({"numpy": "1.26.4", "opencv-python": "4.8.1.78", "onnxruntime": "1.18.1"}, None),
        ({"numpy": "2.1.0"}, None),
    ],
)
def test_numpy_2_beside_libraries_of_numpy_1(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], told: str | None
):
    monkeypatch.setattr(library_check, "installed_version", versions.get)
    found = numpy_mismatch()
    assert (found is None) == (told is None)
    if told is not None:
        assert found is not None
        assert found.startswith(told)
        assert "pip install" in found


@pytest.mark.parametrize("command", [["doctor"], ["run", "x.avi"]])
def test_an_opencv_of_which_half_is_gone_is_one_line_with_the_remedy(tmp_path: Path, command: list[str]):
    (tmp_path / "cv2").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "cv2" / "__init__.py").touch()
    done = subprocess.run([*COMMAND, *command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip uninstall -y opencv-python opencv-python-headless" in done.stdout + done.stderr
