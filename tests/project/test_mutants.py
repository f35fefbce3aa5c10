"""The planted faults of benchmarks.mutants: each matches one place in today's code and names existing tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import MUTANTS, Mutant
from tests.conftest import ROOT


def _functions(file: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_fault_has_one_place_and_existing_tests(mutant: Mutant) -> None:
    if not mutant.in_report:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1
        ast.parse(text.replace(mutant.old, mutant.new))  # any test would find a fault that does not parse
    assert mutant.tests
    for test in mutant.tests:
        file, name = test.split("::")
        assert name.split("[")[0] in _functions(file)


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_only_faults_that_a_test_sees_are_killed() -> None:
    named = {mutant.name: mutant for mutant in MUTANTS}
    chosen = [named["mean of per-image IoU"], named["BR without its identity"]]
    blind = chosen[0]._replace(name="unseen", old="Scores are fractions.", new="Scores are shares.")
    broken = chosen[0]._replace(name="broken", old="import numpy as np\n", new="import no_such_module as np\n")
    found = mutants.measure([*chosen, blind, broken])
    assert [killed for _, killed, _ in found] == [True, True, False, False], found
    assert found[2][2] == "passed / passed / passed"


def test_a_missing_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(ValueError, match=r"must occur once in a\.py, got 2 times"):
        mutants.plant(Mutant("twice", "a.py", "x = 1", "x = 2", ()), tmp_path)
