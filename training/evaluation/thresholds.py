"""Thresholds chosen on other data, from the report of an earlier evaluation."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from stm_skeletons.errors import DataError, one_line
from training.data.annotations import json_content
from training.evaluation.evaluation import Evaluation
from training.evaluation.keypoints import MATCHINGS, THRESHOLDS, Matching


def best_thresholds(
    path: Path, names: Iterable[str], precision: float | None = None
) -> dict[str, dict[Matching, float]]:
    """The best threshold of each row on a report's data, for each matching.

    Args:
        path: report.json of ``write_report``.
        names: names of rows with keypoint maps.
        precision: choose the lowest threshold with this precision instead of the best F1.

    Raises:
        DataError: the report cannot be read or lacks a row, or a threshold is not in THRESHOLDS and is not counted.
    """
    evaluations = _read(path)
    found = {}
    for name in names:
        if name not in evaluations:
            raise DataError(
                f"{path} has no row '{name}', only {', '.join(evaluations)}; evaluate the same models on those data "
                "first"
            )
        try:
            evaluation = Evaluation.model_validate(evaluations[name])
        except ValidationError as error:
            raise DataError(
                f"cannot read row '{name}' of {path} ({one_line(error)}); evaluate those data again with this version"
            ) from error
        found[name] = {matching: evaluation.chosen(matching, precision).threshold for matching in MATCHINGS}
        for threshold in found[name].values():
            if threshold not in THRESHOLDS:
                raise DataError(
                    f"the best threshold of row '{name}' in {path} is {threshold:g}, which is not in the sweep; "
                    "evaluate those data without --threshold"
                )
    return found


def _read(path: Path) -> dict[str, object]:
    content = json_content(path, "report", "evaluate again")
    evaluations = content.get("evaluations") if isinstance(content, dict) else None
    if not isinstance(evaluations, dict):
        raise DataError(f"{path} is not a report; use the report.json of an earlier 'eval --out'")
    return evaluations
