"""The real pipeline in a real DVC repository: end to end, repeated, with an added kernel, a failure and a kill."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest
import yaml

from study.config import git_state

pytestmark = pytest.mark.slow

STAGES = ("data", "plan", "ablate", "evaluate", "score", "report", "conclude")


def scores(project) -> list[dict[str, str]]:
    with (project.reports / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_repro_keeps_finished_runs_when_a_kernel_changes(project):
    project.repository()
    first = project.run("dvc", "repro").stdout
    assert all(f"Running stage '{name}@smoke'" in first for name in STAGES)
    assert "report: reports/smoke/report.pdf" in first
    assert (project.reports / "report.pdf").read_bytes().startswith(b"%PDF")
    runs, table = project.runs(), (project.reports / "scores.csv").read_bytes()
    assert len(runs) == 6  # 1x1, GCN k=15, GCN k=15 + BR, and the confusions of each
    assert json.loads((project.reports / "provenance.json").read_text())["dirty"] is False

    again = project.run("dvc", "repro").stdout
    assert "Running stage" not in again
    assert project.runs() == runs

    shown = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    values = next(iter(shown.values()))["data"]
    assert values["miou"].keys() == {"1x1", "GCN k=15", "GCN k=15 + BR"} and values["failed"] == 0
    assert all(0 <= score <= 1 for score in values["miou"].values()) and sum(values["verdicts"].values()) > 20

    project.tier["extra"] = [{"head": "gcn", "k": 17}]
    project.save()
    project.run("dvc", "repro", "score")
    added = project.runs()
    assert {key: added[key] for key in runs} == runs
    assert len(added) == 7
    extra = [row for row in scores(project) if row["table"] == "X" and row["metric"] == "miou"]
    assert [(row["column"], row["paper"], row["status"]) for row in extra] == [("GCN k=17", "", "done")]
    compared = json.loads(project.run("dvc", "metrics", "diff", "--json", "HEAD").stdout)
    assert any("GCN k=17" in str(names) for names in compared.values())
    project.run("dvc", "plots", "diff", "--json", "HEAD")

    project.tier["extra"] = []
    project.save()
    project.stages("data", "plan", "ablate", "evaluate", "tune", "score")
    assert project.runs() == added
    assert (project.reports / "scores.csv").read_bytes() == table


def _files(project) -> dict[str, str]:
    """Path -> digest of each file of the tiers' reports."""
    paths = [path for name in ("smoke", "other") for path in (project.folder / "reports" / name).rglob("*")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths) if path.is_file()}


def _make(project, name: str) -> None:
    """Write the outputs of a tier's stages without running them, and commit them to DVC."""
    project.params["tier"] = name
    project.save()
    for stage in yaml.safe_load((project.folder / "dvc.yaml").read_text().replace("${tier}", name))["stages"].values():
        for out in (out for kind in ("outs", "metrics", "plots") for out in stage["do"].get(kind, ())):
            path = project.folder / (out if isinstance(out, str) else next(iter(out)))
            folder = path if not path.suffix else path.parent
            folder.mkdir(parents=True, exist_ok=True)
            (path if path.suffix else path / "file.json").write_text(json.dumps({"of": {name: len(str(path))}}))
    (project.folder / "tiers" / name / "file.json").unlink()
    for _ in range(2):  # conclude notes what the first commit locked; the second commit locks the note
        project.python("-c", f"from study.config import kept_outputs; kept_outputs.note({name!r})")
        project.run("dvc", "commit", "-q", "-f")


def test_no_dvc_command_removes_another_tiers_files(project, tmp_path_factory):
    project.params["tiers"]["other"] = project.tier | {"seeds": [1]}
    project.save()
    project.repository()
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(tmp_path_factory.mktemp("remote")))
    for name in ("smoke", "other"):
        _make(project, name)
    made = _files(project)
    assert sum("/smoke/" in path for path in made) == len(made) / 2 > 20
    for command in ("push", "gc -w -f", "checkout", "pull", "status", "exp run -S tier=smoke", "checkout"):
        said = project.run("dvc", *command.split()).stdout
        assert "Running stage" not in said, "a tier that has run needs nothing"
        assert _files(project) == made, command
    # Deleted files come back from the cache and from the remote.
    shutil.rmtree(project.folder / "reports" / "other")
    project.run("dvc", "checkout", "-q")
    assert _files(project) == made
    shutil.rmtree(project.folder / ".dvc" / "cache")
    shutil.rmtree(project.folder / "reports")
    project.run("dvc", "pull", "-q")
    assert _files(project) == made
    # A tier that has not run yet is valid, and only its own stages would run.
    project.params["tier"] = "shapes"
    project.save()
    project.run("dvc", "gc", "-w", "-f", "-q")
    dry = project.run("dvc", "repro", "--dry", check=False).stdout  # up to its second stage, whose input does not exist
    assert "Running stage 'tier@shapes'" in dry and "smoke" not in dry and "other" not in dry
    assert _files(project) == made


@pytest.mark.long
@pytest.mark.timeout(900)
def test_switching_tiers_retrains_nothing_and_keeps_every_file(project, tmp_path_factory):
    project.params["tiers"]["other"] = json.loads(json.dumps(project.tier)) | {"seeds": [1]}
    project.save()
    project.repository()
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(tmp_path_factory.mktemp("remote")))
    project.run("dvc", "repro")
    alone, runs = _files(project), project.runs()
    project.run("dvc", "exp", "run", "-n", "switched", "-S", "tier=other")
    made, both = _files(project), project.runs()
    assert alone.items() <= made.items() and len(both) == 2 * len(runs)
    assert (project.folder / "reports" / "other" / "report.pdf").is_file()
    for command in (
        "checkout", "push", "gc -w -f", "pull", "exp run -S tier=smoke", "repro", "exp run --temp -S tier=other",
        "checkout", "exp apply switched", "exp run -S tier=smoke", "pull", "repro",
    ):  # fmt: skip
        said = project.run("dvc", *command.split()).stdout
        assert "temp" in command or "Running stage" not in said, command
        assert _files(project) == made and project.runs() == both, command
    locked = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert locked.keys() >= {f"{name}@{tier}" for name in STAGES for tier in ("smoke", "other")}
    shown = project.run("dvc", "exp", "show", "--csv").stdout
    assert "miou.GCN k=15" in shown


def test_a_failed_training_never_stops_the_others(project):
    # Weights of a million inner channels do not fit into any memory: a real out-of-memory failure.
    project.tier["extra"] = [{"head": "stack", "k": 7, "width": 100_000}]
    project.save()
    done = project.stages(*STAGES, check=False)
    assert done.returncode
    assert "1 of 4 trainings failed" in done.stderr
    assert "make retry TIER=smoke" in done.stderr
    assert (project.reports / "report.pdf").is_file()
    holes = [row for row in scores(project) if row["status"] == "failed"]
    assert {(row["table"], row["value"]) for row in holes} == {("X", "")}
    others = [row for row in scores(project) if row["status"] == "done"]
    assert {row["address"] for row in others} >= {"T5/GCN/overall", "T5/baseline/boundary"}
    failure = json.loads((project.reports / "results" / holes[0]["run"] / "failed.json").read_text())
    assert "memory" in failure["reason"]
    assert failure["retry"] == "make retry TIER=smoke"
    assert failure["reason"][:40] in project.python("-m", "study", "status").stdout


@pytest.mark.timeout(600)
def test_a_killed_ablation_ends_with_the_same_scores(project, tmp_path_factory):
    project.params["execution"] |= {"engine": "ray", "workers": 2, "checkpoint_s": 0.2}
    project.tier["recipe"]["steps"] = 60
    project.save()
    project.repository()
    process = subprocess.Popen(
        ["dvc", "repro", "ablate"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    store = project.folder / "runs"
    try:
        deadline = time.monotonic() + 240
        while not list(store.glob("*/checkpoint.pt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(store.glob("*/checkpoint.pt")), "no training started"
    finally:
        # Everything at once: DVC, the driver, and Ray's own processes, which would finish a short training after it.
        everything = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for other in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        process.communicate()
    interrupted = [path.parent.name for path in store.glob("*/checkpoint.pt") if not (path.parent / "DONE").is_file()]
    assert interrupted
    project.run("dvc", "repro", "ablate")
    resumed = [json.loads((store / key / "result.json").read_text())["resumed"] for key in interrupted]
    assert any(resumed)
    project.stages("evaluate", "tune", "score")
    table = (project.reports / "scores.csv").read_bytes()

    # Undisturbed, in the calling process: neither the number of workers nor the kill changed anything.
    project.params["execution"]["engine"] = "inline"
    project.save()
    project.environment["STUDY_STORE"] = str(tmp_path_factory.mktemp("store"))
    project.stages("data", "plan", "ablate", "evaluate", "tune", "score")
    assert (project.reports / "scores.csv").read_bytes() == table


def test_only_an_edit_makes_a_commit_dirty(project, monkeypatch):
    written = [project.folder / "dvc.lock", project.folder / "tiers" / "smoke" / "outs.dvc"]
    written[1].parent.mkdir(parents=True)
    for path in written:  # as in a branch that shares a report
        path.write_text("outs: []\n")
    project.repository()
    for path in written:
        path.write_text("outs: [] # another run\n")
    monkeypatch.chdir(project.folder)
    assert git_state.head() and not git_state.dirty()
    project.params["tier"] = "shapes"
    project.save()
    (project.folder / "params.yaml").write_text("# a comment\n" + (project.folder / "params.yaml").read_text())
    (project.folder / "untracked").touch()
    assert not git_state.dirty()
    project.tier["title"] = "another"
    project.save()
    assert git_state.dirty()
    project.run("git", "commit", "-qam", "another")
    assert not git_state.dirty()
    (project.folder / "dvc.yaml").write_text("# a comment\n" + (project.folder / "dvc.yaml").read_text())
    assert git_state.described() == git_state.head() + git_state.DIRTY
