from pathlib import Path

import pytest

from benchmarks.accuracy import compare


@pytest.mark.slow
def test_the_shipped_model_is_as_good_as_movenets_own_heat_maps(shared: Path):
    scores = compare("edge", shared / "coco", shared / "teacher" / "movenet-multipose.onnx")
    assert scores["movenet"].f1 > 0.5
    assert scores["bundle"].f1 >= scores["movenet"].f1 - 0.005
