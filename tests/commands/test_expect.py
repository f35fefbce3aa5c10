"""What a tier that draws seeds by need may come to, from scores that were measured before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import worlds
from benchmarks.worlds import TRUTHS, WORLDS
from study.commands import expect
from study.spec.errors import InputError
from study.statistics import sequence
from study.statistics.results import COLUMNS
from tests.conftest import ROOT

HERE = {"trainings": 60.0, "evaluations": 20.0, "rest": 10.0}


@pytest.fixture
def plan() -> Any:
    return worlds.layout(5, 13).plan


def measured(plan: Any, five: worlds.Layout, folder: Path, spread: float) -> None:
    """A scores.csv of the paper's numbers with a spread over five seeds."""
    known = worlds.simulate(WORLDS["normal"], TRUTHS["paper"], five, 0).known
    metrics = {cell["address"]: cell["metric"] for cell in plan["cells"]}
    lines = [",".join(COLUMNS)]
    for address, by_seed in known.items():
        mean = sum(by_seed.values()) / len(by_seed)
        for seed, value in by_seed.items():
            score = mean + spread * (value - mean)
            lines.append(f"{address},T,r,c,{metrics[address]},{seed},{score},,key,done")
    path = folder / "reports" / plan["tier"] / "scores.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def total(said: str) -> list[float]:
    (line,) = re.findall(r"in all, of \d+ claims: (.*)", said)
    return [float(number) for number in re.findall(r"(\d+\.\d) with", line)]


def test_an_unmeasured_tier_has_unknown_verdicts(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan["tier"] = "nowhere"
    assert expect.tell(plan, 100.0, HERE, None) is None
    assert "verdicts: unknown for 21 claims; this tier has no earlier scores" in capsys.readouterr().out


def test_more_seeds_and_less_spread_decide_more_claims(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, five = [], worlds.layout(5)
    for name, spread in (("calm", 1.0), ("wild", 3.0)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        measured(plan, five, tmp_path / name, spread)
        expect.tell(plan, 100.0, HERE, None)
        said = capsys.readouterr().out
        assert "looks at 5, 9, 13" in said and "unknown: kxk_hard" in said, "losses are not among the scores"
        found.append(total(said))
    calm, wild = found
    assert calm == sorted(calm) and wild == sorted(wild) and all(a > b for a, b in zip(calm, wild, strict=True))


def test_hours_beyond_the_first_look_buy_trainings(plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = sequence.keys_of(plan, (cell["address"] for cell in plan["cells"]), sequence.first_seeds(plan))
    budget = expect.tell(plan, float(len(first)), HERE, hours=170 / 3600)
    assert budget == pytest.approx(2 * len(first), rel=0.01), "80 s for the first, 10 for the rest, 80 left"
    with pytest.raises(InputError, match=r"hours must cover the first look .*, got 0\.01; write more"):
        expect.tell(plan, float(len(first)), HERE, hours=0.01)
    with pytest.raises(InputError, match="hours need a machine that can train the tier"):
        expect.tell(plan, 100.0, HERE | {"trainings": None}, hours=2)


def test_shipped_scores_replace_a_missing_local_run(plan: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path, known = expect.measured(plan | {"tier": "shapes"})
    assert path == ROOT / "docs" / "example" / "scores.csv" and len(known["T1/score/15"]) >= 5
