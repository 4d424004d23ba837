import json
from pathlib import Path

import pytest
from gates import made_gate

from stm_skeletons.errors import BundleError
from stm_skeletons.gate_file import read_gate


def test_gate_reads_back_as_written(tmp_path: Path):
    gate = made_gate(f1=None, calibration="frames 500 to 700")
    (tmp_path / "gate.json").write_text(gate.model_dump_json(indent=2), encoding="utf-8-sig")
    assert read_gate(tmp_path) == gate


def test_bundle_without_gate_file_has_no_gate(tmp_path: Path):
    assert read_gate(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Invalid JSON"),
        (b"[" * 100_000, "gate.json cannot be read"),
        (b"[]", "should be an object"),
        (b"\xff", "utf-8"),
        (json.dumps({"f1": 0.9, "frames": 300}).encode(), "precision: Field required"),
        (made_gate().model_dump_json().replace('"frames":300', '"frames":"many"', 1).encode(), "frames: .*integer"),
        (made_gate().model_dump_json().replace('"frames"', '"pictures"', 1).encode(), "frames"),
    ],
)
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "gate.json").write_bytes(content)
    with pytest.raises(BundleError, match=message) as caught:
        read_gate(tmp_path)
    assert "export the bundle again" in str(caught.value)
    assert "\n" not in str(caught.value)
