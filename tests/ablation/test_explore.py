"""An exploration: what Optuna takes and what it refuses, and real trials through the stage, killed and repeated."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from study.ablation import explore_study
from study.config import schema, tiers
from study.plan import exploration
from study.spec.checks import checked
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn, stack
from tests.conftest import Project

SPACE = {"head": ["dense", "gcn", "stack"], "k": [1, 3, 5], "width": ["1/2", 1], "lr": [0.001, 0.01]}
BLOCK = {"space": SPACE, "seed": 300, "winners": {"seeds": [400, 401], "most": 2}}
LEVELS = ("res2", "res3")


def made(**changes: Any) -> schema.Explore:
    block = {key: value for key, value in (BLOCK | changes).items() if value is not None}
    found: schema.Explore = checked(schema.Explore, block, "explore")
    return found


# ------------------------------------------------------------------------------------------ what is taken, and what not
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"objective": "score"}, {"objective": "cost", "least": 0.5}, {"objective": "score", "under": {"macs": 1}},
        {"sampler": {"name": "NSGAIISampler", "population_size": 4}}, {"sampler": {"name": "RandomSampler"}},
        {"objective": "score", "pruner": {"name": "MedianPruner", "n_startup_trials": 1}, "rungs": [0.5]},
        {"objective": "score", "pruner": {"name": "SuccessiveHalvingPruner"}, "rungs": [0.25, 0.5]},
    ],
)  # fmt: skip
def test_what_the_library_supports_together_is_taken(changes: dict[str, Any]) -> None:
    explore_study.check(made(**changes), LEVELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": {"name": "BestSampler"}}, "sampler.name must be one of Optuna's .*TPESampler.*BestSampler"),
        ({"sampler": {"name": "BasePruner"}}, "explore.sampler.name must be one of Optuna's"),
        ({"sampler": {"name": "TPESampler", "luck": 3}}, "arguments that Optuna's TPESampler takes"),
        ({"sampler": {"name": "CmaEsSampler"}}, "must be what Optuna supports together, got CmaEsSampler"),
        ({"sampler": {"name": "BruteForceSampler"}}, "must be what Optuna supports together, got BruteForceSampler"),
        ({"sampler": {"name": "RandomSampler"}, "under": {"macs": 1}}, "must be one that takes constraints"),
        ({"objective": "score", "pruner": {"name": "Scissors"}, "rungs": [0.5]}, "explore.pruner.name must be one of"),
        ({"objective": "score", "pruner": {"name": "PercentilePruner"}, "rungs": [0.5]}, "PercentilePruner takes"),
    ],
)  # fmt: skip
def test_what_the_library_does_not_support_is_refused_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        explore_study.check(made(**changes), LEVELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": {"name": "MedianPruner"}, "rungs": [0.5]}, "pruner must be left out with two objectives"),
        ({"objective": "score", "pruner": {"name": "MedianPruner"}}, "rungs must be shares of the steps"),
        ({"objective": "score", "rungs": [0.5]}, "rungs must be shares of the steps"),
        ({"objective": "cost"}, "least must be there where the cost is the objective"),
        ({"least": 0.5}, "least must be there where the cost is the objective, and nowhere else"),
        ({"seed": 400}, "winners.seeds must be seeds that the search does not use"),
        ({"space": SPACE | {"k": [2]}}, "space.k must be different odd kernel sizes"),
        ({"space": SPACE | {"head": ["stack"], "k": [1]}}, "space.k must have a size from 3 up for stacks"),
        ({"space": SPACE | {"head": ["transformer"]}}, "space.head must be one of dense, stack, gcn"),
        ({"space": SPACE | {"lr": [0.1, 0.01]}}, "space.lr must be the least and the greatest rate"),
        ({"under": {"seconds": 3}}, "under.* must be one of macs, parameters"),
    ],
)
def test_a_block_that_makes_no_sense_is_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(**changes)


def test_seeds_of_the_tables_are_no_seeds_of_a_search() -> None:
    params = tiers.in_full(tiers.read())
    params["tiers"]["shapes"]["explore"]["seed"] = 41
    with pytest.raises(InputError, match="explore must have seeds that no reported number uses"):
        tiers.load(params, "shapes")


# ---------------------------------------------------------------------------------------------------- what is suggested
def test_values_become_a_network_with_a_kernel_size_for_each_level() -> None:
    tier = tiers.load(tiers.read(), "shapes")
    assert exploration.levels(tier) == ("res3", "res4")
    variant, recipe = exploration.network(tier, {"head": "gcn", "k res3": 3, "k res4": 15, "refine": True, "lr": 0.002})
    assert variant == Variant(gcn(15), True, (("res3", gcn(3)),)) and recipe.lr == 0.002
    alike, _ = exploration.network(tier, {"head": "dense", "k res3": 5, "k res4": 5, "refine": False, "lr": 0.004})
    assert alike == Variant(dense(5)), "the paper's own network is known as such"
    stacked, _ = exploration.network(
        tier, {"head": "stack", "k res3 (stack)": 3, "k res4 (stack)": 7, "width": "1/2", "refine": False, "lr": 0.01}
    )
    assert stacked.head == stack(7, Fraction(1, 2)) and dict(stacked.at)["res3"] == stack(3, Fraction(1, 2))


def row(number: int, score: float, macs: int, **more: Any) -> Any:
    return {"number": number, "state": "COMPLETE", "label": f"n{number}", "score": score, "macs": macs,
            "parameters": macs} | more  # fmt: skip


def test_the_front_has_what_no_other_beats() -> None:
    rows = [row(0, 0.5, 10), row(1, 0.6, 20), row(2, 0.55, 30), row(3, 0.6, 15), row(4, 0.4, 5), row(5, 0.5, 10)]
    rows.append(row(6, 0.9, 1, state="PRUNED"))
    assert exploration.front(rows, "macs") == [4, 0, 3]


def test_winners_are_the_best_the_best_under_each_bound_and_the_front() -> None:
    rows = [row(0, 0.5, 10**9), row(1, 0.7, 3 * 10**9), row(2, 0.6, 2 * 10**9), row(3, 0.65, 4 * 10**9)]
    explore = made(winners={"seeds": [400], "macs": [1.5, 2.5], "most": 3})
    assert [(why, trial["number"]) for why, trial in exploration.winners(explore, rows)] == [
        ("best", 1), ("best under 1.5 G multiply-adds", 0), ("best under 2.5 G multiply-adds", 2)
    ]  # fmt: skip
    bound = made(objective="score", under={"macs": 2.2}, winners={"seeds": [400], "most": 9})
    assert [trial["number"] for _, trial in exploration.winners(bound, rows)] == [2, 0]
    cheap = made(objective="cost", least=0.62, winners={"seeds": [400], "most": 1})
    assert [trial["number"] for _, trial in exploration.winners(cheap, rows)] == [1]


def test_the_same_questions_have_the_same_answers() -> None:
    def asked(name: str) -> list[dict[str, Any]]:
        study, found = explore_study.Exploration(made(), LEVELS, name), []
        for number in range(16):
            trial = study.ask()
            study.describe(trial, macs=number, parameters=number)
            study.tell(trial, (number * 7 % 5) / 10, 4, number)
            found.append(trial.params)
        return found

    assert asked("one") == asked("two")


def test_what_decides_is_found_with_its_interval() -> None:
    draw = np.random.default_rng(0)
    values = [draw.integers(1, 4, 40), draw.integers(1, 4, 40), draw.integers(0, 2, 40)]
    rows = [
        {"number": n, "state": "COMPLETE", "label": "", "head": "gcn", "k": {"res2": int(k), "res3": int(j)},
         "refine": bool(r), "lr": 0.001 * (1 + n % 3), "score": 0.1 * k + 0.001 * j, "width": None, "values": {},
         "key": "", "step": 4, "macs": 1, "parameters": 1, "reason": ""}
        for n, (k, j, r) in enumerate(zip(*values, strict=True))
    ]  # fmt: skip
    found = explore_study.importances(rows, 0)  # type: ignore[arg-type]
    assert found[0]["factor"] == "k at res2" and found[0]["share"] > 0.8
    assert all(0 <= one["low"] <= one["share"] <= one["high"] <= 1 for one in found)
    assert explore_study.importances(rows[:5], 0) == []  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- real trials
KILLED = (
    "import os\nfrom study.ablation import explore_study as e\ntold = e.Exploration.tell\n"
    "def tell(self, trial, *a, **k):\n"
    "    told(self, trial, *a, **k)\n"
    "    if trial.number == 2: self.ask(); os._exit(9)\n"
    "e.Exploration.tell = tell\n"
)
RUN = "import sys\nfrom pipelines import explore\nsys.exit(explore.main() or 0)"


@pytest.fixture
def tiny(project: Project) -> Project:
    project.tier["explore"] = json.loads(json.dumps(BLOCK))
    project.params["explore"] = 6
    project.save()
    return project


def explored(project: Project, before: str = "", check: bool = True) -> dict[str, Any]:
    project.python("-c", before + RUN, check=check)
    path = project.reports / "explored" / "explored.json"
    return json.loads(path.read_text()) if path.is_file() else {}


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_as_one_that_is_not(tiny: Project, tmp_path_factory: Any) -> None:
    tiny.stages("data", "plan", "ablate", "evaluate")
    before = tiny.runs()
    assert explored(tiny, KILLED, check=False) == {}
    found = explored(tiny)
    assert [trial["number"] for trial in found["trials"]] == list(range(6)), "none is lost, none is doubled"
    assert {trial["state"] for trial in found["trials"]} == {"COMPLETE"}, "none stays as it was left"
    assert before.items() <= tiny.runs().items() and found["workers"] == 1
    assert 1 <= len(found["winners"]) <= 2 and all(set(w["keys"]) == {"400", "401"} for w in found["winners"])
    tiny.stages("tune", "score", "report")
    report = json.loads((tiny.reports / "report.json").read_text())
    assert len(report["explored"]["rows"]) == len(found["winners"]) and len(report["explored_figures"]) >= 4
    assert "A better network?" in (tiny.reports / "report.html").read_text()
    assert "all as they were made" in tiny.python("-m", "study", "verify").stdout
    trained = tiny.runs()
    assert explored(tiny) == found and tiny.runs() == trained, "what is done is not trained again"
    assert "0 bytes" in tiny.python("-m", "study", "gc", "--keep-days", "0").stdout

    tiny.environment["STUDY_STORE"] = str(tmp_path_factory.mktemp("store"))
    tiny.stages("data", "plan", "ablate")
    assert explored(tiny) == found, "with one worker, bit for bit"


@pytest.mark.slow
def test_trials_are_given_up_refused_or_fail_and_the_search_goes_on(tiny: Project) -> None:
    tiny.tier["tables"] = ["T5"]
    tiny.tier["explore"] |= {
        "objective": "score", "under": {"macs": 0.02}, "rungs": [0.5],
        "pruner": {"name": "MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0},
    }  # fmt: skip
    tiny.params["explore"] = 12
    tiny.save()
    tiny.stages("data", "plan", "ablate")
    found = explored(tiny)
    states = [trial["state"] for trial in found["trials"]]
    assert len(states) == 12 and "PRUNED" in states and "COMPLETE" in states
    given_up = [t for t in found["trials"] if t["state"] == "PRUNED" and t["score"] is not None]
    refused = [t for t in found["trials"] if t["macs"] > 0.02e9]
    assert given_up and all(t["step"] == 2 and t["reason"] == "given up after 2 steps" for t in given_up)
    assert all(t["state"] == "PRUNED" and t["score"] is None and "not trained" in t["reason"] for t in refused)
    by_number = {trial["number"]: trial for trial in found["trials"]}
    assert all(by_number[winner["number"]]["macs"] <= 0.02e9 for winner in found["winners"])

    tiny.tier["explore"]["space"] |= {"head": ["stack"], "k": [7], "width": [100_000]}  # it fits into no memory
    tiny.tier["explore"] |= {"under": {}, "rungs": []}
    tiny.tier["explore"].pop("pruner")
    tiny.params["explore"] = 2
    tiny.save()
    found = explored(tiny)
    assert [trial["state"] for trial in found["trials"]] == ["FAIL", "FAIL"] and found["winners"] == []
    assert all("memory" in trial["reason"] for trial in found["trials"])


@pytest.mark.slow
def test_an_exploration_without_a_space_is_refused(project: Project) -> None:
    project.tier.pop("explore", None)
    project.params["explore"] = 3
    project.save()
    project.stages("data", "plan", "ablate")
    done = project.python("-m", "pipelines.explore", check=False)
    assert done.returncode == 2 and "tiers.smoke.explore must say what is explored" in done.stderr
