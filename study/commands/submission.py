"""Script submission: writes the archive of a trained network's predictions for a benchmark's test images.

It is not a stage of `dvc repro`, because only the server can score the archive. The score enters the report through
`submitted:` of the tier.
"""

from __future__ import annotations

import sys
from pathlib import Path

from study.ablation.workload import Workload
from study.config import tiers
from study.config.execution import Execution, execution_of
from study.data.prepare import prepare
from study.inference import benchmark_predict
from study.inference.benchmark_format import FORMATS
from study.plan import planner
from study.spec.documents.data import Facts
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.spec.jobs import SubmissionJob
from study.spec.training import Inference
from study.store import keys, stage
from study.store.runs import Store, file_digest, write_json
from study.training.batches import cache_features


def main(name: str | None = None) -> None:
    params = tiers.read()
    chosen, execution, store = tiers.load(params, name), execution_of(params), Store()
    if chosen.submission is None:
        having = [other for other, block in params["tiers"].items() if "submission" in block]
        raise InputError(
            f"tiers.{chosen.name} must have the block submission: {{cell, format, seed}} (what to submit), got none; "
            f"add it, or use a tier that has one ({', '.join(having) or 'there is none'})"
        )
    job, origin = _job(chosen, execution, store)
    images = benchmark_predict.test_images(job.subject.training.data, job.subject.root)
    if not store.run(job.subject.key).done():
        failure = store.run(job.subject.key).failure()
        raise InputError(
            f"the training of {chosen.submission.cell}, seed {chosen.submission.seed}, must be done first, got "
            f"{'a failed one: ' + failure['reason'] if failure else 'none'}; run "
            f"`make {'retry' if failure else 'repro'} TIER={chosen.name}`"
        )
    if job.subject.training.network.frozen:
        _features_again(origin, job.subject.origin or job.subject.facts, chosen.band_px, store)
    files = benchmark_predict.files_of(job, images)
    print(
        f"{len(images)} test images, {len(benchmark_predict.left(images, files))} of them left to predict", flush=True
    )
    benchmark_predict.predict(job, images, files, stage.ticker("predictions"))
    folder = stage.folder(chosen.name) / "submission"
    archive = folder / f"{job.format}{FORMATS[job.format].suffix}"
    benchmark_predict.write(job, images, files, archive)
    _tell(job, chosen, archive, len(images))


def _job(chosen: tiers.Tier, execution: Execution, store: Store) -> tuple[SubmissionJob, tiers.Setting]:
    """The job, and the setting whose training split standardised the features of a frozen backbone."""
    wanted = chosen.submission
    assert wanted is not None
    path = stage.folder(chosen.name) / "plan.json"
    manifest = read(path, PlanFile)
    facts = manifest["data"]
    if lacking := sorted(chosen.settings.keys() - facts.keys()):
        raise InputError(
            f"{path} must be the plan of params.yaml, got one without {lacking[0]!r}; run "
            f"`make repro TIER={chosen.name}`"
        )
    planned = planner.build(chosen, facts, execution.device)
    ((cell, runs),) = ((cell, runs) for cell, _, runs in planned.cells if cell.address == wanted.cell)
    if not runs:
        raise InputError(
            f"{wanted.cell} must have a training (tiers.{chosen.name}.submission names it), got none: "
            f"{chosen.reason(cell)}; fix that, or name another cell"
        )
    key = runs[wanted.seed]
    asked = planned.evaluations.get(key)
    trained, how = (asked.training, asked.inference) if asked else (key, Inference())
    workload = Workload(planned, manifest, execution, store)
    job = SubmissionJob(
        keys.key_of_evaluation(trained, how), workload.subject(trained), workload.context(), how, wanted.format
    )
    return job, chosen.settings[planned.origin(trained)]


def _features_again(setting: tiers.Setting, facts: Facts, band_px: int, store: Store) -> None:
    """Compute the cached features again if they were removed: the network needs the moments of its features. Raises
    InputError if the data set has changed since the training."""
    tick = stage.ticker(f"features of {setting.network.backbone}")
    found = prepare(setting.data, setting.root, store.cache, band_px, tick=tick, stream=setting.stream)
    if found["fingerprint"] != facts["fingerprint"]:
        raise InputError(
            f"the data set {setting.data.name} has changed since the network was trained on it; "
            "run `dvc repro --force data`"
        )
    cache_features(setting.network, found, store.cache, setting.recipe.flip, tick)


def _tell(job: SubmissionJob, chosen: tiers.Tier, archive: Path, images: int) -> None:
    assert chosen.submission is not None
    told = {"cell": chosen.submission.cell, "seed": chosen.submission.seed, "training": job.subject.key}
    told |= {"predictions": job.key, "images": images, "archive": archive.name, "sha256": file_digest(archive)}
    write_json(archive.with_name("submission.json"), told)
    print(
        f"{archive}: {images} images, valid for the server; enter its score as `submitted:` of the tier "
        f"{chosen.name} in params.yaml, then run `make repro TIER={chosen.name}`"
    )


if __name__ == "__main__":
    sys.exit(stage.run(main))
