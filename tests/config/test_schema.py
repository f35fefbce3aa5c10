"""params.yaml: whatever is written there is taken, or told in one line before anything runs; never a traceback."""

from __future__ import annotations

import copy
import datetime
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from study.config import schema, tiers
from study.config.execution import execution_of
from study.config.inheritance import in_full
from study.config.mlflow_address import place
from study.data.prepare import open_data
from study.data.sets import folder
from study.plan import planner
from study.spec.checks import Block, checked
from study.spec.errors import InputError
from study.store.runs import Store
from tests.conftest import ROOT

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # what it keeps is no part of the checkout
PARAMS = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
WORDS = (
    "", " ", "no", "yes", "auto", "1e-3", "nan", "a/b", "../x", "~nobody at all/x", "a\0b", "a\nb", "é", "\ud800",
    "x" * 5000, "http://[", "http://h:x", "1/0", "1e999999999", "T1", "main", "imagenet", "res4", "shape", "voc",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 7, 10**6, 10**12, 2**63, -(10**30), 10**4000, 0.5, -0.5, 1e300, 1e-300, float("nan"), float("inf"),
    -float("inf"),
)  # fmt: skip
SCALARS = st.sampled_from((None, True, False, *WORDS, *NUMBERS, datetime.date(2024, 1, 1), b"x", frozenset("x")))
KEYS = st.sampled_from((None, 3, 1.5, True, "", "a.b", "a\nb", (1, 2), "name", "crop", "after", "at", "width", "task"))
VALUES = st.recursive(
    SCALARS | st.just({"head": "stack", "k": 10**9 + 1}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


def _nodes(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from _nodes(item, (*at, key))


NODES = list(_nodes(PARAMS))


CHANGES = st.tuples(
    st.sampled_from(NODES),
    st.sampled_from(("value", "value", "value", "value", "gone", "renamed", "added")),
    KEYS,
    VALUES,
)


def _changed(where: tuple[Any, ...], what: str, key: Any, value: Any) -> Any:
    """params.yaml with one value, key or entry changed, removed or added, read for the tier that it is in."""
    params = copy.deepcopy(PARAMS)
    if where[0] == "tiers" and len(where) > 1:
        params["tier"] = where[1]
    holder: Any = params
    for at in where[:-1]:
        holder = holder[at]
    if what == "value":
        holder[where[-1]] = value
    elif what == "gone":
        del holder[where[-1]]
    elif isinstance(holder, list):
        holder.append(value)
    else:
        holder[key] = holder.pop(where[-1]) if what == "renamed" else value
    return params


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """No variable of the user's names a folder or a server."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PARAMS["tiers"]:
            patch.delenv(f"STUDY_DATA_{name.upper()}", raising=False)
        for name in ("STUDY_TRACKING", "STUDY_ARTIFACTS", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def _read(params: Any, store: Store) -> None:
    """All that is made of params.yaml before a stage does its work."""
    chosen = tiers.load(tiers.check(params))
    execution_of(params)
    place(params, store)
    facts = {"fingerprint": "0", "classes": ["a", "b"], "precision": {"precision": "fp32"}, "splits": {}}
    facts |= {"size": [64, 64]}
    planner.build(chosen, dict.fromkeys(chosen.settings, facts), "cpu").manifest()
    for setting in chosen.settings.values():
        if setting.data.name == "shapes":
            open_data(setting.data, setting.root, store.cache)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(change=CHANGES)
def test_whatever_is_written_there_is_taken_or_told(change: tuple[Any, ...], store: Store) -> None:
    told = "it must be taken; or told"
    try:
        _read(_changed(*change), store)
    except InputError as error:
        told = str(error)
    assert re.fullmatch(r".+ must .+; .+", told, re.DOTALL) and len(told) < 1000, told


def _told(params: Any, store: Store) -> str:
    with pytest.raises(InputError) as told:
        _read(params, store)
    return str(told.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("execution.checkpoint_s", float("nan"), "must be a number from 0 to 86,400, got nan"),
        ("execution.checkpoint_s", "", "must be a number from 0 to 86,400, got ''"),
        ("execution.checkpoint_s", -1, "must be a number from 0 to 86,400, got -1"),
        ("execution.hung_s", float("inf"), "must be a number from 1 to 604,800, got inf"),
        ("execution.address", 1.5, "must be text without spaces, got 1.5; write host:port or null"),
        ("execution.workers", 10**12, "must be auto or a whole number from 1 to 10,000, got 1000000000000; write auto"),
        ("execution.workers", "four", "whole number from 1 to 10,000, got 'four'; write auto"),
        ("tiers.smoke.seeds", [0, 0], "must be different whole numbers from 0 up, got [0, 0]"),
        ("execution.workers", True, "must be auto or a whole number from 1 to 10,000, got True"),
        ("execution.gpus_per_training", 1000, "must be auto or a number from 0.01 to 64, got 1000"),
        ("tune", "no", "tune must be true or false, got 'no'"),
        ("tracking.name", "../others", "must be text of one line, without a slash, got '../others'"),
        ("tracking.artifacts", 3, "tracking.artifacts must be a path, got 3"),
        ("tiers.shapes.recipe.flip", float("nan"), "recipe.flip must be true or false, got nan"),
        ("tiers.shapes.recipe.batch", 10**12, "recipe.batch must be at most 65,536, got 1000000000000; take less"),
        ("tiers.shapes.recipe.lr", "1e-3", "must be a positive number, above 0, got '1e-3'; write it with a dot"),
        ("tiers.shapes.recipe.momentum", True, "recipe.momentum must be a number from 0 to 1, got True"),
        (
            "tiers.shapes.extra",
            [{"head": "gcn", "k": 3, "refine": "no"}],
            "extra.refine must be true or false, or places among head, sum, up, got 'no'",
        ),
        ("tiers.shapes.extra", [{"head": "stack", "k": 10**9 + 1}], "extra.k must be at most 32,767"),
        ("tiers.shapes.extra", [{"head": "stack", "k": 7, "width": "1e99999999"}], "must be a number or a share"),
        ("tiers.shapes.inference.MS.optional", "no", "MS.optional must be true or false, got 'no'"),
        ("tiers.shapes.inference.MS.flip", "no", "MS.flip must be true or false, got 'no'"),
        ("tiers.shapes.data.root", 3, "tiers.shapes.data.root must be a path, got 3"),
        ("tiers.shapes.data.root", "a\0b", "tiers.shapes.data.root must be a path, got 'a\\x00b'"),
        ("tiers.shapes.data.root", "~nobody at all/x", "tiers.shapes.data.root must be a path"),
        ("tiers.shapes.data.size", 10**6, "tiers.shapes.data.size must be at most 4,096, got 1000000"),
        ("tiers.shapes.controls.colour.data", {"panels": "2"}, "colour.data.panels must be a whole number from 1 up"),
        ("tiers.shapes.network.options", {"widths": [8], "strides": [1, 2]}, "strides must have one entry per width"),
        ("tiers.shapes.network.options.widths", [24, 0, 64], "options.widths must be a whole number from 1 up, got 0"),
        ("tiers.camvid.network.options.weights", ["a"], "network.options.weights must be a path, got ['a']"),
        ("tiers.voc.network.options.depth", 50.0, "network.options.depth must be one of 50, 101, 152, got 50.0"),
        ("tiers.voc.tables", ["T1", "T1"], "tables must be different tables"),
        ("tiers.voc.not_applicable", {"T77": "no"}, "not_applicable must name tables of the paper, or parts of them"),
        ("tiers.voc.title", datetime.date(2024, 1, 1), "voc.title must be text, a number, true, false, null, a list"),
        ("tiers.voc.submitted", {None: {}}, "voc.submitted must have keys that are text, got None"),
        ("tiers.smoke.seeds", [2**63], "seeds must be different whole numbers from 0 up"),
        ("tiers.smoke.settings", {"main": {}}, "settings.main must have a name of its own, got one that the tier has"),
    ],
)
def test_ambiguous_or_out_of_range_values_are_refused(path: str, value: Any, words: str, store: Store) -> None:
    *parents, last = path.split(".")
    params = holder = copy.deepcopy(PARAMS)
    if parents[:1] == ["tiers"]:
        params["tier"] = parents[1]
    for parent in parents:
        holder = holder[parent]
    holder[last] = value
    assert words in _told(params, store)


@pytest.mark.parametrize("name", [2024, "2024", "a.b", "true", "Off", None, 1.5, True, "é"])
def test_a_tier_name_that_needs_quotes_is_refused(name: Any, store: Store) -> None:
    params = PARAMS | {"tiers": {name: PARAMS["tiers"]["smoke"]}, "tier": name}
    told = _told(params, store)
    assert told.startswith("a tier's name must") and f"got {name!r}; rename it in params.yaml" in told


def test_a_mistake_in_any_tier_is_reported(store: Store) -> None:
    params = copy.deepcopy(PARAMS)
    params["tiers"]["cityscapes"]["settings"]["T9 Stage-2"]["recipe"]["steps"] = "many"
    rule = "tiers.cityscapes.settings.T9 Stage-2.recipe.steps must be a whole number from 1 up, got 'many'"
    assert rule in _told(params, store)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tier: 2024-13-45", "must be a readable YAML file"),
        (f"{{tier: shapes, tiers: {{}}, execution: 0x{'f' * 5000}}}", "a number of thousands of digits"),
        ("tier: &a [*a]", "at most 16 lists or mappings deep"),
        (
            "{[1, 2]: 3}",
            r"got a list or a mapping in line 1 of .*; write a name before it, such as roof: \[128",
        ),
        ("[" * 3000, "must be a readable YAML file"),
    ],
    ids=["date", "digits", "itself", "key", "deep"],
)
def test_an_unreadable_params_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        tiers.read(tmp_path / "params.yaml")


def test_a_missing_weights_file_is_refused_before_planning(store: Store, tmp_path: Path) -> None:
    params = PARAMS | {"tier": "camvid", "tiers": {"camvid": copy.deepcopy(PARAMS["tiers"]["camvid"])}}
    params["tiers"]["camvid"]["network"]["options"]["weights"] = str(tmp_path / "none.pth")
    assert "none.pth: No such file or directory); write the path of one" in _told(params, store)


def test_backbone_options_match_their_constructor_arguments() -> None:
    from study.models import backbones  # torch, which nothing else here needs

    for name, block in schema.BACKBONES.items():
        taken = set(inspect.signature(backbones.BACKBONES[name]).parameters)
        assert block.model_fields.keys() == taken
    assert schema.BACKBONES.keys() == backbones.BACKBONES.keys()


@pytest.mark.parametrize("ends", [[3], [5, 5], [9, 4], [-1, 4], [0, 65_536], [0.5, 2], [False, True], "0-9", [0, 1, 2]])
def test_a_grey_range_needs_two_rising_levels(ends: Any) -> None:
    options = {"images": "images", "masks": "masks", "classes": ["sky", "sea"], "void": 9, "val": 0.25, "tune": 1}
    options["pad"] = [24, 24]
    assert checked(folder.Options, options | {"range": [0, 65_535]}, "data").range == (0, 65_535)
    with pytest.raises(InputError, match=r"data\.range must be "):
        checked(folder.Options, options | {"range": ends}, "data")


def test_every_key_has_a_kind_of_its_own() -> None:
    """pydantic alone would take 1 for true, and "1" for 1."""

    def plain(block: type[Block]) -> Iterator[str]:
        for name, field in block.model_fields.items():
            if field.annotation in (bool, int, float, str) and not field.metadata:
                yield f"{block.__name__}.{name}"

    def blocks(block: type[Block]) -> Iterator[type[Block]]:
        yield block
        for other in block.__subclasses__():
            yield from blocks(other)

    assert {schema.Params, schema.Recipe, schema.Timm} <= set(blocks(Block))
    assert [name for block in blocks(Block) for name in plain(block)] == []
