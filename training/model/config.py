"""Configuration of a network's architecture, stored with its weights."""

from functools import cached_property

from pydantic import Field, model_validator

from stm_skeletons.maps import SKELETON_CHANNEL
from stm_skeletons.skeleton import COCO17, Skeleton
from stm_skeletons.strict import Strict
from stm_skeletons.variants import Variant


class ModelConfig(Strict):
    """The variant of a network and its maps."""

    variant: Variant
    skeleton: Skeleton = COCO17
    edges_only: bool = False
    """Omit the keypoint maps (paper section 3.2); ``resnet50`` only."""
    width: float = Field(default=1.0, gt=0, le=1)
    """Share of the paper's channels in every layer, below 1 for small experiments; not for ``edge``."""

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        if self.edges_only and self.variant != "resnet50":
            raise ValueError(f"edges_only is for resnet50, not for {self.variant}")
        if self.width != 1 and self.variant == "edge":
            raise ValueError("width is for resnet50 and stm, not for edge")
        return self

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the maps: 1 + NK + NE; 1 + NE for edges_only; 1 for stm, the map of all people's skeletons (paper
        section 3.1)."""
        if self.variant == "stm":
            return (SKELETON_CHANNEL,)
        if self.edges_only:
            return ("mask", *self.skeleton.edge_names)
        return self.skeleton.channels
