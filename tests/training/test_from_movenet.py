from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.movenet_maps import MoveNetHeatMaps
from stm_skeletons.errors import WeightsError
from stm_skeletons.skeleton import COCO17, POSETRACK15
from training.model import Edge, ModelConfig, build
from training.model.from_movenet import load_movenet


@pytest.fixture(scope="module")
def movenet(shared: Path) -> Path:
    return shared / "teacher" / "movenet-multipose.onnx"


def convert_movenet(movenet: Path, config: ModelConfig) -> Edge:
    model = build(config)
    assert isinstance(model, Edge)
    load_movenet(model, movenet)
    return model.eval()


@torch.no_grad()
def test_heat_maps_equal_movenets(shared: Path, movenet: Path):
    model = convert_movenet(movenet, ModelConfig(variant="edge"))
    teacher = MoveNetHeatMaps(movenet)
    no_memory = torch.zeros(1, 1, 448, 64), torch.zeros(1, 1, 448, 96), torch.zeros(1, 1)
    for file in sorted((shared / "coco" / "images").glob("*.jpg"))[:5]:
        image = cv2.imread(str(file))
        assert image is not None
        frame = np.asarray(cv2.resize(image, (448, 256)), np.uint8)
        maps = model(model.encode_query(torch.from_numpy(frame)[None]), *no_memory)
        np.testing.assert_allclose(maps[0, 1:18].numpy(), teacher.maps(frame), atol=1e-4)
        assert maps[0, 18:].max() < 0.2, "untrained edges have low confidences"


def test_posetrack_joints_are_matched_by_name(movenet: Path):
    coco = convert_movenet(movenet, ModelConfig(variant="edge")).keypoint_head.state_dict()
    posetrack = convert_movenet(movenet, ModelConfig(variant="edge", skeleton=POSETRACK15)).keypoint_head.state_dict()
    for name, row in ((name, POSETRACK15.joints.index(name)) for name in ("nose", "left_wrist")):
        assert torch.equal(posetrack["predict.weight"][row], coco["predict.weight"][COCO17.joints.index(name)])
    head_top = POSETRACK15.joints.index("head_top")
    assert not posetrack["predict.weight"][head_top].any()
    assert posetrack["predict.bias"][head_top] == pytest.approx(-4.6)


def test_files_other_than_movenet_multipose_are_refused(shared: Path, tmp_path: Path):
    model = build(ModelConfig(variant="edge"))
    assert isinstance(model, Edge)
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    for file in (tmp_path / "missing.onnx", tmp_path / "junk.onnx", shared / "teacher" / "movenet-thunder.onnx"):
        with pytest.raises(WeightsError):
            load_movenet(model, file)
