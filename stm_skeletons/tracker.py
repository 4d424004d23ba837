"""Interfaces of objects that process a video frame by frame, in PyTorch or in the runtime."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.people import People


class Stepper(Protocol):
    """Runs a network through a video: ``TorchSession``, or the runtime's ``Session`` with a bundle."""

    def step(self, frame: NDArray[np.uint8]) -> object:
        """Process the next frame, BGR [H, W, 3] of the network's size."""

    def maps(self) -> NDArray[np.float32]:
        """Return the maps [C, H/4, W/4] of the latest frame."""
        ...


class Tracker(Stepper, Protocol):
    """A Stepper with the methods that evaluation needs."""

    def reset(self) -> None:
        """Clear the memory and all tracks."""

    def seed(self, poses: NDArray) -> None:
        """Reset, and seed the next frame with people [P, NK, 3]: x, y in its pixels, visibility."""

    def people(self) -> People | None:
        """Return all people in the latest frame in network pixels, whatever their scores; None if the network does not
        group parts into people."""
        ...
