"""The networks: ``resnet50`` (the paper's), ``stm`` (the original STM with one map) and ``edge`` (for boards)."""

from training.model.config import ModelConfig
from training.model.edge import Edge
from training.model.network import QueryEncoding, SpaceTimeMemory
from training.model.stm import STMSkeletons

__all__ = ["Edge", "ModelConfig", "QueryEncoding", "STMSkeletons", "SpaceTimeMemory", "build"]


def build(config: ModelConfig) -> SpaceTimeMemory:
    """A network with random weights. This includes edge's trunk, until MoveNet's weights are loaded."""
    return Edge(config) if config.variant == "edge" else STMSkeletons(config)
