"""The schema of params.yaml for editors."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from study.config import editor_schema
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PARAMS = yaml.safe_load(TEXT)
CHECK = jsonschema.Draft202012Validator(editor_schema.schema())


def test_params_yaml_names_the_current_schema_file() -> None:
    """`python -m study.config.editor_schema` writes it."""
    assert (ROOT / editor_schema.FILE).read_text(encoding="utf-8") == editor_schema.written()
    assert TEXT.splitlines()[0] == f"# yaml-language-server: $schema={editor_schema.FILE}"


def test_it_is_a_schema_and_takes_params_yaml() -> None:
    CHECK.check_schema(editor_schema.schema())
    assert [error.message for error in CHECK.iter_errors(PARAMS)] == []


@pytest.mark.parametrize("tier", ["shapes", "smoke"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe.lr", "fast"), ("recipe.schedule", "linear"), ("recipe.flip", "no"), ("network.levels", "res4"),
        ("scale", "photographs"), ("tables", ["T12"]), ("bands_px", 3), ("recipe.stepz", 3), ("band_px", 0),
    ],
)  # fmt: skip
def test_it_refuses_what_the_code_refuses(tier: str, key: str, value: Any) -> None:
    params = copy.deepcopy(PARAMS)
    *way, last = key.split(".")
    block = params["tiers"][tier]
    for part in way:
        block = block[part]
    block[last] = value
    assert list(CHECK.iter_errors(params))


def test_only_a_derived_tier_may_omit_required_keys() -> None:
    params = copy.deepcopy(PARAMS)
    assert "data" in params["tiers"]["shapes"]
    del params["tiers"]["shapes"]["data"]
    assert list(CHECK.iter_errors(params))
    del params["tiers"]["smoke"]["data"], params["tiers"]["shapes"]
    assert not list(CHECK.iter_errors(params))
    params["tiers"]["smoke"]["data"] = None
    assert not list(CHECK.iter_errors(params))
