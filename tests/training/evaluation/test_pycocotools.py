"""Agreement with pycocotools.

Each label is a person with one joint. Its area makes a distance of RADIUS an object keypoint similarity of 0.5.
COCOeval matches greedily: by falling score, each prediction gets the most similar label that is still free. Ours is a
maximum matching. If no prediction is within the radius of two labels, both find the same number of pairs at every
threshold. Otherwise the greedy matching may find fewer (down to half), but not more.
"""

import io
import math
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from training.evaluation.keypoints import MATCHINGS, RADIUS, THRESHOLDS, count_keypoints, stack, sweep_scores

SIGMA = 0.05
# similarity = exp(-distance^2 / (2 * area * (2 * sigma)^2)) = 0.5 at the radius
AREA = RADIUS**2 / (2 * math.log(2) * (2 * SIGMA) ** 2)


def coco_matches(images: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all predictions, and whether COCOeval matched them."""
    truth: list[Any] = []
    results: Any = []  # pycocotools' type annotations allow only files
    for number, (labels, predictions) in enumerate(images, start=1):
        for x, y in labels:
            annotation = {"id": len(truth) + 1, "image_id": number, "category_id": 1, "keypoints": [x, y, 2]}
            truth.append({**annotation, "num_keypoints": 1, "area": AREA, "bbox": [x, y, 1, 1], "iscrowd": 0})
        for x, y, score in predictions:
            results.append({"image_id": number, "category_id": 1, "keypoints": [x, y, 2], "score": score})
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        entries = [{"id": number} for number in range(1, len(images) + 1)]
        dataset: Any = {"info": {}, "images": entries, "categories": [{"id": 1}], "annotations": truth}
        coco.dataset = dataset
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([SIGMA])
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    found = [image for image in evaluation.evalImgs if image is not None]
    return (
        np.concatenate([image["dtScores"] for image in found]),
        np.concatenate([image["dtMatches"][0] > 0 for image in found]),
    )


def our_counts(images):
    return stack(count_keypoints(labels, predictions, THRESHOLDS) for labels, predictions in images).total()


# Distances that rounding cannot move across the radius. Predictions may have equal scores.
offsets = st.tuples(st.floats(0, 2 * math.pi), st.floats(0, 9.9) | st.floats(10.1, 19))
people = st.tuples(st.integers(0, 5), st.integers(0, 5), st.lists(st.tuples(offsets, st.floats(0.01, 1)), max_size=3))
frames = st.lists(people, max_size=6, unique_by=lambda person: person[:2])


@given(st.lists(frames, min_size=1, max_size=3))
def test_equals_cocoeval_if_no_prediction_is_near_two_labels(drawn):
    images = []
    for frame in drawn:
        labels = [(60.0 * column + 30, 60.0 * row + 30) for column, row, _ in frame]
        predictions = [
            (label[0] + length * math.cos(angle), label[1] + length * math.sin(angle), score)
            for label, (_, _, found) in zip(labels, frame, strict=True)
            for (angle, length), score in found
        ]
        images.append((np.reshape(labels, (-1, 2)), np.reshape(predictions, (-1, 3))))
    if not any(len(predictions) for _, predictions in images):
        return  # pycocotools does not accept empty results
    scores, matched = coco_matches(images)
    counts = our_counts(images)
    for i, threshold in enumerate(THRESHOLDS):
        theirs = int(matched[scores >= threshold].sum())
        assert counts.hits[i].tolist() == [theirs, theirs], "recall"
        assert counts.right[i].tolist() == [theirs, theirs]
        assert counts.predictions[i] == (scores >= threshold).sum(), "precision"


coordinates = st.floats(0, 40)


@given(
    st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5),
    st.lists(st.tuples(coordinates, coordinates, st.floats(0.1, 1)), min_size=1, max_size=5),
)
def test_cocoeval_finds_at_most_our_pairs_and_at_least_half_of_them(labels, predictions):
    images = [(np.array(labels), np.array(predictions))]
    distance = np.linalg.norm(images[0][0][:, None] - images[0][1][None, :, :2], axis=-1)
    if (np.abs(distance - RADIUS) < 1e-3).any():
        return  # rounding decides
    theirs = int(coco_matches(images)[1].sum())
    ours = int(our_counts(images).hits[0, MATCHINGS.index("one_to_one")])
    assert theirs <= ours <= 2 * theirs


def test_equals_cocoeval_in_a_known_case():
    images = [(np.array([[50.0, 50.0], [150.0, 50.0]]), np.array([[59.0, 50, 0.9], [161.0, 50, 0.8]]))]
    assert coco_matches(images)[1].tolist() == [True, False]
    score = sweep_scores(our_counts(images), THRESHOLDS, "one_to_one")[0]
    assert (score.precision, score.recall) == (0.5, 0.5)
