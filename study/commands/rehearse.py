"""A rehearsal: runs every stage of a tier with two steps per training, at full resolution, on stand-ins for its data.

The stages are the real ones, run in a separate folder with a separate store. So a mistake that would end the first GPU
hour (a name, a shape, a format, too little memory) ends the rehearsal instead.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from study.ablation.progress import named
from study.config import tiers
from study.config.execution import execution_of
from study.data.synthetic_layouts import LAYOUTS
from study.spec.constants import MAIN
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.documents.tier import Params, TierBlock
from study.spec.errors import InputError
from study.spec.words import counted, duration
from study.store.code_digest import ROOT
from study.store.runs import Store, write_json
from study.training.captured import EAGER
from study.training.speed_probe import CPU_BATCH

STAGES = ("data", "plan", "ablate", "evaluate", "score", "report")
STEPS, TUNE, GAP = 2, 1, 0


def stand_in(block: TierBlock, folder: Path) -> TierBlock:
    """A tier's block of params.yaml for a rehearsal. Every official data set is replaced by a synthetic one in the same
    layout, written to ``folder``, and pretrained weights by random ones. A user's own data set stays."""
    found: dict[str, Any] = copy.deepcopy(block)
    own = found["data"]["name"]
    for part in (found, *found.get("controls", {}).values(), *found.get("settings", {}).values()):
        data, options = part.get("data", {}), part.get("network", {}).get("options", {})
        name = data.get("name", own)
        if name in LAYOUTS and "classes" not in data:
            root = folder / name
            if not root.is_dir():
                LAYOUTS[name](root)
            if "name" in data:
                data |= {"root": str(root)}
            if "tune" in data:
                data["tune"] = TUNE
            if "gap" in data:
                data["gap"] = GAP  # the stand-in has too few images for another gap
        if "weights" in options:
            options["weights"] = None
    return found


def shortened(params: Params, name: str, folder: Path) -> Params:
    """params.yaml for the rehearsal of a tier: stand-ins, two steps per training, one seed."""
    block: dict[str, Any] = stand_in(params["tiers"][name], folder)
    for part, setting in tiers.load(params, name).settings.items():  # data without a stand-in is read in place
        other = block.get("settings", {}).get(part) or block.get("controls", {}).get(part) or {}
        data = (block if part == MAIN else other).get("data", {})
        if setting.root is not None and not Path(data.get("root") or "").is_relative_to(folder) and "name" in data:
            data["root"] = str(setting.root)
    cpu = execution_of(params).device == "cpu"
    for part in (block, *block.get("controls", {}).values(), *block.get("settings", {}).values()):
        recipe = part.get("recipe", {})
        if "steps" in recipe:
            recipe["steps"] = STEPS if cpu else EAGER + STEPS  # on a GPU, also one that is recorded and replayed
        if "validations" in recipe:
            recipe["validations"] = 1
        if cpu and "batch" in recipe:
            recipe["batch"] = min(CPU_BATCH, recipe["batch"])  # a batch of ImageNet's size would not fit in memory
    seeds = block["seeds"]
    block |= {"seeds": [seeds["start"]] if isinstance(seeds, dict) else seeds[:1]}
    block |= {"meaningless": True, "scale": "none", "samples": 1, "receptive": None}
    block |= {"title": f"Rehearsal of {name}: its numbers mean nothing", "judges": "Nothing: this was a rehearsal."}
    return {"tier": name, "execution": params["execution"], "tiers": {name: block}}


def rehearse(params: Params, name: str) -> int:
    """Run the rehearsal of a tier and print what it found; returns the exit status, 1 if a training failed.

    Raises InputError if a stage ended with an error, which the stage has printed.
    """
    tiers.load(params, name)
    folder = Store().root / f"rehearsal-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    try:
        folder.mkdir()
        tiers.write(shortened(params, name, folder / "data"), folder / "params.yaml")
        for part in STAGES:
            print(f"rehearsal of {name}: {part}", flush=True)
            _stage(part, folder)
        return _told(folder / "reports" / name, name, time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stage(name: str, folder: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("STUDY_", "MLFLOW_TRACKING"))}
    environment |= {"PYTHONPATH": str(ROOT), "STUDY_STORE": str(folder / "runs"), "GIT_DIR": os.devnull}
    ended = subprocess.run([sys.executable, "-m", f"pipelines.{name}"], cwd=folder, env=environment)
    if ended.returncode:
        raise InputError(f"stage {name} of the rehearsal failed with status {ended.returncode}; its error is above")


def _told(reports: Path, name: str, seconds: float) -> int:
    """Print what was rehearsed, what failed and why, and the time and memory; returns the exit status."""
    plan = read(reports / "plan.json", PlanFile)
    results = {key: reports / "results" / key for key in plan["trainings"]}
    results |= {key: reports / "examined" / key for key in plan["evaluations"]}
    failed, peak, gpu, has = 0, 0.0, 0.0, 0.0
    for key, folder in results.items():
        told = plan["trainings"].get(key) or plan["evaluations"][key]
        what = named(told)
        if (folder / "failed.json").is_file():
            failed += 1
            print(f"  FAILED  {what}: {json.loads((folder / 'failed.json').read_text())['reason']}")
        elif not (folder / "counts.npz").is_file():
            failed += 1
            print(f"  FAILED  {what}: it has no result (was the code edited during the rehearsal?)")
        else:
            result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else {}
            peak = max(peak, result.get("peak_memory_mb") or 0)
            if (result.get("peak_gpu_memory_mb") or 0) > gpu:
                gpu, has = result["peak_gpu_memory_mb"], result["gpu_memory_mb"]
    if gpu and not failed:
        write_json(Store().peak(name), {"peak_mb": gpu, "memory_mb": has})  # for gpus_per_training: auto
    memory = f"{peak / 1024:.1f} GB of memory" + (f" and {gpu / 1024:.1f} GB of GPU memory" if gpu else "")
    print(
        f"rehearsal of {name}: {counted(len(plan['trainings']), 'training')} of a few steps and "
        f"{counted(len(plan['evaluations']), 'evaluation')} in {duration(seconds)}, {failed} failed; "
        f"the largest worker took {memory}"
    )
    return 1 if failed else 0
