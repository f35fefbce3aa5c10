"""Random faults, several per minute, in real ablations that share one run store; then proof that nothing was lost.

    python -m benchmarks.storm                       # 5 minutes of faults: each kind strikes about once
    python -m benchmarks.storm --minutes 10 --seed 7

First a small plan is trained undisturbed, in the calling process of a driver, into a store of its own. Then two drivers
with Ray workers train the same plan into a second store. Meanwhile workers and drivers are killed, preempted, stopped
and hung, files are damaged, the tracker's database is locked or deleted and, as root, the disk is full for a while:
each kind once in random order, then each again. At the end each planned training must be there exactly once, with the
counts of the undisturbed run to the last integer, one finished MLflow run and a completed trial, and nothing may still
be running.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("study", "pipelines", "params.yaml", "dvc.yaml")
DISK_BYTES = 1 << 30  # of the store's own file system, if root can mount one
PAUSE_S = (2.0, 7.0)  # between two faults
PATIENCE_S = 60.0  # wait for what a fault needs, such as a running training


class Storm:
    """Two drivers of one plan in ``folder`` and the faults that can hit them. ``counted`` is how often each fault
    struck."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.store, self.random = folder, folder / "store", random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.deck: list[str] = []  # the faults to come, each kind once, in random order; the last one is next
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.held: list[tuple[float, Callable[[], object]]] = []  # when a fault ends, and the call that ends it
        self.faults: dict[str, Callable[[], bool]] = {
            "SIGKILL of a worker": lambda: self._signal_worker(signal.SIGKILL),
            "preemption of a worker (SIGTERM)": lambda: self._signal_worker(signal.SIGTERM),
            "a hung worker (SIGSTOP)": lambda: self._signal_worker(signal.SIGSTOP),
            "SIGKILL of a driver": lambda: self._signal_driver(signal.SIGKILL),
            "SIGTERM to a driver": lambda: self._signal_driver(signal.SIGTERM),
            "Ctrl-C to a driver": lambda: self._signal_driver(signal.SIGINT),
            "SIGKILL of a node (its raylet)": self._kill_node,
            "SIGKILL of everything": self._kill_all,
            "a checkpoint with a flipped bit": lambda: self._damage("checkpoint.pt", self._flip),
            "a truncated checkpoint": lambda: self._damage("checkpoint.pt", self._cut),
            "counts with a flipped bit": lambda: self._damage("counts.npz", self._flip),
            "a locked MLflow database": self._lock_database,
            "a deleted MLflow database": self._delete_database,
        }
        if self.store.is_mount():
            self.faults["a full disk"] = self._fill_disk

    def start(self, number: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"driver-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipelines.ablate"], cwd=self.folder / f"clone-{number}", stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, env=environment(self.store),
            )  # fmt: skip

    def blow(self, minutes: float) -> None:
        """Inject faults, and restart each driver that ends."""
        self.drivers = [self.start(number) for number in range(2)]
        end, told, waiting = time.monotonic() + 60 * minutes, 0.0, 0.0
        while (now := time.monotonic()) < end:
            time.sleep(self.random.uniform(*PAUSE_S))
            if not self.deck:
                self.deck = self.random.sample(list(self.faults), len(self.faults))
            waiting = waiting or now  # since when the next fault has waited
            if (struck := self.faults[self.deck[-1]]()) or now - waiting > PATIENCE_S:
                self.counted[self.deck.pop()] += struck
                waiting = 0.0
            for until, ending in [entry for entry in self.held if entry[0] <= now]:
                ending()
                self.held.remove((until, ending))
            for number, driver in enumerate(self.drivers):
                if driver.poll() is not None:
                    if driver.returncode == 0:  # all is trained: make it do some again
                        self._forget_some()
                    self.drivers[number] = self.start(number)
            if now - told > 20:
                told = now
                print(f"  {sum(self.counted.values())} faults, {(end - now) / 60:.1f} min left", flush=True)

    def calm(self) -> None:
        """End all faults, then let one driver finish alone. Raises RuntimeError if it does not."""
        for _, ending in self.held:
            ending()
        for driver in self.drivers:
            _kill_session(driver.pid)
            driver.wait()
        done = self.start(0).wait()
        if done:
            raise RuntimeError(f"the last driver ended with {done}; see {self.folder / 'driver-0.log'}")

    def _workers(self) -> list[int]:
        found = [read(path) for path in self.store.glob("*/progress.json") if not (path.parent / "DONE").exists()]
        return [said["pid"] for said in found if said and _command(said["pid"]).startswith("ray::")]

    def _signal_worker(self, number: signal.Signals) -> bool:
        workers = self._workers()
        return bool(workers) and _send(self.random.choice(workers), number)

    def _signal_driver(self, number: signal.Signals) -> bool:
        return _send(self.random.choice(self.drivers).pid, number)

    def _kill_node(self) -> bool:
        raylets = [pid for pid in _processes() if "raylet/raylet" in _command(pid) and _ours(pid, self.drivers)]
        return bool(raylets) and _send(self.random.choice(raylets), signal.SIGKILL)

    def _kill_all(self) -> bool:
        for driver in self.drivers:
            _kill_session(driver.pid)
        return True

    def _damage(self, name: str, how: Callable[[bytearray], bytearray]) -> bool:
        """Damage a file in place, as a disk would: it is not a new file."""
        files = sorted(self.store.glob(f"*/{name}"))
        if not files:
            return False
        path = self.random.choice(files)
        try:
            path.write_bytes(how(bytearray(path.read_bytes())))
        except OSError:  # it is gone by now, or the disk is full
            return False
        return True

    def _flip(self, content: bytearray) -> bytearray:
        if content:
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        return content

    def _cut(self, content: bytearray) -> bytearray:
        return content[: len(content) // 2]

    def _lock_database(self) -> bool:
        database = self.store / "mlflow" / "mlflow.db"
        database.parent.mkdir(exist_ok=True)
        locked = sqlite3.connect(database, timeout=0.1)  # creates an empty one if there is none
        try:
            locked.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            locked.close()
            return False
        self.held.append((time.monotonic() + 8, locked.close))
        return True

    def _delete_database(self) -> bool:
        found = list((self.store / "mlflow").glob("mlflow.db*"))
        for path in found:
            path.unlink(missing_ok=True)
        return bool(found)

    def _fill_disk(self) -> bool:
        filler = self.store / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.store).free - (64 << 10)))
        self.held.append((time.monotonic() + 8, filler.unlink))
        return True

    def _forget_some(self) -> None:
        keys = sorted(path.parent for path in self.store.glob("*/DONE"))
        for folder in self.random.sample(keys, min(4, len(keys))):
            (folder / "DONE").unlink(missing_ok=True)


def environment(store: Path) -> dict[str, str]:
    own = {"STUDY_STORE": str(store), "PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    return os.environ | own


def read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ours(pid: int, drivers: list[subprocess.Popen[bytes]]) -> bool:
    try:
        return os.getsid(pid) in {driver.pid for driver in drivers}
    except OSError:
        return False


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def _kill_session(leader: int) -> None:
    for pid in _processes():
        try:
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def prepare(folder: Path, steps: int) -> None:
    """Make two clones of this project with the small plan, and train the reference into ``folder/reference``."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["tier"] = "smoke"
    smoke = params["tiers"]["smoke"]
    smoke |= {"tables": ["T1", "T5"], "controls": {}, "mechanisms": {}}
    smoke["data"] |= {"train": 64, "tune": 8, "val": 16}
    smoke["recipe"] |= {"steps": steps, "batch": 8}
    params["execution"] |= {"engine": "inline", "device": "cpu"}
    for clone in ("clone-0", "clone-1"):
        for name in COPIED:
            source, target = ROOT / name, folder / clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        (folder / clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for stage in ("data", "plan", "ablate"):
        run(folder / "clone-0", stage, folder / "reference")
    shutil.move(folder / "clone-0" / "reports" / "smoke" / "results", folder / "expected")
    params["execution"] |= {"engine": "ray", "workers": 2, "checkpoint_s": 1, "retries": 20, "hung_s": 20}
    for clone in ("clone-0", "clone-1"):
        (folder / clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        for stage in ("data", "plan"):
            run(folder / clone, stage, folder / "store")


def run(folder: Path, stage: str, store: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", f"pipelines.{stage}"], cwd=folder, check=True, env=environment(store),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def proof(folder: Path) -> list[str]:
    """What is wrong after the storm; empty if all is well."""
    import optuna
    from mlflow.tracking import MlflowClient
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    wrong, results = [], folder / "clone-0" / "reports" / "smoke" / "results"
    planned = read(folder / "clone-0" / "reports" / "smoke" / "plan.json")["trainings"]
    there = {path.name for path in results.iterdir() if path.is_dir()}
    if there != set(planned):
        wrong.append(f"the {len(planned)} planned trainings must have been collected, got {len(there)}")
    for key in planned:
        for file in ("counts.npz", "tune.npz"):
            with np.load(results / key / file) as mine, np.load(folder / "expected" / key / file) as known:
                if mine.files != known.files or any((mine[name] != known[name]).any() for name in known.files):
                    wrong.append(f"{key[:12]}: {file} must be that of the undisturbed run, got another")
    store = folder / "store"
    client = MlflowClient(f"sqlite:///{store / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("smoke")
    assert experiment is not None, "the last driver makes it"
    runs = client.search_runs([experiment.experiment_id], "tags.`study.kind` = 'training'", max_results=1000)
    told = Counter((run.data.tags["study.key"], run.info.status) for run in runs)
    if told != Counter((key, "FINISHED") for key in planned):
        wrong.append(f"MLflow must have one finished run per training, got {told}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name="smoke", storage=JournalStorage(JournalFileBackend(str(store / "optuna" / "smoke.log")))
    )
    trials = {trial.user_attrs["run"] for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])}
    if trials != set(planned):  # a training that was damaged and repeated has two
        wrong.append(f"Optuna must have a completed trial for each of {len(planned)} trainings, got {len(trials)}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults (default: 0)")
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: 400)")
    arguments = parser.parse_args()
    folder, wrong = Path(tempfile.mkdtemp(prefix="storm-")), ["the storm did not finish"]
    (folder / "store").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder / "store")]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        print(f"storm in {folder}; an undisturbed run first", flush=True)
        prepare(folder, arguments.steps)
        storm = Storm(folder, arguments.seed)
        storm.blow(arguments.minutes)
        storm.calm()
        for name, times in sorted(storm.counted.items()):
            print(f"  {times:3} x {name}")
        if not mounted:
            print("    (no full disk: only root can mount one for the store)")
        wrong = proof(folder)
        print("\n".join(wrong) or "every planned training exists once, with the counts of the undisturbed run")
    finally:
        if wrong:
            print(f"everything is kept in {folder} for inspection" + (", with store/ mounted" if mounted else ""))
        elif mounted:
            subprocess.run(["umount", "-l", str(folder / "store")], check=False)
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
