"""The network, one family: ``resnet50`` (the paper's), ``stm`` (its one-map ancestor) and ``edge`` (for boards)."""

from training.model.config import ModelConfig
from training.model.edge import Edge
from training.model.network import QueryEncoding, SpaceTimeMemory
from training.model.stm import STMSkeletons

__all__ = ["Edge", "ModelConfig", "QueryEncoding", "STMSkeletons", "SpaceTimeMemory", "build"]


def build(config: ModelConfig) -> SpaceTimeMemory:
    """A network with fresh weights; edge's trunk is random too until it is converted from MoveNet."""
    return Edge(config) if config.variant == "edge" else STMSkeletons(config)
