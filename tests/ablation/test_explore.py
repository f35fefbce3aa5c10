"""An exploration: what Optuna takes and what it refuses, and real trials through the stage, killed and repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from study.ablation import explore, explore_study, optuna_study
from study.config import schema, tiers
from study.plan import exploration
from study.spec.checks import checked
from study.spec.documents.data import Facts
from study.spec.errors import InputError
from study.spec.heads import Variant, dense, gcn, stack
from study.spec.training import Recipe
from study.statistics.explored import Tried, against, paired
from study.store.runs import Store, first
from tests.conftest import Project, made_up_facts

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
        ({"sampler": {"name": "CmaEsSampler"}}, "Optuna does not support CmaEsSampler with objective"),
        ({"sampler": {"name": "BruteForceSampler"}}, "Optuna does not support BruteForceSampler with objective"),
        ({"sampler": {"name": "RandomSampler"}, "under": {"macs": 1}}, "must be one that takes constraints"),
        ({"objective": "score", "pruner": {"name": "Scissors"}, "rungs": [0.5]}, "explore.pruner.name must be one of"),
        ({"objective": "score", "pruner": {"name": "PercentilePruner"}, "rungs": [0.5]}, "PercentilePruner takes"),
    ],
)  # fmt: skip
def test_unsupported_samplers_and_pruners_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        explore_study.check(made(**changes), LEVELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": {"name": "MedianPruner"}, "rungs": [0.5]}, "pruner must be left out with objective: pareto"),
        ({"objective": "score", "pruner": {"name": "MedianPruner"}}, "rungs must be the shares of the steps"),
        ({"objective": "score", "rungs": [0.5]}, "rungs must be the shares of the steps"),
        ({"objective": "cost"}, "least must be given if and only if the objective is cost"),
        ({"least": 0.5}, "least must be given if and only if the objective is cost"),
        ({"seed": 400}, "winners.seeds must be seeds that the search does not use"),
        ({"space": SPACE | {"k": [2]}}, "space.k must be different odd kernel sizes"),
        ({"space": SPACE | {"head": ["stack"], "k": [1]}}, "space.k must have a size from 3 up for stacks"),
        ({"space": SPACE | {"head": ["transformer"]}}, "space.head must be one of dense, stack, gcn"),
        ({"space": SPACE | {"lr": [0.1, 0.01]}}, "space.lr must be the least and the greatest rate"),
        ({"under": {"seconds": 3}}, "under.* must be one of macs, parameters, memory"),
        ({"space": SPACE | {"k": {}}}, "space.k must have a key"),
        ({"space": SPACE | {"k": {"res2": [3, 4]}}}, "space.k must be different odd kernel sizes"),
        ({"space": SPACE | {"head": ["stack"], "k": {"res2": [1], "res3": [1]}}}, "k must have a size from 3 up"),
        ({"space": SPACE | {"refine": []}}, "space.refine must name true, false or both"),
        ({"space": SPACE | {"refine": {"heads": [True]}}}, "space.refine must have keys among head, sum, up"),
    ],
)
def test_a_block_that_makes_no_sense_is_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(**changes)


def test_an_exploration_cannot_use_reported_seeds() -> None:
    params = tiers.in_full(tiers.read())
    params["tiers"]["shapes"]["explore"]["seed"] = 41
    with pytest.raises(InputError, match="explore must have seeds that no reported number uses"):
        tiers.load(params, "shapes")


# ---------------------------------------------------------------------------------------------------- what is suggested
def test_values_become_a_network_with_per_level_kernels() -> None:
    tier = tiers.load(tiers.read(), "shapes")
    assert exploration.levels(tier) == ("res3", "res4")

    def made_of(**values: Any) -> tuple[Variant, Recipe]:
        return exploration.network(tier, values | {"lr": 0.002}, ("head", "sum"))

    both = {"head": "gcn", "k res3": 3, "k res4": 15}
    variant, recipe = made_of(**both, BR=True)
    assert variant == Variant(gcn(15), True, (("res3", gcn(3)),)) and recipe.lr == 0.002
    alike, _ = made_of(**{"head": "dense", "k res3": 5, "k res4": 5, "BR": False})
    assert alike == Variant(dense(5)), "the paper's own network is known as such"
    stacked, _ = made_of(**{"head": "stack", "k res3": 3, "k res4": 7, "width": "1/2", "BR": False})
    assert stacked.head == stack(7, Fraction(1, 2)) and dict(stacked.at)["res3"] == stack(3, Fraction(1, 2))
    single, _ = made_of(**{"head": "stack", "k res3": 1, "k res4": 7, "width": "1/2", "BR": False})
    assert dict(single.at)["res3"] == dense(1), "a stack without 3x3 convolutions is the 1x1 convolution"
    assert single.label == "stack k=7 m=1/2 (res3 1x1 k=1)"
    mixed, _ = made_of(**{"head": "stack", "k res3": 7, "k res4": 1, "width": "1/2", "BR": False})
    assert mixed.label == "1x1 (res3 stack m=1/2 k=7)", "another width is another network"
    assert mixed == Variant(dense(1), at=(("res3", stack(7, Fraction(1, 2))),))
    placed, _ = made_of(**both, **{"BR after heads": True, "BR after sums": False})
    assert placed.refine == ("head",) and placed.label == "GCN k=15 (res3 GCN k=3) + BR (head)"
    whole, _ = made_of(**both, **{"BR after heads": True, "BR after sums": True})
    assert whole.refine is True, "in all places that the network has, as in the paper"


def test_kernels_vary_by_level_and_refinement_by_place() -> None:
    space = SPACE | {"k": {"res2": [1, 3], "res3": [5]}, "refine": {"head": [False, True], "sum": [False]}}
    study, seen = explore_study.Exploration(made(space=space), LEVELS, "s"), set()
    for _ in range(24):
        trial = study.ask()
        seen |= {(name, value) for name, value in trial.params.items() if name not in ("lr", "head", "width")}
        study.fail(trial, "")
    assert seen == {
        ("k res2", 1), ("k res2", 3), ("k res3", 5),
        ("BR after heads", False), ("BR after heads", True), ("BR after sums", False),
    }  # fmt: skip


def test_a_study_rejects_another_space_until_reset(tmp_path: Path) -> None:
    log = tmp_path / "journal.log"
    begun = explore_study.Exploration(made(), LEVELS, "s", log)
    begun.fail(begun.ask(), "")
    assert len(explore_study.Exploration(made(), LEVELS, "s", log).trials) == 1
    other = made(space=SPACE | {"k": [1, 7]})
    with pytest.raises(InputError, match="1 trial used others"):
        explore_study.Exploration(other, LEVELS, "s", log)
    begun.study.set_user_attr(explore_study.SETTINGS, [[*LEVELS], "as it was"])
    with pytest.raises(InputError, match="must be of this version, got 1 trial of an earlier one"):
        explore_study.Exploration(made(), LEVELS, "s", log)
    optuna_study.begin_anew(log, "s")
    assert explore_study.Exploration(other, LEVELS, "s", log).trials == []


def test_a_torn_journal_line_costs_at_most_its_trial(tmp_path: Path) -> None:
    """As a power cut or a full disk leaves it."""
    log = tmp_path / "journal.log"
    begun = explore_study.Exploration(made(), LEVELS, "s", log)
    begun.fail(begun.ask(), "")
    log.write_bytes(log.read_bytes() + b'{"op_code": 4, "stu')
    study = explore_study.Exploration(made(), LEVELS, "s", log)
    study.fail(study.ask(), "")
    assert len(explore_study.Exploration(made(), LEVELS, "s", log).trials) == 2


def test_an_exploration_in_use_is_not_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_STORE", str(tmp_path))
    log = Store().study_log("smoke")
    study = explore_study.Exploration(made(), LEVELS, explore.study_of("smoke"), log)
    study.fail(study.ask(), "")
    with first(log.with_suffix(".lock")), pytest.raises(InputError, match="another driver of smoke is running"):
        explore.discard("smoke")
    explore.discard("smoke")
    assert explore_study.Exploration(made(), LEVELS, explore.study_of("smoke"), log).trials == []


def test_trials_of_another_score_or_training_are_refused(tmp_path: Path) -> None:
    log = tmp_path / "journal.log"
    study = explore_study.Exploration(made(), LEVELS, "s", log)
    trial = study.ask()
    study.describe(trial, key="old", label="GCN k=3", macs=1, parameters=1, memory=1)
    study.tell(trial, 0.5, 4)
    with pytest.raises(InputError, match="1 trial used others"):
        explore_study.Exploration(made(), LEVELS, "s", log, classes=[1])
    study.check_keys({0: "old"})
    with pytest.raises(InputError, match=r"trial 0 \(GCN k=3\) was trained with others; discard them"):
        study.check_keys({0: "new"})


def test_a_trial_without_all_its_values_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the sampler would have suggested them, from the trials before; a trial with all its values is left alone."""

    def asked(name: str, number: int) -> explore_study.Exploration:
        study = explore_study.Exploration(made(), LEVELS, name, tmp_path / "journal.log")
        for score in range(number):
            trial = study.ask()
            study.describe(trial, macs=score, parameters=score, memory=score)
            study.tell(trial, (score * 7 % 5) / 10, 4)
        return study

    whole = asked("whole", 14).ask().params
    study = asked("s", 14)
    with monkeypatch.context() as patch:
        patch.setattr(study, "_suggest", lambda trial: trial.suggest_categorical("head", study.explore.space.head))
        assert len(study.ask().params) == 1
    again = explore_study.Exploration(made(), LEVELS, "s", tmp_path / "journal.log")
    (resumed,) = again.running()
    assert resumed.params == whole
    later = again.ask()
    again.fail(resumed, "")
    assert [trial.params for trial in again.running()] == [later.params]


def test_study_cost_skips_duplicate_and_refused_networks(tmp_path: Path) -> None:
    log, explore = tmp_path / "journal.log", made(objective="score", under={"macs": 1})
    study = explore_study.Exploration(explore, LEVELS, "s", log)
    told = [
        ("a", 3.0, "whole"),
        ("a", 3.0, "whole"),
        ("b", 5.0, "given up"),
        ("c", 7.0, "refused"),
        ("d", 11.0, "runs"),
    ]
    for key, work, end in told:
        trial = study.ask()
        study.describe(trial, key=key, work=work, steps=4, macs=1, parameters=1, memory=1)
        if end == "whole":
            study.tell(trial, 0.5, 4)
        elif end == "given up":
            study.prune(trial, 0.1, 1)
        elif end == "refused":
            study.refuse(trial, [1.0])
    assert study.spent() == 3 + 5 / 4 + 11
    assert explore_study.Exploration(explore, LEVELS, "s", log).spent() == study.spent(), "also of an earlier call"


@pytest.mark.parametrize(("objective", "sampler"), [("score", "TPESampler"), ("pareto", "TPESampler")])
def test_a_planted_best_network_is_found(objective: str, sampler: str) -> None:
    """In a space of 3 heads, 4 x 4 kernel sizes and 2 places of refinement, by a score that adds up."""
    space = {"head": ["dense", "gcn"], "k": [1, 3, 5, 7], "refine": {"head": [False, True], "sum": [False, True]},
             "lr": [0.001, 0.01]}  # fmt: skip
    explore = made(space=space, objective=objective, sampler={"name": sampler, "multivariate": True})
    study = explore_study.Exploration(explore, LEVELS, "s")
    for _ in range(120):
        trial = study.ask()
        values = trial.params
        score = 0.3 * (values["head"] == "gcn") + 0.1 * (values["BR after sums"] is True)
        score += 0.2 * (values["k res2"] == 3) + 0.02 * values["k res3"] - 0.05 * (values["BR after heads"] is True)
        cost = 1000 + values["k res2"] + values["k res3"] + 10 * values["BR after sums"]
        study.describe(trial, macs=cost, parameters=cost, memory=cost, label=str(values))
        study.tell(trial, score - abs(values["lr"] - 0.004), 4)
    best = max(study.rows(), key=lambda one: one["score"] or 0.0)
    assert (best["head"], best["k"]) == ("gcn", {"res2": 3, "res3": 7})
    assert best["values"]["BR after sums"] is True and best["values"]["BR after heads"] is False
    found = exploration.winners(explore, study.rows())
    assert found[0][0] == "best" and found[0][1]["number"] == best["number"]
    if objective == "pareto":
        assert best["number"] in exploration.front(study.rows(), "macs")


@pytest.mark.slow
def test_a_winner_is_rarely_called_better_by_chance() -> None:
    """Winners and the paper's networks with one true score: at most one study in twenty says otherwise, and the best
    of the paper's, chosen by luck, makes it fewer. Where one is better by five spreads, it is called so."""
    draw = np.random.default_rng(0)

    def tried(name: str, cost: float, mean: float = 0.5) -> Tried:
        return Tried(name, cost, tuple(draw.normal(mean, 0.01, 5)))

    wrong = 0
    for _ in range(400):
        rivals = [tried(f"r{n}", n) for n in range(6)]
        wrong += any(one and one.better for one in against([tried(f"w{n}", 2 + n) for n in range(4)], rivals))
    assert wrong <= 20
    (found,) = against([tried("w", 3, 0.55)], [tried("cheaper", 2), tried("dearer", 4, 0.9)])
    assert found is not None and found.better and found.rival == "cheaper" and found.low < 0.05 < found.high
    assert against([tried("w", 1)], [tried("dearer", 2)]) == [None], "no rival costs as little"


def test_controls_change_only_the_kernel_sizes() -> None:
    tier = tiers.load(tiers.read(), "shapes")
    best = {"head": "gcn", "k res3": 3, "k res4": 15, "BR after heads": True, "lr": 0.002}
    assert [
        (what, variant.label, recipe.lr) for what, variant, recipe in exploration.controls(tier, best, ("head", "sum"))
    ] == [
        ("smallest kernel at res3", "GCN k=15 (res3 GCN k=1) + BR (head)", 0.002),
        ("largest kernel at res3; k = 15 at all levels", "GCN k=15 + BR (head)", 0.002),
        ("k = 3 at all levels", "GCN k=3 + BR (head)", 0.002),
    ]
    stacked = {"head": "stack", "k res3": 3, "k res4": 3, "width": "1", "BR": False, "lr": 0.002}
    assert [(what, variant) for what, variant, _ in exploration.controls(tier, stacked, ("head", "sum"))] == [
        ("smallest kernel at res3", Variant(stack(3, Fraction(1)), at=(("res3", dense(1)),))),
        ("largest kernel at res3", Variant(stack(3, Fraction(1)), at=(("res3", stack(15, Fraction(1))),))),
    ]


def test_a_control_has_the_rate_of_the_best_network() -> None:
    """Also if it is a winner itself, at another rate."""
    tier = tiers.load(tiers.read(), "shapes")
    assert tier.explore is not None
    facts = dict.fromkeys(tier.settings, cast(Facts, made_up_facts("f")))
    best, other = Variant(gcn(5)), Variant(gcn(3))
    slow, fast = replace(tier.main.recipe, lr=0.001), replace(tier.main.recipe, lr=0.01)
    plan, found = exploration.again(
        tier, facts, "cpu", [("best", 0, best, slow), ("front", 1, other, fast), ("k", 0, other, slow)]
    )
    assert [plan.trainings[one["keys"]["400"]].recipe.lr for one in found] == [0.001, 0.01, 0.001]
    assert len(plan.trainings) == 3 * len(tier.explore.winners.seeds)
    assert [cell.variant for cell, *_ in plan.cells] == [best, other]
    assert set(found[1]["keys"].values()).isdisjoint(found[2]["keys"].values())


def test_controls_are_compared_seed_by_seed() -> None:
    """A seed's share of the score cancels; without the pairing, it would hide the differences."""
    draw = np.random.default_rng(0)
    best = {str(seed): float(draw.normal(0.5, 0.05)) for seed in range(5)}
    worse = {seed: score - 0.01 + float(draw.normal(0, 0.001)) for seed, score in best.items()}
    alike = {seed: score + float(draw.normal(0, 0.001)) for seed, score in best.items()}
    low, same, alone = paired(best, [worse, alike, {"0": 0.4}])
    assert low is not None and low.decided and not low.better and low.low < -0.01 < low.high
    assert same is not None and not same.decided and alone is None


def row(number: int, score: float, macs: int, **more: Any) -> Any:
    return {"number": number, "state": "COMPLETE", "label": f"n{number}", "score": score, "macs": macs,
            "parameters": macs, "memory": macs} | more  # fmt: skip


def test_the_front_has_what_no_other_beats() -> None:
    rows = [row(0, 0.5, 10), row(1, 0.6, 20), row(2, 0.55, 30), row(3, 0.6, 15), row(4, 0.4, 5), row(5, 0.5, 10)]
    rows.append(row(6, 0.9, 1, state="PRUNED"))
    assert exploration.front(rows, "macs") == [4, 0, 3]


def test_winners_include_the_best_under_each_bound() -> None:
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
            study.describe(trial, macs=number, parameters=number, memory=number)
            study.tell(trial, (number * 7 % 5) / 10, 4)
            found.append(trial.params)
        return found

    assert asked("one") == asked("two")


@pytest.mark.slow
def test_what_decides_is_found_with_its_interval() -> None:
    draw = np.random.default_rng(0)
    values = [draw.integers(1, 4, 40), draw.integers(1, 4, 40), draw.integers(0, 2, 40)]
    rows = [
        {"number": n, "state": "COMPLETE", "label": "", "head": "gcn", "k": {"res2": int(k), "res3": int(j)},
         "refine": ["head"] * int(r), "lr": 0.001 * (1 + n % 3), "score": 0.1 * k + 0.001 * j, "width": None,
         "values": {}, "key": "", "step": 4, "macs": 1, "parameters": 1, "memory": 1, "work": 1.0, "reason": ""}
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
ANEW = "from study.ablation import explore\nexplore.discard('smoke')"
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


def tampered(project: Project) -> None:
    """`make verify` reports each edit of an exploration."""
    place = project.reports / "explored"
    key = next(iter(json.loads((place / "plan.json").read_text())["trainings"]))
    files = {path: path.read_bytes() for path in (place / "explored.json", place / "results" / key / "counts.npz")}
    told, counts = files
    edited = json.loads(files[told])
    edited["trials"][0] |= {"macs": 1, "memory": 2, "lr": 0.5}
    edited["trials"][1] |= {"score": 0.99, "key": edited["trials"][0]["key"]}
    edited["controls"][0]["keys"] = edited["winners"][0]["keys"]
    told.write_text(json.dumps(edited))
    counts.write_bytes(files[counts] + b"0")
    said = project.python("-m", "study", "verify", check=False).stdout
    for words in (
        "explored.json, trial 0, macs: must be", "explored.json, trial 0, memory: must be",
        "explored.json, trial 0, lr: must be", "explored.json, trial 1, score: must be",
        "explored.json, trial 1, key: must be", "explored.json, retrained",
        f"results/{key[:12]}/counts.npz must be the one in the run store",
    ):  # fmt: skip
        assert words in said
    edited = json.loads(files[told])
    edited["trials"][0]["values"].pop("head")
    told.write_text(json.dumps(edited))
    said = project.python("-m", "study", "verify", check=False).stdout
    assert "must have the parameters of today's space, got a trial without 'head'" in said
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.slow
def test_a_killed_exploration_resumes_to_the_same_result(tiny: Project, tmp_path_factory: Any) -> None:
    tiny.stages("data", "plan", "ablate", "evaluate")
    before = tiny.runs()
    assert explored(tiny, KILLED, check=False) == {}
    found = explored(tiny)
    assert [trial["number"] for trial in found["trials"]] == list(range(6)), "none is lost, none is doubled"
    assert {trial["state"] for trial in found["trials"]} == {"COMPLETE"}, "none stays as it was left"
    assert before.items() <= tiny.runs().items() and found["workers"] == 1
    assert 1 <= len(found["winners"]) <= 2 and all(set(w["keys"]) == {"400", "401"} for w in found["winners"])
    assert {w["number"] for w in found["controls"]} == {found["winners"][0]["number"]}
    tiny.stages("tune", "score", "report")
    report = json.loads((tiny.reports / "report.json").read_text())
    assert len(report["explored"]["controls"]["rows"]) == len(found["controls"]) > 0
    assert len(report["explored"]["rows"]) == len(found["winners"]) and len(report["explored_figures"]) >= 4
    assert "A better network?" in (tiny.reports / "report.html").read_text()
    assert "all match" in tiny.python("-m", "study", "verify").stdout
    tampered(tiny)
    trained = tiny.runs()
    assert explored(tiny) == found and tiny.runs() == trained, "what is done is not trained again"
    assert tiny.python("-m", "study", "gc", "--keep-days", "0").stdout.splitlines()[-1] == "in all: 0 bytes"

    tiny.environment["STUDY_STORE"] = str(tmp_path_factory.mktemp("store"))
    tiny.stages("data", "plan", "ablate")
    assert explored(tiny) == found, "with one worker, bit for bit"


@pytest.mark.slow
def test_exploration_continues_after_pruned_refused_or_failed_trials(tiny: Project) -> None:
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
    assert given_up and all(t["step"] == 2 and t["reason"] == "stopped early after 2 steps" for t in given_up)
    assert all(t["state"] == "PRUNED" and t["score"] is None and "not trained" in t["reason"] for t in refused)
    by_number = {trial["number"]: trial for trial in found["trials"]}
    assert all(by_number[winner["number"]]["macs"] <= 0.02e9 for winner in found["winners"])

    tiny.tier["explore"]["space"] |= {"head": ["stack"], "k": [7], "width": [100_000]}  # it fits into no memory
    tiny.tier["explore"] |= {"under": {}, "rungs": []}
    tiny.tier["explore"].pop("pruner")
    tiny.params["explore"] = 2
    tiny.save()
    done = tiny.python("-m", "pipelines.explore", check=False)
    assert done.returncode == 2 and "must have the space, the objective and the score of params.yaml" in done.stderr
    tiny.python("-c", ANEW)
    found = explored(tiny)
    assert [trial["state"] for trial in found["trials"]] == ["FAIL", "FAIL"] and found["winners"] == []
    assert all("memory" in trial["reason"] for trial in found["trials"])


@pytest.mark.slow
def test_impossible_bounds_and_places_are_refused_before_trials(tiny: Project) -> None:
    tiny.stages("data", "plan", "ablate")
    before = tiny.runs()
    for changes, words in (
        (
            {"under": {"macs": 0.0001}},
            "explore.under.macs must allow a network of the space, got 0.0001, but",
        ),
        ({"under": {"memory": 0.01}}, "explore.under.memory must allow a network of the space"),
        ({"under": {}, "space": SPACE | {"refine": {"up": [True]}}}, "that the network has (head, sum), got up"),
    ):
        tiny.tier["explore"] |= changes
        tiny.save()
        done = tiny.python("-m", "pipelines.explore", check=False)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    tiny.tier["explore"] |= {"space": SPACE | {"k": {"res2": [3], "res9": [3]}}}
    tiny.save()
    done = tiny.python("-m", "pipelines.explore", check=False)
    assert done.returncode == 2 and "explore.space.k must have the levels of the tier's heads" in done.stderr
    assert tiny.runs() == before


@pytest.mark.slow
def test_an_exploration_without_a_space_is_refused(project: Project) -> None:
    project.tier.pop("explore", None)
    project.params["explore"] = 3
    project.save()
    project.stages("data", "plan", "ablate")
    done = project.python("-m", "pipelines.explore", check=False)
    assert done.returncode == 2 and "tiers.smoke.explore must define the exploration" in done.stderr
