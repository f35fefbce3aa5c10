"""`make verify`: recomputes every number of a report from the stored counts, and checks the report's inputs.

It changes nothing. Each stale or edited item is one line with its remedy; items that are missing here are listed as not
checked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.ablation import headline_models, planned_cost
from study.ablation.importances import importances
from study.commands import plan_diff, value_diff
from study.config import tiers
from study.config.execution import execution_of
from study.data.prepare import folder_of, intact
from study.paper import headline
from study.plan import exploration, halving, planner
from study.report import deviations, document
from study.report.digests import check
from study.spec.constants import MAIN
from study.spec.documents.data import Facts
from study.spec.documents.explored import ExploredFile
from study.spec.documents.models import HeadlineModel
from study.spec.documents.networks import AnatomyFile, CostsFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.provenance import ProvenanceFile, Ran, RanRun
from study.spec.documents.reading import read
from study.spec.documents.search import SearchFile
from study.spec.documents.tier import Params
from study.spec.errors import InputError
from study.spec.words import counted
from study.statistics import outputs, results, sequence
from study.statistics.claim_tests import Collected
from study.store import runs, stage
from study.tracking import background

COUNTED = {"counts.npz": "sha256", "tune.npz": "tune_sha256"}  # keys of their digests in provenance.json
BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # raised for unreadable counts


class Findings:
    """The result of a verification: ``wrong`` and ``unchecked`` lines, and how many numbers and files were checked."""

    def __init__(self, name: str) -> None:
        self.wrong: list[str] = []
        self.unchecked: list[str] = []
        self.numbers = self.files = 0
        self._again = f"run `make repro TIER={name}`"

    def add(self, what: str, remedy: str = "") -> None:
        """Add a line, once. The usual remedy is to run the tier again, which trains nothing that is whole."""
        line = f"{what}; {remedy or self._again}"
        if line not in self.wrong:
            self.wrong.append(line)


def verify(params: Params, name: str | None = None) -> int:
    """Verify the report of a tier (by default the one in ``params``) and print the findings; returns the exit status, 1
    if something is wrong. Raises InputError if plan.json or provenance.json is missing or damaged."""
    chosen = tiers.load(params, name)
    folder, found = Path("reports") / chosen.name, Findings(chosen.name)
    manifest = read(folder / "plan.json", PlanFile)
    provenance = read(folder / "provenance.json", ProvenanceFile)
    _plan(params, chosen, folder, manifest, found)
    _data(manifest, provenance, found)
    drawn = stage.drawn_plan(folder)
    _counts(folder, drawn, provenance["runs"], found)
    _weights(folder, drawn, found)
    _anatomy(chosen, folder, manifest, found)
    if (tuned := stage.tuned_plan(folder)) is not None:
        _search(chosen, folder, manifest, tuned, found)
        _counts(folder / "tuning", tuned, provenance["tuned"]["runs"] if "tuned" in provenance else {}, found)
    _explored(chosen, folder, manifest, found)
    try:
        _numbers(chosen, folder, drawn, found)
        _drawn(folder, manifest, drawn, found)
    except BROKEN as error:
        found.add(f"the numbers of {folder} must follow from the stored counts, got unreadable counts ({error})")
    lines, files = check(folder, params["tiers"][chosen.name])
    found.files += files
    for line in lines:
        found.add(line)
    for line in found.wrong:
        print(f"error: {line}")
    for line in found.unchecked:
        print(f"not checked: {line}")
    told = f"{found.numbers:,} numbers recomputed from the stored counts, digests of {found.files:,} files"
    print(f"{chosen.name}: {told}; {counted(len(found.wrong), 'error') if found.wrong else 'all match'}")
    return 1 if found.wrong else 0


def _plan(params: Params, chosen: tiers.Tier, folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Check plan.json against the plan of this code, params.yaml and data.json."""
    facts = read(folder / "data.json", dict[str, Facts])
    device = execution_of(params).device
    if params["execution"]["device"] == "auto":  # a report may be verified on another machine
        device = next((str(told["device"]) for told in manifest["identities"].values() if "device" in told), device)
    if lacking := sorted(chosen.settings.keys() - facts.keys()):
        found.add(f"data.json must have every setting of params.yaml, but lacks {', '.join(lacking)}")
        return
    planned = planner.build(chosen, facts, device)
    today = json.loads(json.dumps(planned.manifest(planned_cost.of_plan(planned))))
    found.files += 1
    for line in plan_diff.changes(manifest, today):
        found.add(line)


def _data(manifest: PlanFile, provenance: Ran, found: Findings) -> None:
    """Check the data's fingerprints, and the cached arrays that the store has."""
    cache, absent = runs.default_root() / "cache", []
    for setting, facts in manifest["data"].items():
        if provenance["data"].get(setting) != facts["fingerprint"]:
            found.add(f"provenance.json must have the fingerprint of plan.json's data {setting}, got another")
        kept = folder_of(cache, facts["fingerprint"], facts["streamed"])
        if not kept.is_dir():
            absent.append(setting)
        elif not intact(kept):
            found.add(f"{kept} must hold the data that was read for {setting}, got changed files")
        else:
            found.files += sum(1 for _ in kept.glob("*.npy"))
    if absent:
        found.unchecked.append(f"data of {', '.join(absent)}: no copy in {cache}")


def _counts(folder: Path, manifest: PlanFile, known: Mapping[str, RanRun], found: Findings) -> None:
    """Check the collected results against provenance.json, and against the run store if it has them."""
    root, absent = runs.default_root(), 0
    places = dict.fromkeys(manifest["trainings"], "results") | dict.fromkeys(manifest["evaluations"], "examined")
    for key in known.keys() - places.keys():
        found.add(f"provenance.json must have the runs of plan.json only, got {key[:12]}")
    for key, place in places.items():
        collected, told = folder / place / key, dict(known.get(key, {}))
        state = results.status(collected)
        if state != told.get("status"):
            found.add(f"{place}/{key[:12]} must be {told.get('status')}, as provenance.json says, got {state}")
        if state != results.DONE:
            continue
        files = [collected / name for name in background.COLLECTED if (collected / name).is_file()]
        digests = {file.name: runs.file_digest(file) for file in files}
        found.files += len(digests)
        for name, said in COUNTED.items():
            if digests.get(name) != told.get(said):  # an evaluation has no tune split
                got = "an edited" if name in digests else "no"
                found.add(f"{place}/{key[:12]}/{name} must have the sha256 of provenance.json, got {got} file")
        absent += not _as_stored(collected, digests, found)
    if absent:
        found.unchecked.append(f"{absent} of {len(places)} runs against the run store: not in {root}")


def _as_stored(collected: Path, digests: Mapping[str, str], found: Findings) -> bool:
    """Check the files of a collected run, by their digests, against the run store; False if it lacks the run."""
    root = runs.default_root()
    done = runs.Run(root / collected.name).read("DONE")
    for name in (name for name, digest in digests.items() if done is not None and done.get(name) != digest):
        where = f"{collected.parent.name}/{collected.name[:12]}/{name}"
        found.add(f"{where} must be the one in the run store {root}, got another")
    return done is not None


def _stored(folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Check the collected trainings of an exploration, of which provenance.json says nothing."""
    absent = 0
    for key in manifest["trainings"]:
        collected = folder / "results" / key
        files = [collected / name for name in background.COLLECTED if (collected / name).is_file()]
        digests = {file.name: runs.file_digest(file) for file in files}
        found.files += len(digests)
        absent += not _as_stored(collected, digests, found)
    if absent:
        found.unchecked.append(
            f"{absent} of {len(manifest['trainings'])} explored networks' runs: not in {runs.default_root()}"
        )


def _drawn(folder: Path, manifest: PlanFile, drawn: PlanFile, found: Findings) -> None:
    """Check the trainings against those that the looks call for."""
    if "sequence" in manifest:
        collected = Collected(manifest, [folder / "results", folder / "examined"], {})
        course = sequence.follow(manifest, collected, sequence.families(manifest), beyond=False)
        if course.drawn != drawn["trainings"].keys() | drawn["evaluations"].keys():
            found.add(
                f"results/{stage.DRAWN} must list the runs that the looks call for, got others (results changed after "
                "it was written)", f"run `make retry TIER={manifest['tier']}`",
            )  # fmt: skip


def _weights(folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Check the headline models and their cards against their index, and its trainings against the plan."""
    planned = headline.trainings(manifest)
    for name, told in read(folder / "weights" / headline_models.INDEX, dict[str, HeadlineModel]).items():
        if planned.get(told["cell"]) != told["training"]:
            found.add(f"weights/{name} must come from the plan's training of {told['cell']}, got another")
        model = folder / "weights" / name
        for file, digest in ((model, told["sha256"]), (model.with_suffix(".md"), told["card"])):
            if not file.is_file() or runs.file_digest(file) != digest:
                got = "an edited" if file.is_file() else "no"
                found.add(f"weights/{file.name} must have the sha256 of its index, got {got} file")
            found.files += 1


def _search(chosen: tiers.Tier, folder: Path, manifest: PlanFile, tuned: PlanFile, found: Findings) -> None:
    """Check the outcome of the search against its scores, its scores against the run store if it has them, and the plan
    of the trainings at each variant's best values against that outcome."""
    stands, root = read(folder / "tuning" / "search.json", SearchFile)["trials"], runs.default_root()
    device = _device(tuned)
    try:
        trials = halving.told(chosen, manifest["data"], device, stands)
    except InputError as error:
        found.add(str(error))
        return
    assert chosen.tuning is not None  # halving.told raises InputError otherwise
    today = json.loads(runs.json_bytes(halving.rows(trials, chosen.tuning)))
    found.files += 1
    for where, was, now in value_diff.values(stands, today)[: value_diff.SHOWN]:
        found.add(f"search.json, trial {where}: must be {now}, which its scores give, got {was}")
    classes = {name: results.judged_classes(manifest, name) for name in chosen.settings}
    for trial in stands:
        for step, score in trial["scores"].items():
            rungs = [
                results.searched_score(root / key, int(step), classes[trial["setting"]])
                for key in trial["keys"].values()
            ]
            known = [rung for rung in rungs if rung is not None]
            again = sum(known) / len(known) if known else score
            if len(known) == len(rungs) and again != score:
                found.add(
                    f"search.json, {trial['label']} at step {step}: must be {again}, as in the run store, got {score}"
                )
    planned = halving.tuned(chosen, manifest["data"], device, halving.best(trials)).manifest()
    for line in plan_diff.changes(tuned, json.loads(json.dumps(planned))):
        found.add(f"tuning/{line}")


def _explored(chosen: tiers.Tier, folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Check an exploration: its trials against the networks that their values name and, if the run store has them,
    against their trainings; its front, winners and controls against the trials; the trainings with new seeds against
    the run store."""
    from study.ablation.explore_study import DISCARD  # imports optuna

    path = folder / "explored" / "explored.json"
    stands = read(path, ExploredFile) if path.is_file() else None
    if stands is None or not stands["on"]:
        return
    if chosen.explore is None:
        found.add(f"{path} must come from an explore block of params.yaml, got none")
        return
    trials, facts = stands["trials"], manifest["data"]
    try:
        _trials(chosen, stands, manifest, found)
    except (KeyError, ValueError) as error:
        found.add(f"{path} must have the parameters of today's space, got a trial without {error}; {DISCARD}")
        return
    asked = exploration.retrained(chosen, trials, tuple(stands["places"]))
    again: dict[str, object] = {"front": exploration.front(trials, chosen.explore.against), "retrained": []}
    if asked:
        planned = read(folder / "explored" / "plan.json", PlanFile)
        plan, again["retrained"] = exploration.again(chosen, facts, _device(planned), asked)
        for line in plan_diff.changes(planned, json.loads(json.dumps(plan.manifest()))):
            found.add(f"explored/{line}")
        _stored(folder / "explored", planned, found)
    told = {"front": stands["front"], "retrained": [*stands["winners"], *stands.get("controls", [])]}
    found.numbers += value_diff.numbers(json.dumps(again).encode(), "explored.json")
    for where, was, now in value_diff.values(told, json.loads(json.dumps(again)))[: value_diff.SHOWN]:
        found.add(f"explored.json, {where}: must be {now}, which its trials give, got {was}")


def _trials(chosen: tiers.Tier, stands: ExploredFile, manifest: PlanFile, found: Findings) -> None:
    """Check the labels, the costs and the scores of explored trials."""
    from study.ablation.explore import costs  # imports torch

    facts, classes, absent = manifest["data"][MAIN], results.judged_classes(manifest), 0
    plan = exploration.empty(chosen, manifest["data"], _device(manifest))
    for trial in stands["trials"]:
        values, places = trial["values"], tuple(stands["places"])
        variant, recipe = exploration.network(chosen, values, places)
        today: dict[str, object] = {
            "label": variant.label, "key": exploration.enter(chosen, plan, variant, recipe), "head": values["head"],
            "k": {level: values[exploration.kernel(level)] for level in exploration.levels(chosen)},
            "refine": [place for place in places if variant.refines(place)], "lr": recipe.lr,
            **costs(chosen, variant, facts),
        }  # fmt: skip
        run = runs.Run(runs.default_root() / trial["key"])
        if trial["score"] is not None:
            score = results.searched_score(run.folder, trial["step"], classes)
            today |= {} if score is None else {"score": score}
            absent += score is None
        for name, now in today.items():
            if (was := trial[name]) != now:  # type: ignore[literal-required]
                found.add(f"explored.json, trial {trial['number']}, {name}: must be {now}, got {was}")
    if absent:
        trials = len(stands["trials"])
        found.unchecked.append(f"the scores of {absent} of {trials} explored trials: not in {runs.default_root()}")


def _device(plan: PlanFile) -> str:
    """The device that a plan's trainings are for."""
    return next(str(told["device"]) for told in plan["identities"].values() if "device" in told)


def _anatomy(chosen: tiers.Tier, folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Check the structure and the costs of networks (audit, drawings) against the networks that the code builds."""
    from study.plan.networks import anatomy_of, costs_of  # imports torch

    again: dict[str, tuple[Any, object]] = {"anatomy": (AnatomyFile, anatomy_of(chosen, manifest))}
    if chosen.settings.keys() <= manifest["data"].keys():  # otherwise the check of the plan reports it
        # A network is the same on every device, so the CPU will do.
        again["costs"] = CostsFile, costs_of(planner.build(chosen, manifest["data"], "cpu"), manifest)
    for name, (kind, built) in again.items():
        stands, today = read(folder / "examined" / f"{name}.json", kind), json.loads(runs.json_bytes(built))
        for where, was, now in value_diff.values(stands, today)[: value_diff.SHOWN]:
            found.add(f"examined/{name}.json, {where}: must be {now}, as the code builds it, got {was}")


def _numbers(chosen: tiers.Tier, folder: Path, manifest: PlanFile, found: Findings) -> None:
    """Recompute scores, tables, metrics, plots and audit with the score stage's functions, then the report's text."""
    frame, summary = outputs.frames(folder, manifest)
    again = outputs.contents(folder, manifest, frame, summary, importances)
    for name, content in again.items():
        found.numbers += value_diff.numbers(content, name)
        if (folder / name).is_file():
            found.files += 1
            for line in value_diff.files(name, (folder / name).read_bytes(), content):
                found.add(line)
        else:
            found.add(f"{name} must exist, but is missing")
    for made in (path for part in ("tables", "plots", "confusion") for path in sorted((folder / part).glob("*"))):
        if (name := made.relative_to(folder).as_posix()) not in again:
            found.add(f"{name} must not exist, because the plan has no such numbers", f"delete {made}")
    told = read(folder / "report.json", dict[str, Any])
    try:
        words = document.words(folder, manifest, summary, told["figures"]) | {"deviations": deviations.rows(chosen)}
    except TypeError:  # the report is older than this format of report.json
        found.add("report.json must have the format that this code writes, got one of another version")
        return
    for line in _words(told, words):
        found.add(line)


def _words(stands: Any, again: dict[str, object]) -> list[str]:
    """Compare the report's text, as printed in the PDF, with the text of the recomputed numbers."""
    today = json.loads(json.dumps(again, default=str))
    for part in (stands, today):
        part["tables"] = {table["heading"]: table for table in part["tables"]}
    pairs = value_diff.values({name: stands.get(name) for name in today}, today)
    return [
        f"report.json, {where}: must be {now}, which the stored counts give, got {was}"
        for where, was, now in pairs[: value_diff.SHOWN]
    ]
