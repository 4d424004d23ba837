from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.arena import ALIGNMENT, RESULTS, Block, lay_out_results, plan_arena, tensor_bytes, view_results
from runtime.bank import ADDRESS_ALIGNMENT
from stm_skeletons.bundle import Bundle, BundleInfo, GraphName, GraphSpec
from stm_skeletons.detections import Detections
from stm_skeletons.errors import BackendError
from stm_skeletons.maps import SKELETON_CHANNEL


@pytest.fixture(scope="module", params=["edge_bundle", "resnet_bundle"])
def info(request: pytest.FixtureRequest) -> BundleInfo:
    return Bundle.open(request.getfixturevalue(request.param)).info


def batched(info: BundleInfo, batch: int) -> BundleInfo:
    """The same bundle for batches of this many cameras."""
    if batch == 1:
        return info
    changed = info.model_copy(update={"batch": batch})

    def batched_graph(name: GraphName) -> GraphSpec:
        graph = info.graphs[name]
        inputs, outputs = (tuple(changed.batch_of(spec) for spec in specs) for specs in (graph.inputs, graph.outputs))
        return graph.model_copy(update={"inputs": inputs, "outputs": outputs})

    encoders = {name: batched_graph(name) for name in ("query_encoder", "memory_encoder")}
    return BundleInfo.model_validate({**changed.model_dump(), "graphs": {**info.graphs, **encoders}})


@given(activation_bytes=st.integers(0, 1 << 30), batch=st.integers(1, 5), cameras=st.integers(1, 9))
def test_blocks_are_aligned_and_do_not_overlap(info: BundleInfo, activation_bytes: int, batch: int, cameras: int):
    arena = plan_arena(batched(info, batch), activation_bytes, cameras)
    assert arena.activations.size == activation_bytes
    assert arena.activations.start % ALIGNMENT == 0
    all_blocks = {
        *(block for blocks in arena.decoders for block in blocks.values()),
        *(block for blocks in arena.encoders for name, block in blocks.items() if batch == 1 or name != "maps"),
        *(arena.landing, arena.activations),
    }
    assert all(block.start % ADDRESS_ALIGNMENT == 0 for block in all_blocks)
    # A row lies inside the block of its batch; no other blocks overlap.
    rows = {block for block in all_blocks if any(inside(block, other) for other in all_blocks - {block})}
    blocks = sorted(all_blocks - rows, key=lambda block: block.start)
    assert all(before.end <= after.start for before, after in pairwise(blocks))
    assert blocks[-1].end <= arena.size
    # Bytes outside tensors are padding: nothing is allocated without a use.
    unused = arena.size - sum(block.size for block in blocks)
    assert unused <= ALIGNMENT * (len(blocks) + 1) + (len(arena.encoders) * batch - cameras) * maps_bytes(info)


def maps_bytes(info: BundleInfo) -> int:
    """Bytes of one camera's maps; a batch has them for every row, also for rows without a camera."""
    return tensor_bytes(info.graphs["read_decoder"].tensor("maps"))


@pytest.mark.parametrize("batch", [1, 4])
def test_every_tensor_has_its_size_and_every_camera_its_own_blocks(info: BundleInfo, batch: int):
    batched_info = batched(info, batch)
    arena = plan_arena(batched_info, 0, cameras=6)
    decoder = info.graphs["read_decoder"]
    for blocks in arena.decoders:
        assert {name: block.size for name, block in blocks.items()} == {
            spec.name: tensor_bytes(spec) for spec in (*decoder.inputs, *decoder.outputs)
        }
    for graph in ("query_encoder", "memory_encoder"):
        for spec in (*batched_info.graphs[graph].inputs, *batched_info.graphs[graph].outputs):
            written_to_bank = batch == 1 and spec.name in ("memory_key", "memory_value")
            for blocks in arena.encoders:
                assert written_to_bank == (spec.name not in blocks)
                assert written_to_bank or blocks[spec.name].size == tensor_bytes(spec)
    per_camera = {"maps", "memory_keys", "memory_values", *lay_out_results(info)[0]}
    for name in per_camera:
        assert len({blocks[name] for blocks in arena.decoders}) == 6, name
    row = 5 % batch
    frame, maps = arena.encoders[-1]["frame"], arena.encoders[-1]["maps"]
    assert frame.start == arena.upload.start
    assert arena.decoders[5]["maps"].start == maps.start + row * maps_bytes(info)


def test_unaligned_slots_are_staged_for_a_copy(info: BundleInfo):
    memory = info.graphs["memory_encoder"]
    unaligned = [spec.model_copy(update={"shape": (spec.shape[0], 7)}) for spec in memory.outputs]
    changed = memory.model_copy(update={"outputs": tuple(unaligned)})
    arena = plan_arena(info.model_copy(update={"graphs": {**info.graphs, "memory_encoder": changed}}), 0)
    assert {"memory_key", "memory_value"} <= arena.encoders[0].keys()


def test_batch_with_unaligned_rows_is_refused(info: BundleInfo):
    query = info.graphs["query_encoder"]
    unaligned = [spec.model_copy(update={"shape": (4, *spec.shape[:-1], 7)}) for spec in query.outputs]
    changed = query.model_copy(update={"outputs": tuple(unaligned)})
    wrong = info.model_copy(update={"batch": 4, "graphs": {**info.graphs, "query_encoder": changed}})
    with pytest.raises(BackendError, match=r"a row of \d+ bytes in a batch of 4 .*; export with another --size"):
        plan_arena(wrong, 0, 4)


def test_uploads_and_results_of_a_batch_are_one_copy_each(info: BundleInfo):
    arena = plan_arena(batched(info, 4), 0, cameras=6)
    assert arena.landing.size == arena.upload.size
    assert inside(arena.encoders[0]["frame"], arena.upload)
    assert all(inside(blocks["memory_valid"], arena.upload) for blocks in arena.decoders)
    blocks, size = lay_out_results(info)
    assert arena.camera_results == size
    assert arena.results.size == 6 * size
    assert arena.batch_results(0, 4) == Block(arena.results.start, 4 * size)
    assert arena.batch_results(1, 4) == Block(arena.results.start + 4 * size, 2 * size)
    for camera, decoder in enumerate(arena.decoders):
        for name, block in blocks.items():
            start = arena.results.start + camera * size + block.start
            assert decoder[name] == Block(start, block.size), "the same layout as in view_results"


def test_all_outputs_of_the_decoder_except_maps_are_results(info: BundleInfo):
    """Outputs that the host does not read need not be computed."""
    output_names = {spec.name for spec in info.graphs["read_decoder"].outputs}
    assert output_names - {"maps"} == lay_out_results(info)[0].keys()
    assert ("centres" in output_names) == (info.variant == "edge")


def test_results_are_views_of_the_downloaded_memory(info: BundleInfo):
    blocks, size = lay_out_results(info)
    memory = np.zeros(size, np.uint8)
    found = view_results(info, memory)
    memory[:] = np.arange(size // 4, dtype=np.float32).view(np.uint8)
    for name, block in blocks.items():
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert array.shape == info.graphs["read_decoder"].tensor(name).shape
        np.testing.assert_array_equal(array.ravel(), np.arange(block.start // 4, block.end // 4))


def test_results_of_a_network_without_keypoints_are_zero(edge_bundle: Path):
    """As in variant ``stm``, whose read_decoder outputs only maps."""
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
