"""docs/service.md documents every key of the configuration, and its examples are valid."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from runtime.service.config import ServiceConfig, load_config
from runtime.service.rules import Rules
from stm_skeletons.skeleton import COCO17

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "service.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = [(ROOT / "deploy" / "serve.toml").read_text(encoding="utf-8"), *re.findall(r"```toml\n(.*?)```", TEXT, re.S)]


def models(kind: Any) -> set[type[BaseModel]]:
    """Return the models in an annotation and, recursively, in their fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {kind}.union(*(models(field.annotation) for field in kind.model_fields.values()))
    return set().union(*map(models, get_args(kind)))


def test_every_key_is_documented():
    documented = {
        code for line in TEXT.splitlines() if line.startswith("|") for code in re.findall(r"`([a-z_]+)`", line)
    }
    found = models(ServiceConfig)
    assert len(found) == 12
    for model in found:
        assert set(model.model_fields) - {"kind", "model", "web"} <= documented, model.__name__


@pytest.mark.parametrize(
    ("heading", "model"),
    [("At the top of the file", "ServiceConfig"), ("`[model]`", "ModelConfig"), ("`[web]`", "WebConfig"),
     ("`[mqtt]`", "MqttConfig"), ("`[[cameras]]`", "CameraConfig")],
)  # fmt: skip
def test_each_table_lists_the_keys_and_defaults_of_its_model(heading: str, model: str):
    by_name = {each.__name__: each for each in models(ServiceConfig)}
    table = TEXT.partition(f"**{heading}**")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    keys = {key for row in rows for key in re.findall(r"`([a-z_]+)`", row[0])}
    fields = by_name[model].model_fields
    assert keys == set(fields) - {"model", "web", "mqtt"} | (keys & {"mqtt"})
    for key, default, *_ in rows:
        names, documented = re.findall(r"`([a-z_]+)`", key), default.strip().split(", ")
        plain = {name: fields[name].default for name in names if isinstance(fields[name].default, (str, int, float))}
        assert not plain or len(documented) == len(names), key
        for name, value in plain.items():
            as_toml = str(value).lower() if isinstance(value, bool) else value
            as_toml = f'`"{value}"`' if isinstance(value, str) else str(as_toml)
            assert documented[names.index(name)] == as_toml, name


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_are_valid(example: str, tmp_path: Path):
    path = tmp_path / "serve.toml"
    path.write_text(example, encoding="utf-8")
    for camera in load_config(path).cameras:
        Rules(camera, COCO17)


def test_every_link_and_anchor_exists():
    anchors = {
        re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", TEXT):
        assert not target or (PAGE.parent / target).exists(), target
        assert target or anchor in anchors, anchor
