"""Declared file types: the stages write files of these types, and another version or type is rejected in one line."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from study.config import schema, tiers
from study.models import anatomy
from study.plan import halving, planner
from study.spec import training
from study.spec.documents.networks import CostsFile, ResidualBlock
from study.spec.documents.plan import PlanFile, PlannedRecipe, Rules, SettlingRule, Submitted
from study.spec.documents.provenance import ProvenanceFile
from study.spec.documents.reading import Kind, read, version_of
from study.spec.documents.search import SearchFile
from study.spec.documents.tier import TierFile
from study.spec.documents.verdicts import JudgementRow, VerdictRow, VerdictsFile
from study.spec.errors import InputError
from study.statistics import equal_cost, settling, verdicts
from study.store.runs import write_json
from tests.conftest import ROOT, made_up_facts

VERSIONED = {"plan.json": PlanFile, "tier.json": TierFile, "search.json": SearchFile, "verdicts.json": VerdictsFile,
             "provenance.json": ProvenanceFile}  # fmt: skip
EXAMPLE = ROOT / "docs" / "example"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The content of each versioned file, from the code that writes it or as shipped."""
    chosen = tiers.load(tiers.read(ROOT / "params.yaml"), "shapes")
    groups = {"val": {"names": ["x"], "of": [0, 0, 0]}}
    facts = {name: made_up_facts(name) | {"groups": groups} for name in chosen.settings}
    _, candidates = halving.candidates(chosen, facts, "cpu")
    return {
        "plan.json": planner.build(chosen, facts, "cpu").manifest(),
        "tier.json": {"version": 1, "tier": "shapes", "block": chosen.block},
        "search.json": {"version": 1, "on": True, "trials": halving.rows(candidates, chosen.tuning)},
        "verdicts.json": json.loads((EXAMPLE / "verdicts.json").read_text(encoding="utf-8")),
        "provenance.json": json.loads((EXAMPLE / "provenance.json").read_text(encoding="utf-8")),
    }


def told(path: Path, kind: type[Kind]) -> str:
    with pytest.raises(InputError) as caught:
        read(path, kind)
    assert "must" in str(caught.value) and "got" in str(caught.value) and "run `make repro`" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", VERSIONED)
def test_written_files_read_back_unchanged(name, written, tmp_path):
    write_json(tmp_path / name, written[name])
    assert read(tmp_path / name, VERSIONED[name]) == json.loads(json.dumps(written[name]))


@pytest.mark.parametrize("version", [None, 0, 99, "1"])
@pytest.mark.parametrize("name", VERSIONED)
def test_files_of_another_version_are_rejected(name, version, written, tmp_path):
    content = {key: value for key, value in written[name].items() if key != "version"}
    write_json(tmp_path / name, content if version is None else content | {"version": version})
    said = told(tmp_path / name, VERSIONED[name])
    assert (
        name in said
        and f"version {version_of(VERSIONED[name])}" in said
        and ("none" if version is None else str(version)) in said
    )


def broken(content: Any) -> dict[str, Any]:
    """Name of a key -> the content without this key, with one key more, or with a value of another type."""
    found = {}
    for key in content:
        if key != "version":
            found[f"without {key}"] = {name: value for name, value in content.items() if name != key}
            found[f"wrong {key}"] = content | {key: 3.5}
    return found | {"more": content | {"more": 1}}


@pytest.mark.parametrize("name", VERSIONED)
def test_missing_unknown_and_mistyped_keys_are_named(name, written, tmp_path):
    # Declared as NotRequired; with annotations as text, __optional_keys__ does not list them.
    optional = {key for key, kind in VERSIONED[name].__annotations__.items() if "NotRequired" in str(kind)}
    optional |= {
        k
        for base in VERSIONED[name].__orig_bases__
        for k, kind in getattr(base, "__annotations__", {}).items()
        if "NotRequired" in str(kind)
    }
    for what, content in broken(written[name]).items():
        key = what.split()[-1]
        if what == f"without {key}" and key in optional:
            continue
        write_json(tmp_path / name, content)
        assert key in told(tmp_path / name, VERSIONED[name]), what


def test_a_deep_fault_is_reported_with_its_path(written, tmp_path):
    plan = copy.deepcopy(json.loads(json.dumps(written["plan.json"])))
    plan["cells"][3]["kernel_size"] = "three"
    write_json(tmp_path / "plan.json", plan)
    assert "'three' at cells.3.kernel_size" in told(tmp_path / "plan.json", PlanFile)


@pytest.mark.parametrize("content", ["", "[]", "1", "{", "\xff\xfe"])
def test_malformed_and_missing_files_are_rejected(content, tmp_path):
    (tmp_path / "plan.json").write_bytes(content.encode("latin-1"))
    told(tmp_path / "plan.json", PlanFile)
    told(tmp_path / "none.json", PlanFile)


def test_declared_files_accept_no_unknown_keys():
    """An unknown key is found at any depth, not only at the top."""

    def kinds(kind: Any) -> set[Any]:
        inner = {part for argument in get_args(kind) for part in kinds(argument)}
        own = {kind} if hasattr(kind, "__required_keys__") else set()
        return own | inner | {part for one in own for hint in get_type_hints(one).values() for part in kinds(hint)}

    reached = {part for kind in VERSIONED.values() for part in kinds(kind)}
    assert len(reached) > 15 and get_origin(CostsFile) is dict
    assert [
        kind.__name__ for kind in reached if getattr(kind, "__pydantic_config__", {}).get("extra") != "forbid"
    ] == []


@pytest.mark.parametrize(
    ("declared", "made"),
    [
        (PlannedRecipe, training.Recipe),
        (SettlingRule, settling.Settling),
        (Rules, schema.Rules),
        (JudgementRow, verdicts.Judgement),
        (VerdictRow, verdicts.Verdict),
        (Submitted, schema.Submitted),
    ],
)
def test_declared_types_match_the_fields_of_their_classes(declared, made):
    fields = made.model_fields if hasattr(made, "model_fields") else {field.name for field in dataclasses.fields(made)}
    assert set(get_type_hints(declared)) == set(fields)


def test_costs_of_another_version_are_rejected(tmp_path):
    text = (EXAMPLE / "costs.csv").read_text(encoding="utf-8")
    (tmp_path / "costs.csv").write_text(text, encoding="utf-8")
    assert len(equal_cost.read_costs(tmp_path / "costs.csv")) > 50
    head, *rows = text.splitlines()
    changes: list[Callable[[], list[str]]] = [
        lambda: [head.replace("macs", "flops"), *rows],
        lambda: [line.rpartition(",")[0] for line in (head, *rows)],
        lambda: [head, *rows[:-1], rows[-1].rpartition(",")[0] + ",2"],
        lambda: [""],
    ]
    for change in changes:
        (tmp_path / "costs.csv").write_text("\n".join(change()) + "\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"costs\.csv (must|cannot) .* run `make repro`"):
            equal_cost.read_costs(tmp_path / "costs.csv")


def test_residual_blocks_match_their_declared_type(tmp_path):
    write_json(tmp_path / "blocks.json", anatomy.blocks())
    assert len(read(tmp_path / "blocks.json", list[ResidualBlock])) == 2
