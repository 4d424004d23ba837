"""docs/paper.md and docs/training.md name only what there is: files, functions, tests, recipes, commands, options."""

import re
from pathlib import Path

import pytest
import typer

from stm_skeletons.cli.found import make_app
from training.recipe import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
DOCS = ("paper.md", "training.md")
SPEED = ("benchmarks.md", "measuring.md")
ROOMS = ("stm_skeletons/", "runtime/", "training/", "export/", "benchmarks/", "tests/", "docs/", "examples/")
RECIPES = re.compile(r"(?<![\w./])(?:table[123]|edge|cyclic)-[a-z0-9][a-z0-9-]*(?![\w.*])")
SETS = {"DATA": "--data coco=COCO --data posetrack18=POSETRACK18"}


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def code_of(name: str) -> set[str]:
    """What stands between backticks, on one line each."""
    return {
        " ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text_of(name), flags=re.S))
    }


def commands_of(name: str) -> list[list[str]]:
    """The words of every command, its continued lines joined."""
    joined = re.sub(r"\\\n\s+", "", text_of(name))
    lines = re.findall(r"^ {4}(stm-skeletons .*)$", joined, re.M)
    inline = [code for code in code_of(name) if code.startswith("stm-skeletons ") and "COMMAND" not in code]
    return [line.replace("DATA", SETS["DATA"]).split()[1:] for line in (*lines, *inline)]


@pytest.mark.parametrize("name", DOCS)
def test_every_path_and_what_is_said_to_be_in_it_exists(name: str):
    found = 0
    for code in code_of(name):
        path, _, inside = code.partition("::")
        if not path.startswith(ROOMS) or "*" in path:
            continue
        found += 1
        assert (ROOT / path).exists(), f"{path} in docs/{name}"
        if inside:
            definition = rf"^\s*(?:def|class) {inside}\b|^{inside}\b.* = "
            assert re.search(definition, (ROOT / path).read_text(encoding="utf-8"), re.M), f"{code} in docs/{name}"
    assert found > (100 if name == "paper.md" else 3)


@pytest.mark.parametrize("name", [*DOCS, *SPEED])
def test_every_link_leads_somewhere(name: str):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text_of(name)):
        assert (ROOT / "docs" / target).exists(), f"{target} in docs/{name}"


@pytest.mark.parametrize("name", DOCS)
def test_every_recipe_exists(name: str):
    named = set(RECIPES.findall(text_of(name)))
    assert named
    assert named <= set(shipped_recipes())


@pytest.mark.parametrize("name", DOCS)
def test_every_recipe_of_the_papers_tables_is_named(name: str):
    """Both sizes have their commands in training.md; paper.md has the rows."""
    filled = {recipe for recipe in shipped_recipes() if recipe.startswith("table")}
    if name == "paper.md":
        filled = {recipe for recipe in filled if not recipe.endswith("-small")}
    assert filled <= set(RECIPES.findall(text_of(name)))


@pytest.mark.parametrize("name", DOCS)
def test_every_command_and_its_options_exist(name: str):
    there = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    commands = commands_of(name)
    assert commands
    for command, *words in commands:
        assert command in there, f"stm-skeletons {command} in docs/{name}"
        options = {option for parameter in there[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"stm-skeletons {command} in docs/{name}"


@pytest.mark.parametrize("name", SPEED)
def test_every_option_of_a_benchmark_exists(name: str):
    bench = typer.main.get_command(make_app()).commands["bench"].commands  # type: ignore[attr-defined]
    others = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    commands = [*bench.values(), others["export"], others["init"]]
    options = {option for command in commands for parameter in command.params for option in parameter.secondary_opts}
    options |= {option for command in commands for parameter in command.params for option in parameter.opts}
    options |= {"--video", "--coco", "--movenet", "--results", "--layers"}  # of modules of benchmarks/
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of(name)))
    assert named
    assert named <= options


def test_every_key_of_a_recipe_is_listed():
    def keys(content: dict) -> set[str]:
        return set(content).union(*(keys(value) for value in content.values() if isinstance(value, dict)))

    listed = {word for code in code_of("training.md") for word in re.findall(r"[a-z_]+", code)}
    assert keys(load_recipe("edge-coco").resolved()) <= listed
