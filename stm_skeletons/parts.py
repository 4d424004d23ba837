"""The result of a frame: keypoints and edges of all people, in pixels of the source frame."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from stm_skeletons.errors import LibraryError
from stm_skeletons.people import People
from stm_skeletons.skeleton import Skeleton

LINE_VERSION = 2
"""Version of the JSON lines. Version 1 had no version key and listed people as indices into the keypoints."""


@dataclass(frozen=True)
class Parts:
    """The parts and people detected in one frame.

    Coordinates are source-frame pixels (continuous, see geometry); scores lie in [0, 1]. An edge connects two of the
    keypoints. Each keypoint belongs to at most one edge of each type.
    """

    skeleton: Skeleton
    size: tuple[int, int]
    """(width, height) of the source frame in pixels."""
    keypoint_types: NDArray[np.int64]
    """[N] index into ``skeleton.joints``."""
    keypoints: NDArray[np.float32]
    """[N, 2] x, y."""
    keypoint_scores: NDArray[np.float32]
    """[N]"""
    edge_types: NDArray[np.int64]
    """[M] index into ``skeleton.edges``."""
    edge_ends: NDArray[np.int64]
    """[M, 2] indices into ``keypoints``: the edge's first and second joint."""
    edge_scores: NDArray[np.float32]
    """[M]"""
    people: People
    """The reported people, best first; coordinates as above."""
    owners: NDArray[np.int64]
    """[N] index into ``people`` of each keypoint's person; -1 if it belongs to no person."""

    def to_dict(self, frame: int, time: float) -> dict:
        """Return this frame's JSON object, see PartsLine."""
        return json.loads(self.to_json_line(frame, time))

    def to_json_line(self, frame: int, time: float, about: Mapping[str, Any] | None = None) -> str:
        """Return one line of JSON, without the line break.

        Args:
            frame: frame number.
            time: time in seconds.
            about: further keys, such as "file", "age", "skipped"; see ``PartsLine``.
        """
        rest = "".join(f",{json.dumps(key)}:{json.dumps(value)}" for key, value in (about or {}).items())
        # Formatted by hand: the json module takes twice as long, mostly for number formatting.
        xy = _texts("%.1f,%.1f", self.keypoints)
        keypoints = [f"[{at},{score}]" for at, score in zip(xy, _texts("%.3f", self.keypoint_scores), strict=True)]
        scores = _texts("%.3f", self.edge_scores)
        edges = [f"[{xy[a]},{xy[b]},{score}]" for (a, b), score in zip(self.edge_ends.tolist(), scores, strict=True)]
        return (
            f'{{"version":{LINE_VERSION},"frame":{frame},"time":{time:.3f}{rest},"size":[{self.size[0]},{self.size[1]}],'
            f'"keypoints":{_by_name(self.skeleton.joints, self.keypoint_types, keypoints)},'
            f'"edges":{_by_name(self.skeleton.edge_names, self.edge_types, edges)},'
            f'"people":[{",".join(_people_texts(self.people))}]}}'
        )

    def to_supervision(self) -> tuple[Any, Any]:
        """Convert the people for the optional library supervision (https://supervision.roboflow.com).

        Returns:
            ``sv.KeyPoints``, where found joints are visible; and ``sv.Detections`` of the same people in the same
            order, with the id as ``tracker_id``; -1, supervision's convention, for people without one.

        Raises:
            LibraryError: supervision is not installed.
        """
        try:
            sv: Any = import_module("supervision")
        except ModuleNotFoundError as error:
            raise LibraryError(
                f"'to_supervision' needs {error.name}; pip install 'stm-skeletons[supervision]'"
            ) from error
        people, boxes = self.people, self.people.boxes()
        classes = np.zeros(len(people), np.int64)
        keypoints = sv.KeyPoints(
            xy=people.keypoints[..., :2].copy(),
            class_id=classes,
            keypoint_confidence=people.keypoints[..., 2].copy(),
            detection_confidence=people.scores.copy(),
            visible=people.found,
        )
        detections = sv.Detections(
            xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            confidence=people.scores.copy(),
            class_id=classes.copy(),
            tracker_id=np.where(people.ids > 0, people.ids, -1),
        )
        return keypoints, detections


def _texts(form: str, values: NDArray) -> list[str]:
    """Format each row of [n] or [n, columns]; the format must not contain spaces."""
    return (f"{form} " * len(values) % tuple(values.ravel().tolist())).split()


def _by_name(names: tuple[str, ...], kinds: NDArray[np.int64], texts: list[str]) -> str:
    """Return a JSON object with one list of texts for each name."""
    lists: list[list[str]] = [[] for _ in names]
    for kind, text in zip(kinds.tolist(), texts, strict=True):
        lists[kind].append(text)
    return "{" + ",".join(f"{key}:[{','.join(of)}]" for key, of in zip(_quoted(names), lists, strict=True)) + "}"


@cache
def _quoted(names: tuple[str, ...]) -> list[str]:
    return [json.dumps(name) for name in names]


def _people_texts(people: People) -> list[str]:
    joints = people.keypoints.shape[1]
    points = _texts("[%.1f,%.1f,%.3f]", people.keypoints.reshape(-1, 3))
    boxes = _texts("[%.1f,%.1f,%.1f,%.1f]", people.boxes())
    predicted: list[list[str]] = [[] for _ in boxes]
    for person, joint in np.argwhere(people.predicted).tolist():
        predicted[person].append(str(joint))
    return [
        f'{{"id":{number or "null"},"score":{score:.3f},"box":{boxes[i]},'
        f'"keypoints":[{",".join(points[i * joints : (i + 1) * joints])}],"predicted":[{",".join(predicted[i])}]}}'
        for i, (number, score) in enumerate(zip(people.ids.tolist(), people.scores.tolist(), strict=True))
    ]


class PersonLine(BaseModel):
    """A person in a line."""

    model_config = ConfigDict(extra="forbid")

    id: int | None = Field(
        ge=1,
        description="Identity of the person while tracked; never given to another person in the same run. null until a "
        "second frame confirms the person.",
    )
    score: float = Field(ge=0, le=1, description="Confidence that this is a person.")
    box: tuple[float, float, float, float] = Field(
        description="Left, top, width and height of the bounding box of the found joints, in source pixels."
    )
    keypoints: list[tuple[float, float, float]] = Field(
        description="x, y in source pixels and score of every joint, in the order of the line's 'keypoints'; [0, 0, 0] "
        "for an unknown joint."
    )
    predicted: list[int] = Field(
        description="Indices (from 0) of the joints that were not detected but predicted from the person's centre."
    )


class EventLine(BaseModel):
    """An event that a rule of the service detected in a frame."""

    model_config = ConfigDict(extra="forbid")

    utc: str = Field(description="Arrival time of the frame, ISO 8601.")
    camera: str = Field(description="Name of the camera.")
    rule: str = Field(description="Name of the rule.")
    kind: Literal["line", "region", "dwell", "fall"] = Field(description="Kind of the rule.")
    id: int | None = Field(description="Id of the person; null if several people are concerned.")
    what: Literal["in", "out", "entered", "left", "stayed", "fell"] = Field(description="What happened.")
    count: int | None = Field(description="People now in the region, or crossings in this direction so far.")
    clip: str | None = Field(description="File name of the event's video, complete some seconds later.")


class PartsLine(BaseModel):
    """One line of the JSON lines output; ``stm-skeletons schema parts`` prints the schema."""

    model_config = ConfigDict(extra="forbid", title="STM-skeletons parts of one frame")

    version: Literal[2] = Field(description="Version of this format.")
    frame: int = Field(
        ge=0, description="Frame number in the source, from 0; for cameras, skipped frames count as well."
    )
    time: float = Field(ge=0, description="Seconds since the first frame; for cameras, the arrival time.")
    file: str | None = Field(default=None, description="Name of the image in its folder. Images only.")
    age: float | None = Field(
        default=None, ge=0, description="Seconds from the frame's arrival to this line. Cameras and streams only."
    )
    skipped: int | None = Field(
        default=None, ge=0, description="Frames skipped since the previous line. Cameras and streams only."
    )
    camera: str | None = Field(default=None, description="Name of the camera. Service only.")
    utc: str | None = Field(default=None, description="Arrival time of the frame, ISO 8601. Service only.")
    events: list[EventLine] | None = Field(default=None, description="Events detected in this frame. Service only.")
    size: tuple[int, int] = Field(description="Width and height of the source frame in pixels.")
    keypoints: dict[str, list[tuple[float, float, float]]] = Field(
        description="For every joint, always present: x, y in source pixels ((0, 0) is the top-left corner) and score."
    )
    edges: dict[str, list[tuple[float, float, float, float, float]]] = Field(
        description="For every edge 'joint-joint', always present: x1, y1, x2, y2 in source pixels and score."
    )
    people: list[PersonLine] = Field(description="People in the frame, best first.")


def assemble_parts(
    skeleton: Skeleton,
    size: tuple[int, int],
    peaks: NDArray,
    edge_scores: NDArray,
    people: People,
    keypoint_threshold: float,
    edge_threshold: float,
) -> Parts:
    """Keep peaks and edges above the thresholds, pair joints one to one, and assign keypoints to people.

    Args:
        skeleton: gives the channels.
        size: (width, height) of the source frame.
        peaks: float32 [NK, K, 3]: x, y in source pixels, score (0: no peak). Peaks outside the frame are dropped.
        edge_scores: float32 [NE, K, K]: score of the edge from peak i of its first joint to peak j of its second.
        people: the owners of these peaks, in source pixels.
        keypoint_threshold: lowest score of a keypoint.
        edge_threshold: lowest score of an edge.
    """
    x, y, score = np.moveaxis(peaks, -1, 0)
    # Unused peak entries have score 0.
    kept = (score > 0) & (score >= keypoint_threshold) & (x >= 0) & (y >= 0) & (x <= size[0]) & (y <= size[1])
    types, _ = np.nonzero(kept)
    number = np.cumsum(kept).reshape(kept.shape) - 1  # position of each kept peak in the flat list
    first, second = (list(joints) for joints in zip(*skeleton.edges, strict=True))
    candidates = np.where(kept[first][:, :, None] & kept[second][:, None, :], edge_scores, -1)
    kinds, i, j = _best_pairs(candidates, edge_threshold)
    ends = np.stack([number[np.array(first)[kinds], i], number[np.array(second)[kinds], j]], axis=-1)
    return Parts(
        skeleton=skeleton,
        size=size,
        keypoint_types=types,
        keypoints=peaks[kept][:, :2].astype(np.float32),
        keypoint_scores=score[kept].astype(np.float32),
        edge_types=kinds,
        edge_ends=ends,
        edge_scores=candidates[kinds, i, j].astype(np.float32),
        people=people,
        owners=_owners(people, kept),
    )


def _owners(people: People, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The person of each kept peak [NK, K]."""
    owners = np.full(kept.shape, -1)
    person, joint = np.nonzero(people.found)
    owners[joint, people.peaks[person, joint]] = person
    return owners[kept]


def _best_pairs(scores: NDArray, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pair joints greedily, one to one for each edge, best first.

    Cao et al. report no loss compared with the optimum in practice (on multi-person parsing).

    Args:
        scores: [NE, K, K].
        threshold: lowest score of a pair.

    Returns:
        Edge, row and column of each pair, in the order of the edges.
    """
    kinds, rows, columns = np.nonzero(scores >= max(threshold, 0))
    order = np.lexsort((-scores[kinds, rows, columns], kinds))
    count = scores.shape[1]
    # Each row and each column is used once per edge.
    taken_rows, taken_columns = set(), set()
    pairs = []
    for pair, row, column in zip(
        order.tolist(), (kinds * count + rows)[order].tolist(), (kinds * count + columns)[order].tolist(), strict=True
    ):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append(pair)
    return kinds[pairs], rows[pairs], columns[pairs]
