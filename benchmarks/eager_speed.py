"""A frame of a bundle against the same weights in eager PyTorch with the same memory, in one run.

python -m benchmarks.eager_speed BUNDLE WEIGHTS --frames 40
"""

import argparse

import torch

from benchmarks.ratio import Ratio, time_in_turn
from export.verify import moving_picture
from runtime.session import Session
from training.model.session import TorchSession
from training.model.weights import load_weights


def compare(bundle: str, weights: str, frames: int, threads: int) -> Ratio:
    """Time of the session's whole frame over that of the network in eager PyTorch (which finds no peaks)."""
    torch.set_num_threads(threads)
    model, _ = load_weights(weights)
    with Session.open(bundle, threads=threads) as session:
        loop = TorchSession(model, session.info.slots, session.info.every)
        pictures = moving_picture(session.info.height, session.info.width, frames)
        return time_in_turn(session.step, loop.step, pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description="A bundle against the same weights in eager PyTorch")
    parser.add_argument("bundle")
    parser.add_argument("weights")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    ratio = compare(arguments.bundle, arguments.weights, arguments.frames, arguments.threads)
    print(f"{arguments.bundle} / eager PyTorch, {arguments.threads} threads: {ratio}")


if __name__ == "__main__":
    main()
