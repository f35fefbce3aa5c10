"""A tier that draws seeds by need runs through the real pipeline, is killed at a look, and is verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.config import tiers
from study.spec.errors import InputError
from tests.conftest import Project

# Four training steps decide nothing. With REACH = 0 no claim is out of reach, so all claims go on.
HOPEFUL = "from study.statistics import sequence; sequence.REACH = 0.0\n"
RUN = "import sys\nfrom pipelines import {}\nsys.exit({}.main() or 0)"
KILLED = "import os\nfrom study.ablation import batches\nbatches._words = lambda *told: os._exit(9)\n"
SEEDS = {"start": 0, "first": 2, "most": 4, "each": 1}


@pytest.fixture
def by_need(project: Project) -> Project:
    project.tier.update(scale="mechanism", meaningless=False, seeds=SEEDS, tables=["T5", "T7"])
    for name in ("T7 Stage-1", "T7 Stage-2", "T7 Stage-3"):
        project.tier["settings"][name].pop("data", None)
    project.tier["inference"].pop("MS-CRF", None)
    project.tier["not_applicable"] = {"T7/Stage-3-MS-CRF": "No CRF here."}
    project.save()
    return project


def stage(project: Project, name: str, before: str = "", check: bool = True) -> str:
    done = project.python("-c", HOPEFUL + before + RUN.format(name, name), check=check)
    return done.stdout


def drawn(project: Project) -> list[str]:
    found: list[str] = json.loads((project.reports / "results" / "drawn.json").read_text())["keys"]
    return found


@pytest.mark.slow
def test_a_kill_at_a_look_changes_no_verdict(by_need: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    by_need.stages("data", "plan")
    plan = json.loads((by_need.reports / "plan.json").read_text())
    assert plan["sequence"]["at"] == [2, 3, 4] and set(plan["sequence"]["work"]) == (
        plan["trainings"].keys() | plan["evaluations"].keys()
    )
    stage(by_need, "ablate", KILLED, check=False)
    assert not (by_need.reports / "results" / "drawn.json").exists()
    began = by_need.runs()
    first = {key for key, training in plan["trainings"].items() if training["seed"] < 2}
    assert first <= began.keys() and not {k for k, t in plan["trainings"].items() if t["seed"] > 1} & began.keys()

    said = stage(by_need, "ablate")
    assert said.count("look at ") == 3 and "look at 2 seeds: of " in said
    assert began.items() <= by_need.runs().items(), "nothing is trained twice"
    called = drawn(by_need)
    trained = {key for key in called if key in plan["trainings"]}
    assert first < trained <= by_need.runs().keys() & plan["trainings"].keys()
    assert any(key in plan["evaluations"] for key in called), "scales are a claim too"
    for name in ("evaluate", "tune", "score", "report"):
        stage(by_need, name)
    kept = {name: (by_need.reports / name).read_bytes() for name in ("verdicts.json", "scores.csv")}
    looks = json.loads(kept["verdicts.json"])["looks"]
    assert [look["seeds"] for look in looks] == [2, 3, 4] and looks[0]["spent"] < looks[-1]["spent"]
    report = json.loads((by_need.reports / "report.json").read_text())
    assert len(report["verdicts"]["looks"]) == 3
    told = by_need.python("-c", HOPEFUL + "import sys\nfrom study.commands import command_line\n"
                          "sys.exit(command_line.study(['verify'], standalone_mode=False))")  # fmt: skip
    assert "all match" in told.stdout, told.stdout

    by_need.environment["STUDY_STORE"] = str(tmp_path_factory.mktemp("store"))
    for name in ("data", "plan", "ablate", "evaluate", "tune", "score"):
        stage(by_need, name)
    assert drawn(by_need) == called
    assert {name: (by_need.reports / name).read_bytes() for name in kept} == kept


@pytest.mark.slow
def test_tuning_uses_only_the_seeds_all_trainings_have(by_need: Project) -> None:
    by_need.tier["tables"] = ["T5"]
    by_need.params["tune"] = True
    by_need.save()
    by_need.stages("data", "plan", "ablate", "evaluate", "tune", "score", "report")
    tuned = json.loads((by_need.reports / "tuning" / "plan.json").read_text())
    assert "sequence" not in tuned and {t["seed"] for t in tuned["trainings"].values()} == {0, 1}
    judged = json.loads((by_need.reports / "verdicts.json").read_text())
    assert {row["seeds"] for row in judged["tuned"]} <= {0, 2} and len(judged["tuned"]) == len(judged["rows"])


@pytest.mark.slow
def test_a_budget_below_the_first_seeds_is_rejected(by_need: Project) -> None:
    by_need.tier["seeds"] = SEEDS | {"budget": 1e-9}
    by_need.save()
    by_need.stages("data")
    done = by_need.python("-c", RUN.format("plan", "plan"), check=False)
    assert done.returncode and not by_need.runs()
    done = by_need.python("-m", "pipelines.plan", check=False)
    assert (
        "seeds.budget must cover the first 2 seeds of every training" in done.stderr and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": SEEDS | {"most": 1}}, "seeds.most must be a whole number from 2 up"),
        ({"seeds": SEEDS | {"first": 3, "most": 2}}, r"seeds.most must be at least first \(3\), got 2"),
        ({"seeds": SEEDS | {"first": 1}}, "seeds.first must be a whole number from 2 up"),
        ({"seeds": SEEDS | {"budget": 0}}, "seeds.budget must be a positive number, above 0, got 0"),
        ({"seeds": SEEDS | {"each": 0}}, "seeds.each must be a whole number from 1 up"),
        ({"seeds": {"first": 5, "most": 9}}, "seeds must have the key 'start'"),
        ({"seeds": SEEDS | {"often": 3}}, "seeds must have known keys only, got 'often'"),
        ({"seeds": "many"}, "seeds must be a list, or a mapping of start, first and most"),
        ({"seeds": []}, "seeds must be different whole numbers from 0 up"),
        ({"tuning": {"seeds": [3]}}, "tuning.seeds must be seeds that no reported number uses"),
        ({"scale": "none"}, "seeds must be a plain list in a tier that judges no claim"),
        ({"judged_by": "miou_frequent", "frequent": None}, "judged_by must be miou if no rule says"),
        ({"judged_by": "median"}, "judged_by must be one of miou, miou_frequent"),
    ],
)
def test_invalid_seed_settings_are_rejected_on_loading(changes: dict, words: str) -> None:
    params = tiers.in_full(tiers.read())
    block = params["tiers"]["shapes"]
    block |= {"seeds": SEEDS} | {k: block[k] | v if k == "tuning" else v for k, v in changes.items() if v is not None}
    for key in [key for key, value in changes.items() if value is None]:
        block.pop(key, None)
    with pytest.raises(InputError, match=words):
        tiers.load(params, "shapes")


def test_seeds_by_need_require_a_claim() -> None:
    from study.plan import planner

    params = tiers.in_full(tiers.read())
    params["tiers"]["shapes"] |= {"tables": ["T11"], "controls": {}, "mechanisms": {}}
    chosen = tiers.load(params, "shapes")
    facts = {name: {"fingerprint": "f", "classes": ["a"], "size": [64, 64], "splits": {}} for name in chosen.settings}
    with pytest.raises(InputError, match="must be a plain list, because the tier's tables have no claim"):
        planner.build(chosen, facts, "cpu").manifest()


def test_writing_a_budget_changes_only_its_own_block(tmp_path: Path) -> None:
    from study.commands import expect

    path = tmp_path / "params.yaml"
    text = Path("params.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    expect.write(path, "shapes", 77.0)
    expect.write(path, "camvid", 321.0)
    params = tiers.read(path)
    assert tiers.load(params, "shapes").by_need.budget == 77 and tiers.load(params, "camvid").by_need.budget == 321
    before, after = text.splitlines(), path.read_text(encoding="utf-8").splitlines()
    assert len(set(after) - set(before)) <= 2, "every other line stays as it was"
    for name, changed in (
        ("smoke", path.read_text(encoding="utf-8")),
        ("shapes", text.replace("    seeds: {start: 40, ", "    seeds:\n      {start: 40, ")),
    ):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(InputError, match="must be a mapping in one line"):
            expect.write(path, name, 5.0)
        assert path.read_text(encoding="utf-8") == changed, "nothing is lost"
    odd = text.replace("  camvid:\n", "  camvid:  # streets\n  # a remark\n")
    path.write_text(odd, encoding="utf-8")
    expect.write(path, "camvid", 99.0)
    assert tiers.load(tiers.read(path), "camvid").by_need.budget == 99


def test_mechanisms_alone_suffice_for_seeds_by_need() -> None:
    from study.plan import planner

    params = tiers.in_full(tiers.read())
    params["tiers"]["shapes"] |= {"tables": ["T11"]}
    chosen = tiers.load(params, "shapes")
    facts = {name: {"fingerprint": "f", "classes": ["a"], "size": [64, 64], "splits": {}} for name in chosen.settings}
    assert planner.build(chosen, facts, "cpu").manifest()["sequence"]["at"] == [5, 9]


@pytest.mark.slow
def test_a_failure_counts_as_drawn_until_a_retry(by_need: Project) -> None:
    by_need.tier["tables"] = ["T5"]
    by_need.tier["extra"] = [{"head": "stack", "k": 7, "width": 100_000}]  # too large for any memory
    by_need.save()
    by_need.stages("data", "plan")
    stage(by_need, "ablate")
    plan = json.loads((by_need.reports / "plan.json").read_text())
    failed = [path.parent.name for path in (by_need.folder / "runs").glob("*/failed.json")]
    assert {plan["trainings"][key]["label"] for key in failed} == {"stack k=7 m=100000"} and len(failed) == 2
    before = [(by_need.folder / "runs" / key / "failed.json").stat().st_mtime_ns for key in failed]
    stage(by_need, "ablate")
    assert [(by_need.folder / "runs" / key / "failed.json").stat().st_mtime_ns for key in failed] == before
    told = by_need.python("-m", "study", "status").stdout
    assert "2 failed" in told
    by_need.python("-c", "from study.commands import reproduce; reproduce._forget_failures('smoke')")
    assert not list((by_need.folder / "runs").glob("*/failed.json"))
