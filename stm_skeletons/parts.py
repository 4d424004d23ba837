"""What a frame is turned into: keypoints and edges of all people, in pixels of the source frame."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from stm_skeletons.skeleton import Skeleton


@dataclass(frozen=True)
class Parts:
    """The body parts seen in one frame.

    Coordinates are source-frame pixels (continuous, see geometry); scores lie in [0, 1]. An edge's end points are two
    of the keypoints, and each keypoint ends at most one edge of each type.
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
    people: NDArray[np.int64]
    """[N] number of the person to whom edges join a keypoint, from 0 in the order of their first keypoints; -1 for one
    that nothing joins to another. Nobody has a joint twice. Numbers mean nothing from one frame to the next."""

    @property
    def people_count(self) -> int:
        """P: how many people have at least two keypoints."""
        return int(self.people.max(initial=-1)) + 1

    def poses(self) -> NDArray[np.float32]:
        """[P, NK, 3]: x, y and score of every joint of every person; zeros for joints that were not found."""
        joined = self.people >= 0
        poses = np.zeros((self.people_count, len(self.skeleton.joints), 3), np.float32)
        at = self.people[joined], self.keypoint_types[joined]
        poses[at] = np.column_stack([self.keypoints, self.keypoint_scores])[joined]
        return poses

    def to_dict(self, frame: int, time: float) -> dict:
        """The JSON lines object of this frame: see PartsLine, and parts.schema.json for the schema."""
        keypoints: dict[str, list[list[float]]] = {name: [] for name in self.skeleton.joints}
        edges: dict[str, list[list[float]]] = {name: [] for name in self.skeleton.edge_names}
        people: list[dict[str, int]] = [{} for _ in range(self.people_count)]
        xy = self.keypoints.astype(float).round(1).tolist()
        kinds, scores = self.keypoint_types.tolist(), self.keypoint_scores.astype(float).tolist()
        for kind, point, score, person in zip(kinds, xy, scores, self.people.tolist(), strict=True):
            name = self.skeleton.joints[kind]
            if person >= 0:
                people[person][name] = len(keypoints[name])
            keypoints[name].append([*point, round(score, 3)])
        for kind, (a, b), score in zip(
            self.edge_types.tolist(), self.edge_ends.tolist(), self.edge_scores.astype(float).tolist(), strict=True
        ):
            edges[self.skeleton.edge_names[kind]].append([*xy[a], *xy[b], round(score, 3)])
        return {
            "frame": frame,
            "time": round(time, 3),
            "size": list(self.size),
            "keypoints": keypoints,
            "edges": edges,
            "people": people,
        }

    def to_json_line(self, frame: int, time: float) -> str:
        """One line of JSON, without the line break."""
        return json.dumps(self.to_dict(frame, time), separators=(",", ":"))


class PartsLine(BaseModel):
    """One line of the JSON lines output; the source of the shipped schema."""

    model_config = ConfigDict(extra="forbid", title="STM-skeletons parts of one frame")

    frame: int = Field(ge=0, description="Number of the frame in the source, from 0.")
    time: float = Field(ge=0, description="Seconds since the first frame.")
    size: tuple[int, int] = Field(description="Width and height of the source frame in pixels.")
    keypoints: dict[str, list[tuple[float, float, float]]] = Field(
        description="For every joint, always present: x, y in source pixels (top-left corner is 0, 0) and score."
    )
    edges: dict[str, list[tuple[float, float, float, float, float]]] = Field(
        description="For every edge 'joint-joint', always present: x1, y1, x2, y2 in source pixels and score."
    )
    people: list[dict[str, int]] = Field(
        description="For everybody of whom at least two keypoints are joined by edges: for each joint that was found, "
        "its place in that joint's list under 'keypoints', from 0. In no particular order."
    )


def assemble_parts(
    skeleton: Skeleton,
    size: tuple[int, int],
    peaks: NDArray,
    edge_scores: NDArray,
    keypoint_threshold: float,
    edge_threshold: float,
) -> Parts:
    """Keep the peaks and edges that score enough, and pair joints one to one. Joins nobody yet: see ``join_people``.

    Args:
        skeleton: names the channels.
        size: (width, height) of the source frame.
        peaks: float32 [NK, K, 3]: x, y in source pixels, score (0: no peak). Peaks outside the frame are dropped.
        edge_scores: float32 [NE, K, K]: score of the edge from peak i of its first joint to peak j of its second.
        keypoint_threshold: lowest score of a keypoint.
        edge_threshold: lowest score of an edge.
    """
    x, y, score = np.moveaxis(peaks, -1, 0)
    # A score of 0 fills up where there are fewer than K peaks.
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
        people=np.full(len(types), -1),
    )


def _best_pairs(scores: NDArray, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Greedy one-to-one pairs for each edge, best first (Cao et al., on multi-person parsing: no loss against the
    optimum in practice).

    Args:
        scores: [NE, K, K].
        threshold: lowest score of a pair.

    Returns:
        Edge, row and column of each pair, in the order of the edges.
    """
    kinds, rows, columns = np.nonzero(scores >= max(threshold, 0))
    order = np.lexsort((-scores[kinds, rows, columns], kinds))
    count = scores.shape[1]
    # A row or column is taken once for each edge.
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
