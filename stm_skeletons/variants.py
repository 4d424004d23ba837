"""The networks there are; training/model has them."""

from typing import Literal

Variant = Literal["resnet50", "stm", "edge"]
