import numpy as np

from runtime.overlay import draw_parts
from stm_skeletons.parts import assemble_parts
from stm_skeletons.skeleton import COCO17


def test_parts_are_drawn_where_they_are_and_the_frame_is_left_alone():
    peaks = np.zeros((17, 2, 3), np.float32)
    left, right = COCO17.joints.index("left_hip"), COCO17.joints.index("right_hip")
    peaks[left, 0], peaks[right, 0] = (40.5, 60.5, 0.9), (160.5, 60.5, 0.9)
    edges = np.zeros((19, 2, 2), np.float32)
    edges[COCO17.edge_names.index("left_hip-right_hip"), 0, 0] = 0.8
    frame = np.zeros((120, 200, 3), np.uint8)
    drawn = draw_parts(frame, assemble_parts(COCO17, (200, 120), peaks, edges, 0.3, 0.3))
    assert not frame.any()
    assert drawn[60, 40, 2] > 200, "left is orange: red in BGR"
    assert drawn[60, 160, 0] > 200, "right is blue"
    assert drawn[60, 100].any(), "the edge lies between them"
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert rows.min() > 50
    assert rows.max() < 70
    assert columns.min() > 30
    assert columns.max() < 170
