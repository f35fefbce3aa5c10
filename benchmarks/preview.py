"""How far the hours that `study preview` predicts are from the truth, part by part, in real runs with an empty store.

    python -m benchmarks.preview                            # `smoke`, a folder of photographs, and a random tier
    python -m benchmarks.preview --only random --seed 7     # another random tier
    python -m benchmarks.preview --only camvid              # an hour on two cores; needs STUDY_DATA_CAMVID
    python -m benchmarks.preview --kinds                    # some steps of three variants of `camvid`

Each tier is previewed and then run in a copy of the project. Other work on the machine makes a run longer, which no
preview can predict. So the time for which a process was ready but had no core, as the kernel counts it, is taken out:
*quiet* seconds are those that an idle machine would have taken. Ratios are predicted over quiet seconds. The start of a
stage is predicted as a part of the rest, but measured as a part of the stage: the promise is about the sum.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from PIL import Image

from study.config import tiers
from study.store import machine
from study.store.code_digest import ROOT

PROMISED = 1.5
LOOK_S = 0.5
STEPS = 10, 50  # of two trainings, whose difference is steps alone
PARTS = {
    "data": "data",
    "ablate": "trainings",
    "evaluate": "evaluations",
    "tune": "search",
}  # stage -> part; else the rest
FORETELL = """
import json, sys
from study.commands import preview
from study.config import tiers
found = preview.preview(tiers.read(), sys.argv[1])
print(json.dumps({part.name: part.seconds for part in found.parts}))
"""


class Watch(threading.Thread):
    """Seconds for which the processes of a run store had a core, and waited for one."""

    def __init__(self, store: Path) -> None:
        super().__init__(daemon=True)
        self.mark = f"STUDY_STORE={store}".encode()
        self.ours: dict[int, bool] = {}
        self.seen: dict[tuple[int, int], tuple[int, int]] = {}  # nanoseconds by process and thread
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*"):
            process = int(path.name)
            try:
                if process not in self.ours:
                    self.ours[process] = self.mark in (path / "environ").read_bytes().split(b"\0")
                if self.ours[process]:
                    for thread in (path / "task").iterdir():
                        ran, waited, _ = (thread / "schedstat").read_text().split()
                        self.seen[process, int(thread.name)] = int(ran), int(waited)
            except OSError:  # it has ended
                continue

    def totals(self) -> tuple[float, float]:
        found = list(self.seen.values())
        return sum(ran for ran, _ in found) / 1e9, sum(waited for _, waited in found) / 1e9


def quiet(wall: float, ran: float, waited: float) -> float:
    """Seconds of ``wall`` that an idle machine would have taken: without the time for which ready processes waited, but
    never less than the time for what they ran on all cores."""
    at_a_time = max(1.0, (ran + waited) / max(wall, 1e-9))
    return min(wall, max(ran / machine.cores(), wall - waited / at_a_time))


def run(params: dict[str, Any], tier: str) -> bool:
    """Preview and run a tier. Returns whether the sum is as promised."""
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        clone, store = Path(name) / "project", Path(name) / "runs"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        for each in ("study", "pipelines", "dvc.yaml"):  # as they are now
            shutil.rmtree(clone / each, ignore_errors=True)
            subprocess.run(["cp", "-r", str(ROOT / each), str(clone)], check=True)
        (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        environment = os.environ | {"STUDY_STORE": str(store), "PYTHONUNBUFFERED": "1"}
        watch = Watch(store)
        watch.start()
        marks = [("preview", time.monotonic(), watch.totals())]
        told = _lines([sys.executable, "-c", FORETELL, tier], clone, environment, watch, marks)
        foretold = json.loads(told[-1])
        print("\n".join(told[:-1]), flush=True)
        marks.append(("start", time.monotonic(), watch.totals()))
        _lines([sys.executable, "-m", "study", "repro", tier], clone, environment, watch, marks)
        marks.append(("", time.monotonic(), watch.totals()))
        watch.over.set()
    return _compare(tier, foretold, marks)


def _lines(command: list[str], clone: Path, environment: dict[str, str], watch: Watch, marks: list[Any]) -> list[str]:
    """The lines that a command prints. Adds the start of each stage to ``marks``."""
    process = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        found.append(line.rstrip())
        if stage := re.match(r"Running stage '(\w+)@", line):
            watch.look()
            marks.append((stage[1], time.monotonic(), watch.totals()))
    if process.wait():
        raise SystemExit("\n".join([*found, f"{' '.join(command)} failed"]))
    watch.look()
    return found


def _compare(tier: str, foretold: dict[str, float | None], marks: list[Any]) -> bool:
    took: dict[str, tuple[float, float]] = {}
    for (stage, began, before), (_, ended, after) in itertools.pairwise(marks):
        wall, ran, waited = ended - began, after[0] - before[0], after[1] - before[1]
        part = stage if stage == "preview" else PARTS.get(stage, "rest")
        so_far = took.get(part, (0.0, 0.0))
        took[part] = so_far[0] + wall, so_far[1] + quiet(wall, ran, waited)
        print(f"  {stage:10} {wall:7.1f} s, {ran:7.1f} s of cores, {waited:7.1f} s waiting for one", flush=True)
    said = dict(foretold)
    said["data"] = (said.pop("reading") or 0) + (said.pop("features", None) or 0)
    wall, truth = (sum(pair[i] for part, pair in took.items() if part != "preview") for i in (0, 1))
    for part, seconds in said.items():
        if part in took and seconds:
            print(f"  {part:12} {seconds:7.1f} s predicted, {took[part][1]:7.1f} quiet: {seconds / took[part][1]:.2f}")
    total = sum(seconds or 0 for seconds in said.values())
    ratio, kept = total / truth, 1 / PROMISED <= total / truth <= PROMISED
    print(
        f"{tier}: {total:.0f} s predicted; {wall:.0f} s by the clock, {truth:.0f} s quiet: {ratio:.2f} of the truth "
        f"(promised: within {PROMISED}){'' if kept else ': NO'}; the preview took {took['preview'][0]:.0f} s "
        f"({took['preview'][1]:.0f} s quiet)",
        flush=True,
    )
    return kept


def photographs(folder: Path, number: int, size: tuple[int, int], classes: int) -> None:
    """Write images with as many colours as a photograph has, and masks of rectangles."""
    draw = np.random.default_rng(0)
    for place in range(number):
        labels = np.zeros(size, np.uint8)
        for label in draw.permutation(classes):
            top, left = (int(draw.integers(0, side // 2)) for side in size)
            labels[top : top + size[0] // 2, left : left + size[1] // 2] = label
        smooth = np.asarray(Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).resize(size[::-1]))
        pixels = (0.5 * smooth + 20.0 * labels[..., None] + draw.normal(40, 12, (*size, 1))).clip(0, 255)
        for kind, content in (("images", pixels.astype(np.uint8)), ("masks", labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if kind == "images" else "png"
            Image.fromarray(content).save(folder / kind / f"{place:05d}.{suffix}")


def folder_block(root: Path, size: tuple[int, int], classes: int, **changed: Any) -> dict[str, Any]:
    """A user's tier, as in docs/your-data.md."""
    pad = [-(-side // 32) * 32 for side in size]
    return {
        "title": "Photographs", "judges": "Nothing.", "meaningless": True, "seeds": [0], "tables": ["T2", "T5"],
        "data": {"name": "folder", "root": str(root), "images": "images", "masks": "masks", "void": 255,
                 "classes": [f"class {number}" for number in range(classes)], "val": 0.3, "tune": 12, "pad": pad},
        "controls": {}, "mechanisms": {},
        "network": {"backbone": "efficientnet_lite0", "levels": ["res3", "res4", "res5"], "frozen": True,
                    "output_stride": 8, "options": {"weights": "imagenet"}},
        "recipe": {"optimizer": "adamw", "lr": 0.003, "momentum": 0.9, "weight_decay": 0.001, "schedule": "cosine",
                   "warmup": 0.1, "steps": 40, "batch": 8, "flip": True, "precision": "fp32", "validations": 4},
        "band_px": 3, "samples": 3, "frequent": None, "extra": [],
    } | changed  # fmt: skip


def random_block(shapes: dict[str, Any], root: Path, seed: int) -> dict[str, Any]:
    """A random tier: photographs with a frozen backbone, or scenes with everything trained."""
    draw = random.Random(seed)
    extra = [
        {
            "head": draw.choice(["gcn", "dense", "stack"]),
            "k": draw.choice([3, 5, 7, 9, 11]),
            "refine": draw.random() < 0.5,
        }
        for _ in range(3)
    ]
    tables = sorted({draw.choice(["T1", "T2", "T3", "T4"]), "T5"})
    recipe = {
        "steps": draw.choice([20, 40, 80]),
        "batch": draw.choice([2, 4, 8, 12]),
        "validations": draw.choice([1, 4]),
    }
    classes, size = draw.randint(3, 20), (draw.randrange(128, 400, 32), draw.randrange(128, 400, 32))
    images = draw.randint(40, 90)
    if draw.random() < 0.5:
        photographs(root, images, size, classes)
        block = folder_block(root, size, classes, tables=tables, extra=extra)
        block["network"]["levels"] = draw.choice([["res4", "res5"], ["res3", "res4", "res5"]])
        block["network"]["output_stride"] = draw.choice([4, 8])
    else:
        widths = draw.choice([[8, 16, 16, 16], [16, 24, 48, 64]])
        block = shapes | {
            "title": "Scenes", "judges": "Nothing.", "meaningless": True, "scale": "none", "seeds": [0],
            "tables": tables, "extra": extra, "controls": {}, "mechanisms": {}, "settings": {}, "tuning": None,
            "not_asked": {},
            "data": shapes["data"] | {"size": draw.choice([64, 96, 128]), "train": images, "tune": 12, "val": 30},
            "network": shapes["network"] | {"levels": ["res2", "res3", "res4", "res5"],
                                            "options": {"widths": widths, "strides": [1, 2, 4, 4]}},
            "inference": {},
        }  # fmt: skip
    return block | {"recipe": block["recipe"] | recipe}


def camvid(root: Path, images: dict[str, int]) -> None:
    """Write photographs of CamVid's size in its layout."""
    for split, number in images.items():
        photographs(root / "made", number, (360, 480), 11)
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        rows = []
        for place in range(number):
            name = f"{'0001TP' if split == 'train' else '0016E5'}_{place:06d}.png"
            Image.open(root / "made" / "images" / f"{place:05d}.jpg").save(root / split / name, compress_level=1)
            shutil.move(root / "made" / "masks" / f"{place:05d}.png", root / f"{split}annot" / name)
            rows.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(rows) + "\n")
        shutil.rmtree(root / "made")


def kinds() -> bool:
    """Train the cheapest, the middle and the dearest variant of `camvid` for some steps, and compare the core seconds
    of a step with the prediction."""
    from study.ablation.workload import Workload
    from study.commands import preview
    from study.config.execution import execution_of
    from study.plan import planner
    from study.spec.documents.plan import PlanFile
    from study.spec.documents.reading import read
    from study.store.runs import Store
    from study.training.worker import train

    params, ratios = tiers.read() | {"tier": "camvid"}, []
    with tempfile.TemporaryDirectory(prefix="kinds-") as name:
        folder = Path(name)
        camvid(folder / "camvid", {"train": 60, "val": 12})
        os.environ |= {"STUDY_STORE": str(folder / "runs"), "STUDY_DATA_CAMVID": str(folder / "camvid")}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        for stage in ("tier", "data", "plan"):
            command = [sys.executable, "-m", f"pipelines.{stage}"]
            subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        os.chdir(folder)
        foretold = preview.preview(tiers.read(), "camvid")
        chosen, execution, store = tiers.load(params), execution_of(params), Store()
        manifest = read(Path("reports") / "camvid" / "plan.json", PlanFile)
        planned = planner.build(chosen, manifest["data"], execution.device)
        workload = Workload(planned, manifest, execution, store)
        first = [key for key in planned.trainings if key not in planned.init]
        ordered = sorted(first, key=foretold.step.__getitem__)
        for key in (ordered[0], ordered[len(ordered) // 2], ordered[-1]):
            took = []
            for steps in STEPS:
                job = workload.training(key, folder / "stop")
                recipe = dataclasses.replace(job.subject.training.recipe, steps=steps, validations=1)
                training = dataclasses.replace(job.subject.training, recipe=recipe)
                subject = dataclasses.replace(job.subject, key=f"{key[:12]}-{steps}", training=training)
                before = time.process_time()
                train(dataclasses.replace(job, subject=subject))
                took.append(time.process_time() - before)
            step = (took[1] - took[0]) / (STEPS[1] - STEPS[0])
            ratios.append(foretold.step[key] / step)
            label = manifest["trainings"][key]["label"]
            print(
                f"{label}: {foretold.step[key]:.3f} s per step predicted, {step:.3f} measured: {ratios[-1]:.2f}",
                flush=True,
            )
        os.chdir(ROOT)
    return all(1 / PROMISED <= ratio <= PROMISED for ratio in ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["smoke", "folder", "random", "shapes", "camvid", "voc_subset"])
    parser.add_argument("--seed", type=int, default=0, help="of the random tier")
    parser.add_argument("--kinds", action="store_true", help="of camvid: some steps of some variants")
    arguments = parser.parse_args()
    if arguments.kinds:
        return int(not kinds())
    params: dict[str, Any] = dict(tiers.read())
    kept = True
    with tempfile.TemporaryDirectory(prefix="photographs-") as name:
        for tier in [arguments.only] if arguments.only else ["smoke", "folder", "random"]:
            root, blocks = Path(name) / tier, params["tiers"]
            if tier == "folder":
                photographs(root, 60, (240, 320), 5)
                blocks = blocks | {tier: folder_block(root, (240, 320), 5)}
            if tier == "random":
                blocks = blocks | {tier: random_block(blocks["shapes"], root, arguments.seed)}
            params |= {"tiers": blocks}
            if (
                by_need := tiers.load(cast(Any, params), tier).by_need
            ) is not None:  # how far its looks go is not predicted
                first = {"seeds": list(by_need.all[: by_need.first])}
                params |= {"tiers": blocks | {tier: blocks[tier] | first}}
            kept &= run(params | {"tier": tier, "tune": False}, tier)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
