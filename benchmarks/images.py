"""10,000 images with masks of 256 labels: seconds and memory of preview, the stage data and the plan.

    python -m benchmarks.images                    # 10,000 images of 64x64
    python -m benchmarks.images --images 1000      # a tenth, to see what grows faster than the number of images

Times are core seconds, so that other work on the machine matters little. Memory is the peak of one process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.preview import folder_block
from study.config import tiers
from study.store.code_digest import ROOT

CLASSES, SIZE = 255, (64, 64)  # and void: all that 8 bits can hold
MEMORY_MB = 1536.0


def lay(folder: Path, number: int) -> None:
    """Write images of noise, with masks that contain every label."""
    draw = np.random.default_rng(0)
    every = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for place in range(number):
        picture, labels = draw.integers(0, 256, (*SIZE, 3), np.uint8), np.roll(every, place, 1)
        for kind, content in (("images", picture), ("masks", labels)):
            Image.fromarray(content).save(folder / kind / f"{place:06d}.png", compress_level=1)


def measured(name: str, command: list[str], folder: Path, store: Path) -> bool:
    """Run a command and print its time and memory. Returns whether the memory is as promised."""
    environment = os.environ | {"STUDY_STORE": str(store), "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed\n{said}")
    peak = used.ru_maxrss / 1024
    kept = peak <= MEMORY_MB
    print(
        f"{name:14} {used.ru_utime + used.ru_stime:6.1f} s of cores ({time.monotonic() - began:.1f} s by the clock), "
        f"{peak:,.0f} MB (promised: at most {MEMORY_MB:,.0f}){'' if kept else ': NO'}",
        flush=True,
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    arguments, kept = parser.parse_args(), True
    with tempfile.TemporaryDirectory(prefix="images-") as name:
        folder, store = Path(name), Path(name) / "runs"
        lay(folder / "photographs", arguments.images)
        network = {"backbone": "shallow", "levels": ["res3", "res4"], "frozen": False, "output_stride": 4,
                   "options": {"widths": [8, 16, 16], "strides": [2, 4, 8]}}  # fmt: skip
        block = folder_block(folder / "photographs", SIZE, CLASSES, network=network)
        params: dict[str, Any] = dict(tiers.read()) | {"tier": "many", "tune": False}
        params["tiers"] = params["tiers"] | {"many": block}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        study: Callable[..., list[str]] = lambda *words: [sys.executable, "-m", "study", *words]  # noqa: E731
        for what, command in {
            "preview": study("preview", "many"),
            "preview --all": study("preview", "many", "--all"),
            "data": [sys.executable, "-m", "pipelines.data"],
            "data again": [sys.executable, "-m", "pipelines.data"],
            "plan": [sys.executable, "-m", "pipelines.plan"],
            "preview then": study("preview", "many"),
        }.items():
            kept &= measured(what, command, folder, store)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
