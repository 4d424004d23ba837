import json
import shutil
from pathlib import Path

import pytest

from runtime.session import Session
from stm_skeletons.bundle import Bundle, shipped_models
from stm_skeletons.errors import BundleError


@pytest.fixture
def copy(edge_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(edge_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    change(content)
    (bundle / "bundle.json").write_text(json.dumps(content))


def test_edge_ships_with_the_package_and_is_small():
    assert "edge" in shipped_models()
    bundle = Bundle.open("edge")
    assert sum(file.stat().st_size for file in bundle.folder.iterdir()) < 15e6
    assert (bundle.info.width, bundle.info.height, bundle.info.slots, bundle.info.peaks) == (448, 256, 6, 30)


def test_a_changed_byte_is_found(copy: Path):
    graph = copy / "read_decoder.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"read_decoder\.onnx differs from the exported file"):
        Bundle.open(copy)


def test_a_missing_graph_is_named(copy: Path):
    (copy / "memory_encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"memory_encoder\.onnx is missing"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=1), "format 1, this version needs 2"),
        (lambda c: c.update(grouping="edges"), "does not fit 30 centres"),
        (lambda c: c.update(centres=29), "has shape"),
        (lambda c: c.update(centres=0), "does not fit 0 centres"),
        (lambda c: c.pop("format"), "format None"),
        (lambda c: c.update(width=449), "width"),
        (lambda c: c.update(width=192), "has shape"),
        (lambda c: c.update(slots=5), "memory_valid"),
        (lambda c: c.update(peaks=9), "peaks"),
        (lambda c: c["graphs"].pop("read_decoder"), "read_decoder"),
        (lambda c: c["skeleton"]["joints"].pop(), "sigmas"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c["graphs"]["read_decoder"].update(file="../x.onnx"), "must be in the bundle's folder"),
        (lambda c: c["graphs"]["read_decoder"]["outputs"].pop(0), "maps"),
        (lambda c: c["graphs"]["query_encoder"]["outputs"][0].update(shape=[]), "shape"),
        (lambda c: c["graphs"]["query_encoder"]["outputs"][3].update(shape=[1, 6, 10]), "features_p4"),
        (lambda c: c["graphs"]["memory_encoder"]["inputs"][0].update(name="features_x"), "features_x"),
        (lambda c: c["graphs"]["memory_encoder"]["outputs"][0].update(dtype="float16"), "different types"),
        (lambda c: c["channels"].__setitem__(3, "tail"), "channels"),
    ],
)
def test_inconsistent_description_is_refused(copy: Path, change, message: str):
    edit(copy, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(copy)
    assert "\n" not in str(caught.value)


def test_graphs_with_other_shapes_than_described_are_refused(copy: Path):
    def change_shape(content) -> None:
        for graph in content["graphs"].values():
            for tensor in graph["inputs"] + graph["outputs"]:
                if tensor["name"] == "features_p4":
                    tensor["shape"][0] = 65  # in both graphs: the description stays consistent

    edit(copy, change_shape)
    with pytest.raises(BundleError, match="features_p4"):
        Session.open(str(copy))


@pytest.mark.parametrize("content", ["", "{", "[" * 200_000, "[]", "null", '{"format": 1'])
def test_damaged_description_is_refused_in_one_line(copy: Path, content: str):
    (copy / "bundle.json").write_text(content)
    with pytest.raises(BundleError) as caught:
        Bundle.open(copy)
    assert "\n" not in str(caught.value)


def test_byte_order_mark_is_ignored(copy: Path):
    file = copy / "bundle.json"
    info = Bundle.open(copy).info
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert Bundle.open(copy).info == info


def test_unknown_name_lists_the_shipped_models(tmp_path: Path):
    with pytest.raises(BundleError, match="edge"):
        Bundle.open("yolo")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.open(tmp_path)
