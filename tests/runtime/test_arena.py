from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.arena import RESULTS, Block, lay_out_results, plan_arena, tensor_bytes, view_results
from runtime.bank import ALIGNMENT
from stm_skeletons.bundle import Bundle, BundleInfo
from stm_skeletons.detections import Detections
from stm_skeletons.maps import SKELETON_CHANNEL


@pytest.fixture(scope="module", params=["edge_bundle", "resnet_bundle"])
def info(request: pytest.FixtureRequest) -> BundleInfo:
    return Bundle.open(request.getfixturevalue(request.param)).info


@given(activation_bytes=st.integers(0, 1 << 30))
def test_nothing_overlaps_and_everything_is_aligned(info: BundleInfo, activation_bytes: int):
    arena = plan_arena(info, activation_bytes)
    assert arena.activations.size == activation_bytes
    blocks = sorted((*arena.tensors.values(), arena.landing, arena.activations), key=lambda block: block.start)
    assert all(block.start % ALIGNMENT == 0 for block in blocks)
    assert all(before.end <= after.start for before, after in pairwise(blocks))
    assert blocks[-1].end <= arena.size
    # What is not a tensor's is padding: nothing is allocated without a use.
    assert arena.size - sum(block.size for block in blocks) <= ALIGNMENT * (len(blocks) + len(arena.tensors))


def test_every_tensor_but_the_memory_encoders_outputs_has_its_bytes(info: BundleInfo):
    arena = plan_arena(info, 0)
    for graph in info.graphs.values():
        for spec in (*graph.inputs, *graph.outputs):
            if spec.name not in ("memory_key", "memory_value"):
                assert arena.tensors[spec.name].size == tensor_bytes(spec)
    assert {"memory_key", "memory_value"}.isdisjoint(arena.tensors)


def test_one_copy_brings_frame_and_valid_slots_and_one_takes_all_results(info: BundleInfo):
    arena = plan_arena(info, 0)
    assert arena.landing.size == arena.upload.size
    for name in ("frame", "memory_valid"):
        assert inside(arena.tensors[name], arena.upload)
    inner = arena.in_upload("memory_valid")
    assert arena.upload.start + inner.start == arena.tensors["memory_valid"].start
    blocks, size = lay_out_results(info)
    assert arena.results.size == size
    for name, block in blocks.items():
        assert arena.tensors[name] == Block(arena.results.start + block.start, block.size), "as they are viewed"


def test_all_that_the_decoder_gives_but_the_maps_comes_back(info: BundleInfo):
    """What the host does not read of a frame need not be made either."""
    given_out = {spec.name for spec in info.graphs["read_decoder"].outputs}
    assert given_out - {"maps"} == lay_out_results(info)[0].keys()
    assert ("centres" in given_out) == (info.variant == "edge")


def test_results_are_views_of_what_came_down(info: BundleInfo):
    blocks, size = lay_out_results(info)
    memory = np.zeros(size, np.uint8)
    found = view_results(info, memory)
    memory[:] = np.arange(size // 4, dtype=np.float32).view(np.uint8)
    for name, block in blocks.items():
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert array.shape == info.graphs["read_decoder"].tensor(name).shape
        np.testing.assert_array_equal(array.ravel(), np.arange(block.start // 4, block.end // 4))


def test_a_network_without_keypoints_has_results_too_all_zero(edge_bundle: Path):
    """As ``stm`` is, whose read_decoder gives maps alone."""
    info = Bundle.open(edge_bundle).info
    decoder = info.graphs["read_decoder"]
    decoder = decoder.model_copy(update={"outputs": tuple(spec for spec in decoder.outputs if spec.name == "maps")})
    graphs = {**info.graphs, "read_decoder": decoder}
    maps_only = info.model_copy(update={"channels": (SKELETON_CHANNEL,), "graphs": graphs})
    assert lay_out_results(maps_only) == ({}, 0)
    assert plan_arena(maps_only, 0).results.size == 0
    found = view_results(maps_only, np.zeros(1, np.uint8))
    shapes = {"peaks": (17, 8, 3), "edge_scores": (19, 8, 8), "previous": (4, 17, 8, 2)}
    shapes |= {"centres": (0, 3), "centre_joints": (0, 17, 2)}
    assert {name: getattr(found, name).shape for name in RESULTS} == shapes
    assert not any(getattr(found, field.name).any() for field in fields(Detections))


def inside(inner: Block, outer: Block) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end
