"""Recipes: the shipped ones match the paper, and mistakes are reported in one line."""

from pathlib import Path

import pytest

from stm_skeletons.errors import RecipeError
from training.ablation.paper import TABLES
from training.recipe import MemorySection, Recipe, load_recipe
from training.recipe_files import shipped_recipes
from training.recipe_run import run_folder

TABLE_3 = {1: set(), 2: {"rand", "baits", "jitter"}, 3: {"cyclic"}, 4: {"cyclic", "dull_clouds"}}
TABLE_3 |= {5: TABLE_3[2] | {"cyclic"}, 6: TABLE_3[2] | {"cyclic", "dull_clouds"}}


def trained_before(name: str) -> set[str]:
    """All recipes that must be trained before this one."""
    before = load_recipe(name).after
    return {*before, *(earlier for one in before for earlier in trained_before(one))}


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_consistent(name: str):
    recipe = load_recipe(name)
    assert Recipe.model_validate(recipe.resolved(), strict=False) == recipe
    for before in recipe.after:
        assert load_recipe(before).model == recipe.model
    assert name not in trained_before(name)
    if recipe.table is not None:
        assert any(recipe.row in rows for rows in TABLES[recipe.table].values())
        assert f"{name}-small" in shipped_recipes() or name.endswith("-small")


def test_every_row_of_the_papers_tables_has_a_recipe_at_both_sizes():
    recipes = {name: load_recipe(name) for name in shipped_recipes()}
    for small in (False, True):
        rows = {(r.table, r.row) for name, r in recipes.items() if name.endswith("-small") == small and r.table}
        assert rows == {(table, row) for table, data in TABLES.items() for block in data.values() for row in block}


@pytest.mark.parametrize("suffix", ["", "-finetuned", "-small", "-finetuned-small"])
@pytest.mark.parametrize("number", range(1, 7))
def test_table_3_recipes_enable_the_papers_options(number: int, suffix: str):
    samples = load_recipe(f"table3-{number}{suffix}").samples
    switched = {name for name, strength in samples.augmentation.memory.model_dump().items() if strength}
    assert switched | ({"cyclic"} if samples.cyclic else set()) == TABLE_3[number]


def test_recipes_use_the_papers_hyperparameters():
    for name in shipped_recipes():
        recipe = load_recipe(name)
        if name.startswith("table") and not name.endswith("-small"):
            assert recipe.optimiser.learning_rate == 1e-6
            assert recipe.optimiser.batch == 1
            epochs = {"table1": "5 epochs", "table2": "30 epochs", "table3": "50 epochs"}
            expected = epochs[name[:6]] if "finetuned" in name else "5 epochs"
            assert recipe.optimiser.length == expected
            assert recipe.sequence.kind == ("real" if "finetuned" in name else "synthetic")
    assert {load_recipe(f"table1-{loss}").loss for loss in ("mse", "cc", "focal")} == {"mse", "cc", "focal"}
    assert load_recipe("table2-pretrained").model.edges_only


BASE = """
title = "t"
[model]
variant = "resnet50"
[data]
kind = "coco"
[sequence]
kind = "synthetic"
[optimiser]
length = "3 steps"
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[optimiser]\nrate = 1", "optimiser.rate: unknown key"),
        ("[data]\nwidth = '448'", "data.width: .*integer"),
        ("[data]\nwidth = 450", "multiple of 32"),
        ("[model]\nvariant = 'resnet'", "model.variant"),
        ("[optimiser]\nlength = '3 hours'", "optimiser.length"),
        ("[samples]\ncyclic = 1", "samples.cyclic|boolean"),
        ("[samples]\ngiven = 5", "given must be smaller"),
        ("[sequence]\nkind = 'real'", "kind must be synthetic for coco"),
        ("[model]\nvariant = 'edge'\nwidth = 0.5", "width is for resnet50"),
        ("[model]\nvariant = 'stm'\nedges_only = true", "edges_only is for resnet50"),
        ("[samples.augmentation.memory]\nrand = 2", "rand"),
        ("[memory]\nslots = 1", "memory.slots: .*greater than or equal to 2"),
        ("[memory]\ntruncate = 0", "memory.truncate"),
        ("[memory]\nsize = 6", "memory.size: unknown key"),
        ("[sequence]\nmosaic = 1.5", "sequence.mosaic"),
        ("[sequence]\nzoom = 0.5", "sequence.zoom"),
        ("table = '3'", "table and row belong together"),
        ("title = ", "is not TOML"),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path: Path, change: str, message: str):
    (tmp_path / "base.toml").write_text(BASE)
    path = tmp_path / "changed.toml"
    path.write_text(f'like = "base"\n{change}\n')
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)
    assert "changed.toml" in str(error.value)


def test_byte_order_mark_is_ignored(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(BASE, encoding="utf-8-sig")
    assert load_recipe(path).title == "t"


def test_memory_follows_the_recipe_and_keeps_all_frames_by_default(tmp_path: Path):
    path = tmp_path / "memory.toml"
    path.write_text(f"{BASE}\n[memory]\nslots = 6\nevery = 2\ntruncate = 4\n")
    recipe = load_recipe(path)
    assert recipe.memory == MemorySection(slots=6, every=2, truncate=4)
    assert recipe.resolved()["memory"] == {"slots": 6, "every": 2, "truncate": 4}
    path.write_text(BASE)
    assert load_recipe(path).memory == MemorySection(slots=None, every=1, truncate=None)


def test_unknown_names_missing_files_and_cycles_are_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no recipe 'table9'; .*'stm-skeletons recipes' lists all"):
        load_recipe("table9")
    with pytest.raises(RecipeError, match=r"cannot read the recipe"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "one.toml").write_text('like = "other"')
    (tmp_path / "other.toml").write_text('like = "one"')
    with pytest.raises(RecipeError, match=r"refers back to itself: one -> other -> one"):
        load_recipe(tmp_path / "one.toml")


def test_file_may_have_the_name_of_the_shipped_recipe_it_changes(tmp_path: Path):
    path = tmp_path / "edge-footage.toml"
    path.write_text('like = "edge-footage"\n[optimiser]\nlength = "7 steps"')
    assert load_recipe(path).optimiser.length == "7 steps"
    assert load_recipe(path).data == load_recipe("edge-footage").data


def test_run_folder_is_named_after_recipe_and_seed():
    assert run_folder(Path("runs"), "x/table3-5.toml", 2) == Path("runs/table3-5/seed2")
