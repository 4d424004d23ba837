"""Names of the networks, which are defined in training/model."""

from typing import Literal

Variant = Literal["resnet50", "stm", "edge"]
