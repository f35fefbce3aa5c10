"""Check a GPU: python -m study.gpu_check, or make gpu-check.

Needs torch, torchvision and numpy. Takes at most eight minutes on one GPU, and writes a table and a JSON file, each
line with its promise kept or broken. Without a GPU it runs the same code on the CPU at small sizes. The JSON of a GPU
goes to the run store, where reports and `make preview` find it. Exit status: 0 if all promises are kept, 1 if one is
broken or a check was skipped, 2 if the GPU does not work.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from study.gpu_check import endurance, loaders, numbers, promises, speed
from study.gpu_check.cases import cases
from study.spec.documents.gpu_check import FILE
from study.spec.errors import InputError
from study.store.runs import StoreError, default_root, write_json
from study.training import gpu
from study.training.device import settle

MINUTES = 8.0
GIB = 2**30


def about(device: str) -> dict[str, object]:
    """The device, and the versions that its numbers depend on."""
    if device == "cpu":
        return {"kind": "cpu", "name": "CPU", "torch": torch.__version__}
    known = torch.cuda.get_device_properties(0)
    return {
        "kind": "cuda",
        "name": known.name,
        "memory_gib": round(known.total_memory / GIB, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": gpu.driver(),
    }


def check(device: str, minutes: float = MINUTES) -> promises.Results:
    """Run all checks on ``device``, cpu or cuda."""
    began, all_cases = time.monotonic(), cases(device)
    weekend = all_cases["voc_weekend"]
    settle(device)
    results = promises.Results(about(device))
    small = cases("cpu")["voc_weekend"]
    for name, lines in {
        "numbers": lambda: numbers.modules(device),
        "numbers of a network": lambda: numbers.network(small, device),
        "counts": lambda: numbers.counts(device),
        "resuming": lambda: endurance.resume(weekend, device),
        "speed": lambda: speed.steps(all_cases, device, results),
        "memory of voc_weekend": lambda: speed.fits(weekend, device),
        "loaders": lambda: loaders.speed(weekend, device),
        "worth": lambda: loaders.worth(all_cases["voc"], device),
        "sharing": lambda: endurance.share(weekend, device),
        "memory": lambda: endurance.memory(weekend, device),
    }.items():
        promises.run(results, name, lines, 60 * minutes - (time.monotonic() - began))
        if device != "cpu":
            torch.cuda.empty_cache()
    results.seconds = round(time.monotonic() - began, 1)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help=f"JSON file (default: {FILE} in the run store)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="start no check after so many (8)")
    parser.add_argument("--only-train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and (fault := gpu.fault_of_gpu()):
        print(f"error: {fault}", file=sys.stderr)
        return 2
    if arguments.only_train:
        print(endurance.only_train(cases(device)["voc_weekend"], device))
        return 0
    # A check of the CPU must not replace that of a GPU.
    out = arguments.out or (default_root() / FILE if device == "cuda" else None)
    results = check(device, arguments.minutes)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, results.as_json())
    broken = results.broken
    judged = [line for line in results.lines if line.kept is not None]
    print(
        f"\n{results.device['name']}, torch {torch.__version__}: {len(judged) - len(broken)} of {len(judged)} promises "
        f"kept, {results.skipped} checks skipped, in {results.seconds:.0f} s{f'; {out}' if out else ''}"
    )
    return 1 if broken or results.skipped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, StoreError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
