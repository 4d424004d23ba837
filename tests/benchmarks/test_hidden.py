from pathlib import Path

import numpy as np

from benchmarks.hidden import uncovered
from stm_skeletons.skeleton import COCO17
from training.data.held_out import held_out_sequences
from training.data.open import open_data


def test_what_would_be_hidden_is_marked_on_the_frames_as_they_are(shared: Path):
    data = open_data("coco", shared / "coco", "val", COCO17)
    marked = list(uncovered(data, (448, 256), 6, 3))
    clean = list(held_out_sequences(data, (448, 256), 6, 3))
    assert len(marked) == 3
    for ours, theirs in zip(marked, clean, strict=True):
        for frame, seen in zip(ours.frames, theirs.frames, strict=True):
            assert np.array_equal(frame.image, seen.image)
            assert not seen.hidden.any()
    assert any(frame.hidden.any() for sequence in marked for frame in sequence.frames)
