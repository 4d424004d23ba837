"""The benchmarks page: blocks are replaced, other text stays, and every block has a step that produces it."""

import re
import threading
from pathlib import Path

import pytest

from benchmarks.compare.compare import Options, compare
from benchmarks.compare.comparison import write_comparison
from benchmarks.publish import PAGE, blocks, fill, steps

TEXT = "Words.\n\n<!-- edge-movenet -->\nold\n<!-- end -->\n\nMore words.\n<!-- unknown-thing -->\nkept\n<!-- end -->\n"


def test_blocks_are_filled_and_other_text_stays(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(TEXT)
    assert fill(page, {"edge-movenet": "| new |\n"}) == ["unknown-thing"]
    text = page.read_text()
    assert "| new |" in text
    assert "old" not in text
    assert "kept" in text
    assert text.startswith("Words.")
    fill(page, {"edge-movenet": "| newer |\n"})
    assert page.read_text() == text.replace("| new |", "| newer |"), "filling twice replaces the block"


def test_a_comparison_becomes_a_block(edge_bundle: Path, clip: Path, tmp_path: Path):
    arms = (str(edge_bundle), f"{edge_bundle},threads=1")
    write_comparison(compare(Options(str(clip), arms, 2, 2), threading.Event(), lambda _line: None), tmp_path / "slots")
    found = blocks(tmp_path)
    assert list(found) == ["slots"]
    assert "| variant | ratio to the first |" in found["slots"]


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_block_of_the_page_has_a_step_and_is_filled(page: str):
    made = steps("v", "c", "s", "m")
    found = re.findall(r"<!-- ([a-z0-9-]+) -->\n(.*?)<!-- end -->", page, re.S)
    assert len(found) > 10
    for name, text in found:
        assert any(name == step or name.startswith(f"{step}-") for step in made), name
        assert "|" in text, f"{name} is empty"


def test_every_plot_of_the_page_exists_and_is_small(page: str):
    targets = re.findall(r"\((images/[^)]+)\)", page)
    assert len(targets) > 5
    for target in targets:
        assert 1000 < (PAGE.parent / target).stat().st_size < 200_000, target
