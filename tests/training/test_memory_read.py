import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.model.network import read_memory

Q, CK, CV = 6, 4, 5


def memory(slots: int, seed: int) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    query = torch.randn(2, Q, CK, generator=random, dtype=torch.float64)
    keys = 3 * torch.randn(2, slots, Q, CK, generator=random, dtype=torch.float64)
    values = torch.randn(2, slots, Q, CV, generator=random, dtype=torch.float64)
    return query, keys, values


slots_and_valid = st.integers(1, 8).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
seeds = st.integers(0, 10_000)


def valid_mask(valid: list[bool]) -> torch.Tensor:
    return torch.tensor([valid, valid], dtype=torch.float64)


def test_equals_the_definition():
    query, keys, values = memory(3, seed=0)
    logits = torch.einsum("bqc,btkc->bqtk", query, keys) / CK**0.5
    weights = logits.flatten(2).softmax(-1).unflatten(2, (3, Q))
    expected = torch.einsum("bqtk,btkc->bqc", weights, values)
    torch.testing.assert_close(read_memory(query, keys, values, valid_mask([True] * 3)), expected)


@settings(deadline=None)
@given(slots_and_valid, seeds, st.randoms(use_true_random=False))
def test_order_of_slots_does_not_matter(valid, seed, random):
    query, keys, values = memory(len(valid), seed)
    order = list(range(len(valid)))
    random.shuffle(order)
    shuffled = read_memory(query, keys[:, order], values[:, order], valid_mask(valid)[:, order])
    torch.testing.assert_close(shuffled, read_memory(query, keys, values, valid_mask(valid)))


@settings(deadline=None)
@given(slots_and_valid.filter(any), seeds)
def test_masking_slots_equals_removing_them(valid, seed):
    query, keys, values = memory(len(valid), seed)
    kept = [slot for slot, is_valid in enumerate(valid) if is_valid]
    smaller = read_memory(query, keys[:, kept], values[:, kept], valid_mask([True] * len(kept)))
    torch.testing.assert_close(read_memory(query, keys, values, valid_mask(valid)), smaller)


@settings(deadline=None)
@given(st.integers(1, 8), seeds, st.floats(-1e4, 1e4))
def test_memory_without_valid_slots_reads_exactly_zero(slots, seed, stale):
    query, keys, values = memory(slots, seed)
    read = read_memory(query, keys + stale, values + stale, valid_mask([False] * slots))
    assert torch.equal(read, torch.zeros_like(read))
