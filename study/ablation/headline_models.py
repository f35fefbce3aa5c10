"""The headline models: the networks that the paper compares last, with the first seed, each whole in one file with its
card (D140). They are the only weights that leave the run store: for people who have a report but no store."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from study.ablation.model_card import card
from study.ablation.workload import Workload
from study.paper.headline import file_name, trainings
from study.spec.documents.models import HeadlineModel, ModelFile, ModelOrigin, ModelScore
from study.spec.documents.plan import PlanFile, trained
from study.spec.documents.reading import read
from study.spec.documents.runs import Result
from study.spec.errors import InputError
from study.spec.jobs import Context, Subject
from study.statistics import results
from study.statistics.intervals import half_width
from study.store.runs import file_digest, write, write_json

INDEX = "index.json"
Export = Callable[[Path, Subject, Context, ModelOrigin], ModelFile]  # study.inference.exported.export
PAPER = (
    'Peng, Zhang, Yu, Luo and Sun, "Large Kernel Matters: Improve Semantic Segmentation by Global Convolutional '
    'Network", CVPR 2017, arXiv 1703.02719'
)
LICENCE = (
    "Apache-2.0, like the project. The training images, and the weights that the backbone started from, have their own "
    "terms."
)


def collect(workload: Workload, collected: Path, target: Path, export: Export) -> None:
    """Write the models of done headline trainings to ``target`` by ``export``, with their cards and an index: file ->
    description and digests. ``collected`` has the results of trainings. If a model cannot be written, print a warning
    and go on."""
    shutil.rmtree(target, ignore_errors=True)
    plan, index = workload.manifest, dict[str, HeadlineModel]()
    context = replace(workload.context(), device="cpu")  # the driver's machine may have no GPU
    for address, key in trainings(plan).items():
        run, file = workload.store.run(key), target / f"{file_name(address)}.safetensors"
        if not run.done():
            continue
        asked = file, workload.subject(key), context, _origin(workload, address, key, collected)
        try:
            try:
                about = export(*asked)
            except FileNotFoundError:  # the cache was emptied, and the moments of a frozen backbone's features with it
                workload.read_again()
                about = export(*asked)
        except InputError as error:
            print(
                f"warning: the model of {address} was not written ({error}); all results are kept, and "
                f"`dvc repro --force data@{plan['tier']} ablate@{plan['tier']}` tries again",
                file=sys.stderr,
            )
            continue
        told = file.with_suffix(".md")
        content = card(about, file.name).encode()
        write(told, lambda opened, content=content: opened.write(content))  # type: ignore[misc]
        index[file.name] = {
            "label": about["label"],
            "seed": about["seed"],
            "data": about["setting"],
            "cell": address,
            "training": key,
            "sha256": file_digest(file),
            "card": file_digest(told),
        }
    write_json(target / INDEX, index)


def _origin(workload: Workload, address: str, key: str, collected: Path) -> ModelOrigin:
    plan = workload.manifest
    training = plan["trainings"][key]
    return {
        "paper": PAPER,
        "licence": LICENCE,
        "tier": plan["tier"],
        "title": plan["title"],
        "judges": plan["judges"],
        "meaningless": plan["meaningless"],
        "scale": plan["scale"],
        "cell": address,
        "label": training["label"],
        "setting": training["data"],
        "training": key,
        "seed": training["seed"],
        "commit": read(collected / key / "result.json", Result).get("commit", ""),
        "torch": str(plan["identities"][key]["torch"]),
        "recipe": plan["settings"][training["data"]]["recipe"],
        "scores": _scores(plan, address, collected),
    }


def _scores(plan: PlanFile, address: str, collected: Path) -> list[ModelScore]:
    """Every metric on val of a cell's trainings: the first seed's value, and the mean and interval over seeds."""
    cell = next(cell for cell in plan["cells"] if cell["address"] == address)
    frequent = plan["data"][cell["data"]]["frequent"]
    folders = [collected / trained(plan, key) for key in cell["runs"].values()]
    rows = [results.scores(folder, frequent) for folder in folders if results.status(folder) == results.DONE]
    found: list[ModelScore] = []
    for metric, value in rows[0].items():
        values = np.array([row[metric] for row in rows])
        mean, half = float(values.mean()), half_width(values)
        ends = (None, None) if math.isnan(half) else (mean - half, mean + half)
        found.append(
            {"metric": metric, "value": value, "mean": mean, "low": ends[0], "high": ends[1], "seeds": len(values)}
        )
    return found
