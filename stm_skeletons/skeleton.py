"""Skeletons: joints and edges of a person, which define the channels of the maps."""

from functools import cached_property

from pydantic import model_validator

from stm_skeletons.errors import SkeletonError
from stm_skeletons.strict import Strict


class Skeleton(Strict):
    """The joints and edges of a person, in the order of the channels.

    The maps of a frame are ``[1 + NK + NE, H/4, W/4]``: the person mask, one channel per joint, one channel per edge.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    """Pairs of indices into ``joints``."""
    sigmas: tuple[float, ...]
    """Sigma of each joint in the object keypoint similarity (COCO), as a fraction of the person's scale."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "Skeleton":
        if not self.joints or len(set(self.joints)) != len(self.joints):
            raise ValueError("joint names must be present and unique")
        if len(self.sigmas) != len(self.joints):
            raise ValueError(f"{len(self.joints)} joints but {len(self.sigmas)} sigmas")
        for a, b in self.edges:
            if a == b or not (0 <= a < len(self.joints) and 0 <= b < len(self.joints)):
                raise ValueError(f"edge ({a}, {b}) does not join two of the {len(self.joints)} joints")
        if len({frozenset(edge) for edge in self.edges}) != len(self.edges):
            raise ValueError("an edge is listed twice")
        return self

    @cached_property
    def edge_names(self) -> tuple[str, ...]:
        """Name of each edge, such as ``"left_elbow-left_wrist"``."""
        return tuple(f"{self.joints[a]}-{self.joints[b]}" for a, b in self.edges)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Name of every channel of the maps: mask, joints, edges."""
        return ("mask", *self.joints, *self.edge_names)

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """Index of each joint's mirror image; the joint itself if it has none, like the nose."""
        index = {name: i for i, name in enumerate(self.joints)}
        return tuple(index.get(_mirrored(name), i) for i, name in enumerate(self.joints))

    @cached_property
    def left_right_pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joint indices."""
        return tuple((i, j) for i, j in enumerate(self.flip) if self.joints[i].startswith("left_") and i != j)


def _mirrored(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


def _from_names(name: str, sigmas: dict[str, float], edges: list[tuple[str, str]]) -> Skeleton:
    joints = tuple(sigmas)
    return Skeleton(
        name=name,
        joints=joints,
        edges=tuple((joints.index(a), joints.index(b)) for a, b in edges),
        sigmas=tuple(sigmas.values()),
    )


_LIMB_SIGMAS = {
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
}

COCO17 = _from_names(
    "coco17",
    {
        "nose": 0.026,
        "left_eye": 0.025,
        "right_eye": 0.025,
        "left_ear": 0.035,
        "right_ear": 0.035,
        **_LIMB_SIGMAS,
    },
    # The 19 edges of COCO's own person category, in its order.
    [
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ],
)

POSETRACK15 = _from_names(
    "posetrack15",
    # PoseTrack18 lists 17 joints but never labels the ears, which leaves 15. It publishes no sigmas: as is common for
    # PoseTrack, the head's joints use COCO's sigmas for nose and eyes.
    {"nose": 0.026, "head_bottom": 0.025, "head_top": 0.025, **_LIMB_SIGMAS},
    # PoseTrack18's JSON lists COCO's edges, which do not fit its joints; this is an anatomical tree over the 15 joints.
    [
        ("head_top", "nose"),
        ("nose", "head_bottom"),
        ("head_bottom", "left_shoulder"),
        ("head_bottom", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_hip", "left_knee"),
        ("right_hip", "right_knee"),
        ("left_knee", "left_ankle"),
        ("right_knee", "right_ankle"),
    ],
)
KNOWN_JOINTS = frozenset({*COCO17.joints, *POSETRACK15.joints})

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, POSETRACK15)}


def skeleton_named(name: str) -> Skeleton:
    """Return the skeleton with this name. Raises SkeletonError if it is unknown."""
    try:
        return SKELETONS[name]
    except KeyError:
        raise SkeletonError(f"unknown skeleton '{name}'; choose one of: {', '.join(SKELETONS)}") from None
