from pathlib import Path

import numpy as np

from benchmarks.stills import draw_maps, draw_people


def test_each_frame_has_its_mask_maps_and_parts(edge_bundle: Path, clip: Path):
    rows = draw_maps(str(edge_bundle), str(clip), [0, 3], threads=1)
    assert len(rows) == 2
    assert all(len(row) == 4 for row in rows)
    assert {image.shape for row in rows for image in row} == {(96 + 22, 160, 3)}
    assert not np.array_equal(rows[0][1], rows[1][1])


def test_people_are_drawn_on_full_size_frames(edge_bundle: Path, clip: Path):
    rows = draw_people(str(edge_bundle), str(clip), [0, 2], threads=1)
    assert [[image.shape for image in row] for row in rows] == [[(576, 768, 3)]] * 2
