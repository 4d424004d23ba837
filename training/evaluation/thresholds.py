"""Thresholds chosen on other data: read from the report of an earlier evaluation."""

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
    """The best threshold of each of the names on a report's data, for each matching.

    Args:
        path: report.json of ``write_report``.
        names: of evaluations with keypoint maps.
        precision: choose the lowest with this precision, not the one with the best F1.

    Raises:
        DataError: no such report, a name is missing in it, or its best threshold is not in THRESHOLDS and so would not
            be counted.
    """
    evaluations = _read(path)
    found = {}
    for name in names:
        if name not in evaluations:
            raise DataError(
                f"{path} has no row '{name}', only {', '.join(evaluations)}; evaluate the same rows on those data first"
            )
        try:
            evaluation = Evaluation.model_validate(evaluations[name])
        except ValidationError as error:
            raise DataError(
                f"row '{name}' of {path} cannot be read ({one_line(error)}); evaluate there again with this version"
            ) from error
        found[name] = {matching: evaluation.chosen(matching, precision).threshold for matching in MATCHINGS}
        for threshold in found[name].values():
            if threshold not in THRESHOLDS:
                raise DataError(
                    f"the best threshold of row '{name}' in {path} is {threshold:g}, which is not counted here; "
                    "evaluate there without --threshold"
                )
    return found


def _read(path: Path) -> dict[str, object]:
    content = json_content(path, "report", "evaluate again")
    evaluations = content.get("evaluations") if isinstance(content, dict) else None
    if not isinstance(evaluations, dict):
        raise DataError(f"{path} is no report; give the report.json of an earlier eval --out")
    return evaluations
