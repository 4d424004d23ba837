"""The memory read of ``edge``: estimated movements, and the values read along them.

Tested with the arithmetic of training and with its equivalent for CPUs.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from export.cpu import CpuMotion
from training.model import Edge, ModelConfig, QueryEncoding, build
from training.model.edge import CONTEXT_CHANNELS, VALUE_CHANNELS
from training.model.motion import LARGEST_MOVE, Motion
from training.model.network import to_tokens

HEIGHT, WIDTH = 16, 28
TOKENS = HEIGHT * WIDTH
GAIN = torch.tensor(20.0)
CLEAR = VALUE_CHANNELS - 1
"""Channel of a value with the clearness of a cell; in a read, the first channel of the maxima."""
MIDDLE = (slice(10, -10), slice(10, -10))
"""The part of an image at stride 8 that is more than five tokens from its border."""


def unit_keys(seed: int, count: int = 1) -> torch.Tensor:
    """[1, count, h * w, 64]: random unit vectors."""
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(1, count, TOKENS, 64, generator=random), dim=-1)


def moved(tokens: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """[1, h * w, C]: the tokens shifted by whole tokens; tokens that enter the image are new."""
    new = F.normalize(torch.randn(tokens.shape, generator=torch.Generator().manual_seed(9)), dim=-1)
    result = new.unflatten(1, (HEIGHT, WIDTH))
    sizes = (HEIGHT, down), (WIDTH, right)
    now = tuple(slice(max(0, by), size + min(0, by)) for size, by in sizes)
    then = tuple(slice(max(0, -by), size + min(0, -by)) for size, by in sizes)
    result[:, now[0], now[1]] = tokens.unflatten(1, (HEIGHT, WIDTH))[:, then[0], then[1]]
    return result.flatten(1, 2)


EQUALLY_CLEAR = torch.zeros(1, 1, HEIGHT // 2, WIDTH // 2)


@pytest.fixture(params=[Motion, CpuMotion])
def motion(request: pytest.FixtureRequest) -> Motion:
    return request.param()


def find_movements(
    motion: Motion, now: torch.Tensor, slots: torch.Tensor, clear: torch.Tensor = EQUALLY_CLEAR
) -> torch.Tensor:
    """Return movements [1, T, 2h, 2w, 2] between keys [1, h * w, 64] and those of the slots."""
    every_second = now.unflatten(1, (HEIGHT, WIDTH))[:, ::2, ::2].flatten(1, 2)
    return motion.movements(motion.match(every_second, slots, GAIN, HEIGHT, WIDTH), clear, HEIGHT, WIDTH)


def test_matching_for_cpus_equals_matching_for_training():
    """Up to a constant per query, which affects neither the softmax nor the best position."""
    tokens, keys = unit_keys(0)[:, 0, : TOKENS // 4], unit_keys(1, 3)
    ours, theirs = (motion().match(tokens, keys, GAIN, HEIGHT, WIDTH) for motion in (Motion, CpuMotion))
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 1), (-1, 2), (-2, -2)])
def test_movement_by_whole_tokens_is_found(motion: Motion, right: int, down: int):
    slots = unit_keys(0, 2)
    moves = find_movements(motion, moved(slots[:, 1], right, down), slots)[0, 1]
    assert moves.shape == (2 * HEIGHT, 2 * WIDTH, 2)
    expected = torch.tensor([-right, -down]).expand_as(moves[MIDDLE])
    torch.testing.assert_close(moves[MIDDLE], expected.float(), atol=0.1, rtol=0)


def test_occluded_area_moves_with_its_surroundings(motion: Motion):
    slots = unit_keys(0)
    now = moved(slots[:, 0], 2, 1).unflatten(1, (HEIGHT, WIDTH))
    hidden = (slice(None), slice(6, 10), slice(12, 16))
    now[hidden] = unit_keys(1)[0].unflatten(1, (HEIGHT, WIDTH))[hidden]
    moves = find_movements(motion, now.flatten(1, 2), slots)[0, 0, 12:20, 24:32]
    torch.testing.assert_close(moves, torch.tensor([-2.0, -1.0]).expand_as(moves), atol=0.25, rtol=0)


def test_independently_moving_object_is_followed_but_an_occluder_is_not(motion: Motion):
    """A block moves right while the rest of the image moves down."""
    slots = unit_keys(0)
    block, size = (slice(None), slice(4, 12), slice(10, 20)), (HEIGHT, WIDTH)
    now = moved(slots[:, 0], 0, 1).unflatten(1, size)
    now[block] = moved(slots[:, 0], 2, 0).unflatten(1, size)[block]
    inside = slice(12, 20), slice(26, 34)
    apart = find_movements(motion, now.flatten(1, 2), slots)[0, 0][inside]
    torch.testing.assert_close(apart, torch.tensor([-2.0, 0.0]).expand_as(apart), atol=0.25, rtol=0)
    unclear = EQUALLY_CLEAR.clone()
    unclear[..., 2:6, 5:10] = -12
    hidden = find_movements(motion, now.flatten(1, 2), slots, unclear)[0, 0][inside]
    torch.testing.assert_close(hidden, torch.tensor([0.0, -1.0]).expand_as(hidden), atol=0.25, rtol=0)


def test_smoothing_is_symmetric(motion: Motion):
    """Half of the image has moved by two tokens. At the boundary of the halves, the movement is one."""
    target = torch.arange(TOKENS).unflatten(0, (HEIGHT, WIDTH))[::2, ::2].clone()
    target[:, WIDTH // 4 :] -= 2
    moves = motion.movements(
        1e3 * F.one_hot(target.flatten(), TOKENS).float()[None, None], EQUALLY_CLEAR, HEIGHT, WIDTH
    )[0, 0]
    edges = moves[:, [0, -1], 0].mean(0)
    assert edges[0] > -0.1
    assert edges[1] < -1.9
    # Every second token is used, starting with the first, so their centre is half a token left of the image's.
    between = moves[:, WIDTH - 2 : WIDTH, 0].mean(1)
    torch.testing.assert_close(between, torch.full_like(between, -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(moves[..., 1], torch.zeros_like(moves[..., 1]), atol=1e-3, rtol=0)


def test_movements_are_finite_and_bounded_for_any_match(motion: Motion):
    for logits in (torch.zeros(1, 1, TOKENS // 4, TOKENS), 1e4 * torch.randn(1, 1, TOKENS // 4, TOKENS)):
        moves = motion.movements(logits, EQUALLY_CLEAR, HEIGHT, WIDTH)
        assert torch.isfinite(moves).all()
        assert moves.abs().max() <= LARGEST_MOVE + 1e-3


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-1, 1)])
def test_sampling_with_uniform_movement_shifts_the_image(motion: Motion, right: int, down: int):
    height, width = 6, 9
    maps = torch.randn(2, height, width, 3, generator=torch.Generator().manual_seed(0))
    moves = torch.tensor([right, down]).float().expand(2, height, width, 2)
    rows, columns = ((torch.arange(size) + by).clamp(0, size - 1) for size, by in ((height, down), (width, right)))
    expected = maps[:, rows][:, :, columns].flatten(1, 2)
    torch.testing.assert_close(motion.sample(maps.flatten(1, 2), moves), expected, atol=1e-5, rtol=1e-5)


def test_sampling_interpolates_between_cells_in_fp32(motion: Motion):
    maps = to_tokens(torch.tensor([0.0, 1.0, 3.0]).expand(1, 1, 2, 3))
    moves = torch.tensor([0.5, 0.0]).expand(1, 2, 3, 2)
    expected = to_tokens(torch.tensor([0.5, 2.0, 3.0]).expand(1, 1, 2, 3))
    torch.testing.assert_close(motion.sample(maps, moves), expected)
    torch.testing.assert_close(motion.sample(maps.half(), moves), expected)


@pytest.fixture(scope="module")
def edge() -> Edge:
    model = build(ModelConfig(variant="edge"))
    assert isinstance(model, Edge)
    return model.eval()


@torch.no_grad()
def read(edge: Edge, now: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, valid: list[bool]) -> torch.Tensor:
    """[VALUE_CHANNELS + 18, 2h, 2w]: the read of keys [1, h * w, 64]."""
    grid = torch.zeros(1, 64, HEIGHT, WIDTH)
    query = QueryEncoding(now, torch.zeros(1, TOKENS, CONTEXT_CHANNELS), {"features_p4": grid})
    return edge.read(query, keys, values, torch.tensor([valid]).float())[0]


def unfolded(values: torch.Tensor) -> torch.Tensor:
    """[h * w, CONTEXT_CHANNELS] rearranged as an image [VALUE_CHANNELS, 2h, 2w]."""
    return values.reshape(2 * HEIGHT, 2 * WIDTH, VALUE_CHANNELS).permute(2, 0, 1)


def random_query_and_memory(seed: int, slots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random keys of a frame, and keys and values of a memory."""
    random = torch.Generator().manual_seed(seed)
    return (
        unit_keys(seed)[0],
        unit_keys(seed + 1, slots),
        torch.randn(1, slots, TOKENS, CONTEXT_CHANNELS, generator=random),
    )


def test_memorised_values_are_read_at_their_current_position(edge: Edge):
    keys, values = unit_keys(0), torch.rand(1, 1, TOKENS, CONTEXT_CHANNELS, generator=torch.Generator().manual_seed(0))
    result = read(edge, moved(keys[:, 0], 2, 1), keys, values, [True])
    expected = torch.roll(unfolded(values[0, 0]), (2, 4), dims=(1, 2))
    inside = (slice(None), *MIDDLE)
    # Neighbours of random keys are uninformative, so positions between tokens are wrong by a few hundredths.
    torch.testing.assert_close(result[:CLEAR][inside], expected[:CLEAR][inside], atol=0.15, rtol=0)
    torch.testing.assert_close(result[CLEAR : CLEAR + 17][inside], expected[:17][inside], atol=0.15, rtol=0)
    assert torch.equal(result[-1], torch.ones(2 * HEIGHT, 2 * WIDTH))


def test_slots_are_weighted_by_clearness_and_match(edge: Edge):
    keys, values = unit_keys(0).repeat(1, 2, 1, 1), torch.zeros(1, 2, TOKENS, 4, VALUE_CHANNELS)
    values[:, 1, ..., 0] = 1
    inside = (0, *MIDDLE)
    alike = read(edge, keys[:, 0], keys, values.flatten(3), [True, True])
    torch.testing.assert_close(alike[inside], torch.full_like(alike[inside], 0.5), atol=0.05, rtol=0)
    assert (alike[CLEAR][MIDDLE] > 0.95).all(), "the maximum is over all slots"
    values[:, 1, ..., CLEAR] = 5
    assert (read(edge, keys[:, 0], keys, values.flatten(3), [True, True])[inside] > 0.95).all(), (
        "the clearer slot counts more"
    )
    values[:, 1, ..., CLEAR] = 0
    keys[:, 1] = unit_keys(7)[:, 0]
    worse = read(edge, moved(keys[:, 0], 2, 1), keys, values.flatten(3), [True, True])[inside]
    assert (worse < 0.2).float().mean() > 0.95, "a slot that does not match counts little"


slots_and_valid = st.integers(1, 4).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=15)
@given(slots_and_valid, seeds, st.randoms(use_true_random=False))
def test_order_of_slots_does_not_matter(edge: Edge, valid: list[bool], seed: int, random):
    now, keys, values = random_query_and_memory(seed, len(valid))
    order = list(range(len(valid)))
    random.shuffle(order)
    shuffled = read(edge, now, keys[:, order], values[:, order], [valid[slot] for slot in order])
    torch.testing.assert_close(shuffled, read(edge, now, keys, values, valid), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(slots_and_valid.filter(any), seeds, st.floats(-1e6, 1e6))
def test_contents_of_invalid_slots_do_not_matter(edge: Edge, valid: list[bool], seed: int, stale: float):
    now, keys, values = random_query_and_memory(seed, len(valid))
    other_keys, other_values = keys.clone(), values.clone()
    for tensor in (other_keys, other_values):
        tensor[:, [not is_valid for is_valid in valid]] += stale
    assert torch.equal(read(edge, now, other_keys, other_values, valid), read(edge, now, keys, values, valid))


@settings(deadline=None, max_examples=15)
@given(slots_and_valid.filter(any), seeds)
def test_masking_slots_equals_removing_them(edge: Edge, valid: list[bool], seed: int):
    """Holds for non-negative values, such as confidences: an invalid slot counts as 0 in the maximum over the slots."""
    now, keys, values = random_query_and_memory(seed, len(valid))
    kept = [slot for slot, is_valid in enumerate(valid) if is_valid]
    values = values.abs()
    smaller = read(edge, now, keys[:, kept], values[:, kept], [True] * len(kept))
    torch.testing.assert_close(read(edge, now, keys, values, valid), smaller, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 4), seeds, st.floats(-1e6, 1e6))
def test_memory_without_valid_slots_reads_exactly_zero(edge: Edge, slots: int, seed: int, stale: float):
    now, keys, values = random_query_and_memory(seed, slots)
    result = read(edge, now, keys + stale, values + stale, [False] * slots)
    assert torch.equal(result, torch.zeros(VALUE_CHANNELS + 18, 2 * HEIGHT, 2 * WIDTH))


@torch.no_grad()
def test_fp16_tensors_are_read_with_small_error(edge: Edge):
    """The values are rounded once. Movements and mixing are computed in FP32, from rounded keys."""
    keys, values = (
        unit_keys(0, 3),
        torch.rand(1, 3, TOKENS, CONTEXT_CHANNELS, generator=torch.Generator().manual_seed(0)),
    )
    now = moved(keys[:, 0], 1, 1)
    full = read(edge, now, keys, values, [True] * 3)
    half = read(edge, now.half(), keys.half(), values.half(), [True] * 3)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), full, atol=1.5e-2, rtol=0)
