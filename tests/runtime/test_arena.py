from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.arena import Block, plan_arena, tensor_bytes
from runtime.bank import ALIGNMENT
from stm_skeletons.bundle import Bundle, BundleInfo


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
    for name in ("peaks", "edge_scores"):
        assert inside(arena.tensors[name], arena.results)
    inner = arena.in_upload("memory_valid")
    assert arena.upload.start + inner.start == arena.tensors["memory_valid"].start


def inside(inner: Block, outer: Block) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end
