"""A tier that starts from another."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from study.config import tiers
from study.config.inheritance import in_full
from study.spec.errors import InputError
from tests.conftest import ROOT

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
BASE = {
    "title": "one", "seeds": [0, 1], "data": {"name": "shapes", "train": 8, "cue": "shape"}, "notes": ["a note"],
    "network": {"backbone": "shallow", "frozen": False, "options": {"widths": [1], "strides": [2]}},
    "settings": {"first": {"data": {"train": 4}, "recipe": {"lr": 1}}, "second": {"after": "first"}},
}  # fmt: skip


def _like(**changes: Any) -> dict[str, Any]:
    blocks = {"base": BASE, "other": {"like": "base"} | changes}
    return in_full({"tiers": copy.deepcopy(blocks)})["tiers"]["other"]


def test_an_unchanged_tier_equals_its_base() -> None:
    assert _like() == BASE


def test_overrides_merge_mappings_and_replace_lists() -> None:
    found = _like(title="two", seeds=[7], data={"train": 16}, settings={"first": {"recipe": {"steps": 3}}})
    assert (found["title"], found["seeds"]) == ("two", [7])
    assert found["data"] == BASE["data"] | {"train": 16}
    assert found["settings"] == {"first": {"data": {"train": 4}, "recipe": {"lr": 1, "steps": 3}},
                                 "second": {"after": "first"}}  # fmt: skip
    assert BASE["data"]["train"] == 8, "the other tier is as it was"


def test_another_data_set_or_backbone_inherits_no_options() -> None:
    found = _like(data={"name": "folder", "root": "/mine"}, network={"backbone": "timm", "options": {"model": "x"}})
    assert found["data"] == {"name": "folder", "root": "/mine"}
    assert found["network"] == {"backbone": "timm", "frozen": False, "options": {"model": "x"}}
    assert _like(network={"backbone": "timm"})["network"] == {"backbone": "timm", "frozen": False}


def test_null_removes_inherited_keys_except_in_options() -> None:
    found = _like(
        notes=None, settings={"second": None, "first": {"recipe": None}}, network={"options": {"widths": None}}
    )
    assert "notes" not in found and found["settings"] == {"first": {"data": {"train": 4}}}
    assert found["network"]["options"] == {"widths": None, "strides": [2]}


def test_inheritance_can_span_several_tiers() -> None:
    blocks = {"third": {"like": "second", "seeds": [9]}, "second": {"like": "base", "title": "two"}, "base": BASE}
    assert in_full({"tiers": blocks})["tiers"]["third"] == BASE | {"title": "two", "seeds": [9]}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"a": {"like": "b"}, "c": {}}, "a.like must name another tier of params.yaml, got 'b'; take one of c"),
        ({"a": {"like": ["b"]}, "b": {}}, "a.like must name another tier of params.yaml, got ['b']; take one of b"),
        (
            {"a": {"like": "a"}},
            "tiers.a.like must not lead back to itself, got a -> a; write one of these tiers without",
        ),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "tiers.b.like must not lead back to itself, got a -> b -> a; write"),
    ],
    ids=["unknown", "no name", "itself", "a circle"],
)
def test_unknown_tiers_and_circles_are_told(blocks: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as told:
        in_full({"tiers": blocks})
    assert words in str(told.value)


@pytest.mark.parametrize("params", [None, [], {}, {"tiers": None}, {"tiers": {"a": None, "b": {"like": "a"}}}])
def test_non_mappings_are_left_to_the_schema(params: Any) -> None:
    in_full(params)
    with pytest.raises(InputError):
        tiers.check(params)


def test_an_inherited_mistake_is_reported_at_its_tier() -> None:
    params = copy.deepcopy(PARAMS)
    params["tiers"]["smoke"]["recipe"]["lr"] = "fast"
    with pytest.raises(InputError, match=r"tiers\.smoke\.recipe\.lr must be a .*got 'fast'"):
        tiers.load(tiers.check(params), "smoke")


def test_a_loaded_tier_has_its_block_in_full() -> None:
    block = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke").block
    assert "like" not in block and block["verdicts"] == PARAMS["tiers"]["shapes"]["verdicts"]
    assert yaml.safe_load(tiers.text(block)) == block
