"""README, CONTRIBUTING and docs/ name only existing files, links, recipes, commands and options."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from stm_skeletons.cli.app import make_app
from training.recipe import load_recipe
from training.recipe_files import shipped_recipes

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
GENERATED = "docs/benchmarks.md"
MOST_LINES = 1200
"""Of all pages except the generated one."""
PACKAGES = (
    "stm_skeletons/",
    "runtime/",
    "training/",
    "export/",
    "benchmarks/",
    "tests/",
    "docs/",
    "examples/",
    "deploy/",
)
RECIPES = re.compile(r"(?<![\w./])(?:table[123]|edge|cyclic)-[a-z0-9][a-z0-9-]*(?![\w.*])")
NOT_RECIPES = {"edge-640", "edge-int8", "edge-bf16", "edge-movenet"}
STANDS_FOR = {"DATA": "--data coco=COCO --data posetrack18=POSETRACK18", "M": "1", "N": "1"}


def code_in(text: str) -> set[str]:
    """Return the code between backticks, each on one line."""
    return {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))}


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every ``stm-skeletons`` command, with continued lines joined and comments dropped."""
    joined = re.sub(r"\\\n\s+", "", text)
    lines = re.findall(r"^(?: {4,}|\.venv/bin/|[\w./ ]*&& )(stm-skeletons .*)$", joined, re.M)
    inline = [code for code in code_in(joined) if code.startswith("stm-skeletons ")]
    commands = []
    for line in (*lines, *inline):
        line = re.sub(r"\s*(?:&&|\|).*$", "", line)
        words = " ".join(STANDS_FOR.get(word, word) for word in shlex.split(line, comments=True)).split()
        commands.append(words[1:])
    return commands


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_are_short_enough():
    lines = {name: len(text.splitlines()) for name, text in PAGES.items() if name != GENERATED}
    assert sum(lines.values()) <= MOST_LINES, lines
    assert lines["README.md"] < 120


@pytest.mark.parametrize("name", PAGES)
def test_every_named_path_and_definition_exists(name: str):
    found = 0
    for code in code_in(PAGES[name]):
        path, _, inside = code.partition("::")
        if not path.startswith(PACKAGES) or set("*{ ") & set(path) or "NAME" in path:
            continue
        found += 1
        assert (ROOT / path).exists(), f"{path} in {name}"
        if inside:
            definition = rf"^\s*(?:async )?(?:def|class) {inside}\b|^{inside}\b.* = "
            assert re.search(definition, (ROOT / path).read_text(encoding="utf-8"), re.M), f"{code} in {name}"
    assert found >= (60 if name == "docs/paper.md" else 0)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str):
    folder = (ROOT / name).parent
    text = re.sub(r"```.*?```", "", PAGES[name], flags=re.S)
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", text):
        page = (folder / target).resolve() if target else ROOT / name
        assert page.exists(), f"{target} in {name}"
        if anchor:
            assert anchor in anchors_of(page.read_text(encoding="utf-8")), f"{target}#{anchor} in {name}"


@pytest.mark.parametrize("name", PAGES)
def test_every_recipe_exists(name: str):
    named = {recipe for code in code_in(PAGES[name]) for recipe in RECIPES.findall(code)}
    assert named - NOT_RECIPES <= set(shipped_recipes())


def test_every_recipe_of_a_table_in_the_paper_is_named():
    """train.md has their commands, in both sizes; paper.md has their rows."""
    filled = {recipe for recipe in shipped_recipes() if recipe.startswith("table")}
    assert filled <= set(RECIPES.findall(PAGES["docs/train.md"]))
    assert {recipe for recipe in filled if not recipe.endswith("-small")} <= set(
        RECIPES.findall(PAGES["docs/paper.md"])
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_its_options_exist(name: str):
    app: Any = typer.main.get_command(make_app())  # click's groups have commands; Typer carries its own copy of click
    for words in commands_in(PAGES[name]):
        command, rest = app, words
        while rest and isinstance(getattr(command, "commands", None), dict) and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        if words and words[0] == "COMMAND":
            continue
        assert command is not app or not words or words[0].startswith("-"), f"stm-skeletons {words} in {name}"
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        if command.name == "bench":  # "bench VIDEO" is "bench run VIDEO"
            options |= {option for each in command.commands["run"].params for option in each.opts}
        given = {word.strip("[]").partition("=")[0] for word in rest if word.strip("[").startswith("--")}
        assert {option for part in given for option in part.split("|")} <= options | {"--help"}, (
            f"stm-skeletons {' '.join(words)} in {name}"
        )


def test_every_key_of_a_recipe_is_listed():
    def keys(content: dict) -> set[str]:
        return set(content).union(*(keys(value) for value in content.values() if isinstance(value, dict)))

    listed = {word for code in code_in(PAGES["docs/train.md"]) for word in re.findall(r"[a-z_]+", code)}
    assert keys(load_recipe("edge-coco").resolved()) <= listed
