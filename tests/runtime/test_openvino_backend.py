from collections.abc import Iterator
from pathlib import Path

import pytest
from backend_contract import BackendContract
from group_contract import GroupContract, OpenGroup

from runtime.backends import BackendOptions, open_backend
from runtime.backends.base import Backend
from runtime.session_group import SessionGroup
from stm_skeletons.bundle import Bundle

pytest.importorskip("openvino")

OPTIONS = BackendOptions("openvino", threads=1)


class TestOpenVino(BackendContract):
    @pytest.fixture
    def backend(self, edge_bundle: Path) -> Iterator[Backend]:
        opened = open_backend(Bundle.open(edge_bundle), OPTIONS)
        yield opened
        opened.close()


class TestGroups(GroupContract):
    exact = False

    @pytest.fixture
    def bundles(self, edge_bundle: Path, edge_batch_bundle: Path) -> tuple[Bundle, Bundle]:
        return Bundle.open(edge_bundle), Bundle.open(edge_batch_bundle)

    @pytest.fixture
    def open_group(self) -> OpenGroup:
        return lambda bundle, cameras: SessionGroup.open(
            bundle, cameras, OPTIONS, min_score=0.0, min_keypoint_score=0.0
        )
