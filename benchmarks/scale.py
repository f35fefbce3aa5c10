"""Thousands of trainings on many workers: the cost of the driver, the tracker and the report, as ratios to promises.

    python -m benchmarks.scale                              # 10,000 trainings on 64 workers
    python -m benchmarks.scale --cells 500 --seconds 1      # a minute

Every stage of the pipeline runs as it is, in a folder of its own: plan, run store, Optuna's study, MLflow's database
and the report are real. Only the trainings are not: they sleep (half to one and a half of ``--seconds``) in worker
processes that are used again, and write small products. Measured are: planning; the driver's CPU time per training,
without imports and catching up with MLflow; the share of time in which workers are busy, from the first start to the
last; the driver's memory; and the time of the MLflow server for the page of runs, and of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml

from benchmarks.sleepers import Sleepers
from study.ablation.queue import Engine
from study.config import tiers
from study.config.execution import Execution
from study.spec.documents.data import Facts
from study.store import stage
from study.store.code_digest import ROOT
from study.store.runs import Store

TIER, TABLES = "smoke", ["T1", "T2", "T3", "T4", "T5", "T6"]
PLANNING_S, DRIVER_MS, BUSY, MEMORY_MB = 5.0, 10.0, 0.95, 1024.0
PAGE = 100  # runs that the UI requests at a time


def configure(cells: int, workers: int, folder: Path) -> int:
    """Write params.yaml for at least ``cells`` trainings to ``folder``. Returns their number for one seed."""
    from study.plan import planner

    params = tiers.read()
    params["tier"] = TIER
    params.pop("tune", None)
    params["execution"] |= {"workers": workers, "device": "cpu"}
    block: dict[str, Any] = params["tiers"][TIER]
    block |= {"tuning": None, "tables": TABLES, "meaningless": False, "scale": "mechanism", "receptive": None}
    chosen = tiers.load(params)
    facts = {name: cast(Facts, {"fingerprint": name}) for name in chosen.settings}
    each = len(planner.build(chosen, facts, "cpu").trainings)
    block["seeds"] = list(range(-(-cells // each)))
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return each


def timed(name: str, function: Callable[[], Any]) -> float:
    """Call ``function``; print and return the seconds that it took."""
    began = time.monotonic()
    function()
    took = time.monotonic() - began
    print(f"  {name}: {took:.1f} s", flush=True)
    return took


def _stage(name: str) -> float:
    """Seconds of a stage in its own process, from start to end."""
    command = [sys.executable, "-m", f"pipelines.{name}"]
    return timed(f"stage {name}", lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def promise(name: str, value: float, limit: float, unit: str, least: bool = False) -> None:
    """Print a value next to its promised limit."""
    kept = value >= limit if least else value <= limit
    bound = "at least" if least else "at most"
    said = "" if kept else ": NO"
    ratio = f"{value / limit:.2f} of the promise ({bound} {limit:g})"
    print(f"{name}: {value:.4g} {unit}, {ratio}{said}", flush=True)


def busy(spans: list[tuple[float, float]], workers: int) -> float:
    """The share of worker time that trainings used, from the first start to the last."""
    first, last = min(began for began, _ in spans), max(began for began, _ in spans)
    return sum(min(ended, last) - began for began, ended in spans) / (workers * (last - first))


def ablate(workers: int, seconds: float) -> None:
    """Run the stage on sleeping workers, then again with nothing left to train, and print the times."""
    from pipelines import ablate

    engines: list[Sleepers] = []

    def open_engine(function: Callable[[Any], Any], execution: Execution) -> Engine:
        engines.append(Sleepers(workers, seconds))
        return engines[-1]

    began = time.monotonic()
    ablate.main(open_engine)
    wall, spans = time.monotonic() - began, engines[0].spans
    last = max(ended for _, ended in spans)
    first = min(begun for begun, _ in spans)
    print(f"  ablate: {wall:.1f} s; {first - began:.1f} s before the first training, {began + wall - last:.1f} s after "
          f"the last")  # fmt: skip
    promise("driver, CPU time per training", 1000 * engines[0].cpu_s / len(spans), DRIVER_MS, "ms")
    promise("workers busy", busy(spans, workers), BUSY, "of their time", least=True)
    promise("driver, peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, MEMORY_MB, "MB")
    timed("ablate again, nothing left to train", lambda: ablate.main(open_engine))


def serve(database: Path) -> None:
    """Send the MLflow server the first requests of its UI, and print the seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    command += ["--backend-store-uri", f"sqlite:///{database.resolve()}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow"
    try:
        while not _up(f"http://127.0.0.1:{port}/health"):
            if server.poll() is not None:
                sys.exit("error: the MLflow server must start to be measured, but it exited")
            time.sleep(0.2)
        name = json.loads(_ask(f"{base}/experiments/get-by-name?experiment_name={TIER}"))
        experiment = name["experiment"]["experiment_id"]
        for kind, order in (("cell", "tags.`study.place` ASC"), ("training", "metrics.`val/miou` DESC")):
            asked: dict[str, Any] = {"experiment_ids": [experiment], "filter": f"tags.`study.kind` = '{kind}'"}
            asked |= {"max_results": PAGE, "order_by": [order]}
            for _ in range(2):
                timed(f"MLflow server, first {PAGE} runs ({kind}s)", partial(_ask, f"{base}/runs/search", asked))
    finally:
        server.terminate()
        server.wait()


def _up(url: str) -> bool:
    try:
        return bool(_ask(url))
    except (urllib.error.URLError, ConnectionError):
        return False


def _ask(url: str, content: dict[str, Any] | None = None) -> bytes:
    data = None if content is None else json.dumps(content).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=300) as answer:
        return answer.read()


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run every stage in ``folder`` and print the times."""
    each = configure(arguments.cells, arguments.workers, folder)
    os.environ |= {"STUDY_STORE": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    os.chdir(folder)
    seeds = -(-arguments.cells // each)
    print(f"{seeds} seeds of {each} trainings on {arguments.workers} workers, of {arguments.seconds:g} s each")
    _stage("data")
    promise("planning", _stage("plan"), PLANNING_S, "s")
    ablate(arguments.workers, arguments.seconds)
    for name in ("evaluate", "score", "report"):
        _stage(name)
    serve(Store().tracking_database)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, help="trainings; sets the number of seeds")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="mean length of a training")
    parser.add_argument("--folder", type=Path, default=None, help="where to work and keep all (default: nowhere)")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        measure(arguments, arguments.folder.resolve())
        return
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments, Path(temporary))


if __name__ == "__main__":
    sys.exit(stage.run(main))
