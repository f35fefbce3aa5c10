"""Lists what no plan names, by size, and frees it only on request; what is named, being written or young stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from study.commands import gc as command
from study.config import tiers
from study.config.inheritance import in_full
from study.data.prepare import folder_of, prepare
from study.paper import headline
from study.plan import planner
from study.plan.receptive_fields import looks
from study.spec.errors import InputError
from study.store import garbage
from study.store.keys import key_of_confusion
from study.store.runs import CONFUSION, EVALUATED, RECEPTIVE, Store, write_json
from tests.conftest import ROOT

OLD_DAYS, SIZE = 30, 1000
STRANGE = ("f" * 64, "e" * 64)  # keys that no plan names: a whole run and a damaged one


def run(store: Store, key: str, products: tuple[str, ...], whole: bool = True) -> Path:
    made = store.run(key, products)
    with made.writing():
        for name in products:
            made.path(name).write_bytes(bytes(SIZE))
        if whole:
            made.finish()
    return made.folder


def aged(*paths: Path, days: float = OLD_DAYS) -> None:
    when = time.time() - days * garbage.DAY_S
    for path in paths:
        for part in (path, *path.rglob("*")):
            os.utime(part, (when, when))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the real plan of a tier, and an old store with everything that the plan names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("STUDY_STORE", raising=False)
    params = tiers.read(ROOT / "params.yaml")
    params["tiers"] = {"smoke": params["tiers"]["smoke"]}
    params["tiers"]["smoke"]["data"] |= {"train": 4, "tune": 2, "val": 2}
    params["tiers"]["smoke"]["receptive"] = params["tiers"]["smoke"].get("receptive") or {
        "occluder_px": 7, "stride_px": 4, "enlarge": 2, "share": 0.95, "mass": 0.95, "images": 1
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params | {"tier": "smoke"}))
    chosen, store = tiers.load(params, "smoke"), Store()
    read = {name: prepare(s.data, s.root, store.cache, chosen.band_px) for name, s in chosen.settings.items()}
    facts = {name: found | {"frequent": None} for name, found in read.items()}
    manifest = planner.build(chosen, facts, "cpu").manifest()
    reports = tmp_path / "reports" / "smoke"
    write_json(reports / "plan.json", manifest)
    trial = {"label": "1x1", "head": "1x1", "kernel_size": 1, "refine": False, "width": None, "setting": "main",
             "values": {"lr": 0.1}, "keys": {"0": "a" * 64}, "scores": {}, "dropped": None, "failed": "", "whole": True,
             "best": True}  # fmt: skip
    write_json(reports / "tuning" / "search.json", {"version": 1, "on": True, "trials": [trial]})
    for key in [*manifest["trainings"], "a" * 64]:
        run(store, key, ("weights.pt",))
    for key in manifest["evaluations"]:
        run(store, key, EVALUATED)
    found = [key for *_, key in looks(chosen.receptive, chosen.seeds, manifest)]
    assert found, "the tier draws Figure 3"
    for key in found:
        run(store, key, RECEPTIVE)
    for key in headline.segmenting(manifest).values():
        run(store, key_of_confusion(key), CONFUSION)
    (store.root / "mlflow").mkdir()
    (store.root / "mlflow" / "mlflow.db").write_bytes(bytes(SIZE))
    (store.root / "weights").mkdir()
    (store.root / "weights" / "resnet50.pt").write_bytes(bytes(SIZE))
    aged(store.root)
    return tmp_path


def planned(project: Path) -> list[str]:
    return list(json.loads((project / "reports" / "smoke" / "plan.json").read_text())["trainings"])


@pytest.mark.slow
def test_named_and_unknown_files_are_not_waste(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(project / "runs")
    command.main(True, 7)
    assert files(project / "runs") == before
    assert capsys.readouterr().out.splitlines()[-1] == "in all: 0 bytes"


@pytest.mark.slow
def test_waste_is_listed_and_freed_only_on_request(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    before, (first, second, *_) = files(store.root), planned(project)
    whole = run(store, STRANGE[0], ("weights.pt", "counts.npz"))
    damaged = run(store, STRANGE[1], ("weights.pt",), whole=False)
    look = run(store, "d" * 64, RECEPTIVE)
    young = run(store, "c" * 64, ("weights.pt",))
    chosen = tiers.load(tiers.read(Path("params.yaml")), "smoke")
    data = next(iter(chosen.settings.values()))
    options = dict(data.data.options) | {"val": 3}
    other = prepare(type(data.data)(data.data.name, tuple(sorted(options.items()))), None, store.cache, chosen.band_px)
    stamp = [path for path in store.cache.glob("seen-*.json") if json.loads(path.read_text()) == other]
    features = store.cache / f"features-{'0' * 16}"
    half = store.cache / "reading-4194304"
    for folder in (features, half):
        folder.mkdir()
        (folder / "a.npy").write_bytes(bytes(SIZE))
    (store.root / first / ".weights.pt.4194304").write_bytes(bytes(SIZE))
    (store.root / second / "checkpoint.pt").write_bytes(bytes(SIZE))
    aged(store.root)
    aged(young, days=1)
    went = (whole, damaged, look, folder_of(store.cache, other["fingerprint"]), features, half, *stamp)
    assert len(went) == 7
    sizes = {path: garbage.size_of(path) for path in went}
    assert sizes[damaged] == SIZE
    everything = files(store.root)

    command.main(False, 7)
    said = capsys.readouterr().out
    assert files(store.root) == everything, "it only tells"
    runs = sum(sizes[path] for path in (whole, damaged, look))
    prepared = sum(sizes[path] for path in (*went[3:5], *stamp))
    assert f"runs: 3, {garbage.sized(runs)}\n" in said
    assert "checkpoints of finished runs: 1, 1.0 kB\n" in said
    assert f"prepared data: 3, {garbage.sized(prepared)}\n" in said
    assert "temporary files: 2, 2.0 kB\n" in said
    assert f"in all: {garbage.sized(sum(sizes.values()) + 2 * SIZE)}\n" in said
    assert "FREE=yes" in said and "other clones" in said
    command.main(False, 0.5)
    assert "runs: 4, " in capsys.readouterr().out, "the young one is old enough for half a day"

    command.main(True, 7)
    assert files(store.root) == before | {f"{young.name}/{path.name}" for path in young.iterdir()}
    assert f"freed: {garbage.sized(sum(sizes.values()) + 2 * SIZE)}\n" in capsys.readouterr().out
    assert all(store.run(key, ("weights.pt",)).done() for key in planned(project))


HOLD = """
import sys, time
from pathlib import Path
from study.store.runs import Run
with Run(Path(sys.argv[1])).writing():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_files_being_written_stay_however_old(project: Path) -> None:
    store, (named, *_) = Store(), planned(project)
    held, fresh = (run(store, key, ("weights.pt",), whole=False) for key in STRANGE)
    (store.root / named / ".counts.npz.1").write_bytes(b"x")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(held)], env=environment, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        aged(held)
        found = garbage.find(store, garbage.Named(runs={named}, cached=None, looks=None), 0)
        other.kill()
    assert not {waste.path for waste in found} & {held, fresh, store.root / named / ".counts.npz.1"}
    again = garbage.find(store, garbage.Named(runs={named}, cached=None, looks=None), 7)
    assert {waste.path for waste in again if waste.kind == "runs"} >= {held}, "the kernel freed its lock"
    aged(fresh)
    waste = [waste for waste in garbage.find(store, garbage.Named(cached=None), 7) if waste.path == fresh]
    (fresh / "checkpoint.pt").write_bytes(b"x")  # begun between the search and the removal
    assert garbage.free(waste, store) == 0 and fresh.is_dir()


@pytest.mark.slow
def test_use_by_an_unseen_plan_keeps_a_run(project: Path) -> None:
    folder = run(Store(), STRANGE[0], ("weights.pt",))
    aged(folder)
    garbage.used(Store().run(STRANGE[0]))
    when = time.time() - 2 * garbage.DAY_S
    os.utime(folder / "lock", (when, when))
    assert not garbage.find(Store(), command.named([project], Store()), 7)
    assert [waste.path for waste in garbage.find(Store(), command.named([project], Store()), 1)] == [folder]


@pytest.mark.slow
@pytest.mark.parametrize("days", [-400, 400])
def test_file_age_ignores_this_machines_clock(project: Path, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    old, young = (run(Store(), key, ("weights.pt",)) for key in STRANGE)
    aged(old)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + days * garbage.DAY_S)
    found = garbage.find(Store(), command.named([project], Store()), 7)
    assert [waste.path for waste in found] == [old] and young.is_dir()


@pytest.mark.slow
def test_plans_of_other_workspaces_keep_their_runs(project: Path) -> None:
    there = project / ".dvc" / "tmp" / "exps" / "tmpabc"
    shutil.copytree(project / "reports", there / "reports")
    shutil.copy(project / "params.yaml", there)
    shutil.rmtree(project / "reports")
    (project / "reports").mkdir()
    assert [*command.workspaces()] == [project, there]
    assert not garbage.find(Store(), command.named([*command.workspaces()], Store()), 7)


@pytest.mark.slow
def test_unreadable_plans_and_tiers_free_nothing(project: Path) -> None:
    params = in_full(yaml.safe_load(Path("params.yaml").read_text()))
    params["tiers"] = {"other": params["tiers"]["smoke"]}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert not garbage.find(Store(), command.named([project], Store()), 7), "data and receptive fields are kept"
    (project / "reports" / "smoke" / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json must exist and be readable"):
        command.main(True, 7)


@pytest.mark.slow
def test_nothing_is_freed_while_a_stage_runs(project: Path) -> None:
    folder = run(Store(), STRANGE[0], ("weights.pt",))
    aged(folder)
    write_json(project / ".dvc" / "tmp" / "rwlock", {"reports": {"write": {"pid": os.getpid(), "cmd": "dvc repro"}}})
    with pytest.raises(InputError, match="no stage may run while files are deleted"):
        command.main(True, 7)
    assert folder.is_dir()
    write_json(project / ".dvc" / "tmp" / "rwlock", {"reports": {"write": {"pid": 4194304, "cmd": "dvc repro"}}})
    command.main(True, 7)
    assert not folder.exists()
