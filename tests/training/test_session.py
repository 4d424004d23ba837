"""Eager sessions of several networks that share the encoding of each frame."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.synthetic_frames import synthetic_frames
from training.evaluation.controls import Hold, with_rule
from training.model import Edge
from training.model.session import TorchSession
from training.model.weights import load_weights

SEED = np.random.default_rng(0).uniform((5, 5, 1), (155, 91, 1), (2, 17, 3)).astype(np.float32)


@pytest.fixture
def networks(edge_weights: Path) -> tuple[Edge, Edge]:
    """Two networks with the same encoder and different maps."""
    model, _ = load_weights(edge_weights)
    assert isinstance(model, Edge)
    return model, with_rule(model, Hold())


def step_through(session: TorchSession, images: list[NDArray[np.uint8]]) -> list[dict[str, NDArray]]:
    """Return the session's results for each image of a sequence."""
    found = []
    for image in images:
        session.step(image)
        people = session.people()
        assert people is not None
        found.append(
            {"maps": session.maps(), "scores": people.scores, "keypoints": people.keypoints, "ids": people.ids}
        )
    return found


def test_sessions_with_shared_encodings_equal_separate_sessions(networks: tuple[Edge, Edge]):
    """For a sequence with a cold start and a seeded one, with the same memory."""
    images = synthetic_frames(96, 160, 10)
    first = TorchSession(networks[0], slots=4, every=2, peaks=8)
    together = first, first.with_network(networks[1])
    separate = [TorchSession(network, slots=4, every=2, peaks=8) for network in networks]
    last_maps = []
    for part, seeded in ((images[:6], False), (images[6:], True)):
        for one, other in zip(together, separate, strict=True):
            for session in (one, other):
                session.reset()
                if seeded:
                    session.seed(SEED)
            found = step_through(one, part)
            for ours, theirs in zip(found, step_through(other, part), strict=True):
                for name in ours:
                    np.testing.assert_array_equal(ours[name], theirs[name], name)
            last_maps.append(found[-1]["maps"])
    assert np.abs(last_maps[0] - last_maps[1]).max() > 1e-3, "the networks differ"


def test_frame_shared_by_several_sessions_is_encoded_once(networks: tuple[Edge, Edge], monkeypatch: pytest.MonkeyPatch):
    encoded = []
    for network in networks:
        original = network.encode_query

        def counted(frame, original=original):
            encoded.append(frame)
            return original(frame)

        monkeypatch.setattr(network, "encode_query", counted)
    images = synthetic_frames(96, 160, 5)
    first = TorchSession(networks[0], slots=4, every=2)
    for session in (first, first.with_network(networks[1]), first.with_network(networks[0])):
        step_through(session, images)
    assert len(encoded) == len(images)
    step_through(TorchSession(networks[0], slots=4, every=2), images)
    assert len(encoded) == 2 * len(images), "a separate session encodes its own frames"
