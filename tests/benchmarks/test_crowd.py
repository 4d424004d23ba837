"""The video with 1, 10 and 30 people."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.crowd import COLUMNS, HEIGHT, ROWS, WIDTH, cut_people, draw
from stm_skeletons.errors import DataError


def test_frame_contains_all_people_completely():
    person = np.full((100, 40, 3), 255, np.uint8)
    for count in (1, 10, COLUMNS * ROWS):
        frame = draw([person] * count, np.random.default_rng(0))
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert (frame == 255).all(axis=2).sum() == count * 100 * 40


def test_people_are_cut_to_fit_their_cells(shared: Path):
    people = cut_people(shared / "coco", 30)
    assert len(people) == 30
    assert max(crop.shape[0] for crop in people) <= HEIGHT // ROWS
    assert max(crop.shape[1] for crop in people) <= WIDTH // COLUMNS


def test_data_without_upright_people_is_rejected(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match="no upright person"):
        cut_people(tmp_path, 1)
