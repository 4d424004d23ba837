"""What goes through a video frame by frame, whatever it computes with."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.people import People


class Stepper(Protocol):
    """What runs a network through a video: ``TorchSession``, or the runtime's ``Session`` with a bundle."""

    def step(self, frame: NDArray[np.uint8]) -> object:
        """Go on by a frame, BGR [H, W, 3] of the network's size."""

    def maps(self) -> NDArray[np.float32]:
        """[C, H/4, W/4] of the latest frame."""
        ...


class Tracker(Stepper, Protocol):
    """The same with all that is asked of it when it is measured."""

    def reset(self) -> None:
        """Forget everything."""

    def seed(self, poses: NDArray) -> None:
        """Start anew with these people [P, NK, 3] in the next frame, x, y in its pixels, visibility."""

    def people(self) -> People | None:
        """Everybody in the latest frame, network pixels, however low their scores; None where people are not told
        apart."""
        ...
