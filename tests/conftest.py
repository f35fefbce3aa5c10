"""Fixtures for tests that run the real project in a folder of their own."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml
from filelock import FileLock

from study.config.inheritance import in_full
from study.spec.jobs import Context, Subject, TrainingJob
from study.spec.training import Training

ROOT = Path(__file__).resolve().parent.parent
# What stores of this run of the tests begin with; the processes that this one starts inherit its name.
SEED = Path(tempfile.gettempdir()) / f"study-tests-{os.environ.setdefault('STUDY_TESTS', str(os.getpid()))}"
# A shell ignores Ctrl-C for what it starts in the background, and all that this starts would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ |= {"RAY_worker_niceness": "0"}  # Ray's own, 15, leaves its workers no time beside other tests
IN_TURN = """
import runpy
for name in {}:
    try:
        runpy.run_module("pipelines." + name, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""
COPIED = ("study", "pipelines", "params.yaml", "dvc.yaml", ".dvcignore", ".gitignore")


# The files that take longest, each some minutes on two cores.
FIRST = ("test_pipeline", "test_verify", "test_docs", "test_supervise", "test_search", "test_stages", "test_faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with the most slow tests, so that none is left alone at the end. One process
    runs a whole file: its tests share what it makes for all of them."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(FIRST)), -slow[item.path]))


def _seed(store: Path) -> None:
    """Begin a store with what each would make anew, and takes seconds: the tables of MLflow's database, with nothing in
    them, and what was counted of the networks of the same plan by the same code."""
    SEED.mkdir(parents=True, exist_ok=True)
    with FileLock(SEED.with_suffix(".lock")):
        if not (SEED / "mlflow").exists():
            from mlflow.tracking import MlflowClient

            (SEED / "mlflow").mkdir()
            MlflowClient(f"sqlite:///{SEED / 'mlflow' / 'mlflow.db'}").search_experiments()
        shutil.copytree(SEED, store)


def _keep(path: Path) -> None:
    """Let later stores begin with this file of the cache."""
    with FileLock(SEED.with_suffix(".lock")):
        (SEED / "cache").mkdir(exist_ok=True)
        shutil.copy(path, SEED / "cache")


def pytest_sessionfinish(session: pytest.Session) -> None:
    _end_forking()
    if not hasattr(session.config, "workerinput"):  # the process that drives the others, or the only one
        shutil.rmtree(SEED, ignore_errors=True)
        SEED.with_suffix(".lock").unlink(missing_ok=True)


@functools.cache
def _forking() -> subprocess.Popen[str]:
    """The process of warm.py that serves this one, and ends with it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": ""}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "tools" / "warm.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environment,
    )  # fmt: skip


def _warm(command: dict[str, Any], timeout_s: float) -> int:
    """Exit status of a process of warm.py. Raises TimeoutError, once it is killed."""
    served = _forking()
    assert served.stdin is not None and served.stdout is not None
    served.stdin.write(json.dumps(command) + "\n")
    served.stdin.flush()
    process = int(served.stdout.readline())
    late = threading.Timer(timeout_s, os.kill, (process, signal.SIGKILL))
    late.start()
    try:
        code = int(served.stdout.readline())
    except BaseException:  # the test is out of time: its answer is nobody's, and the next begins anew
        os.kill(process, signal.SIGKILL)
        _end_forking()
        raise
    finally:
        expired = not late.is_alive()
        late.cancel()
    if expired:
        raise TimeoutError(f"{command['argv']} took longer than {timeout_s} s")
    return code


def _end_forking() -> None:
    if _forking.cache_info().currsize:
        with _forking() as served:  # which closes its input, and waits for its end
            served.kill()
        _forking.cache_clear()


class Project:
    """A copy of the project with a tiny tier: ``run`` a command in it, ``edit`` its params.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():  # with what Python has compiled: the copies keep the times of the files
                shutil.copytree(source, folder / name)
            else:
                shutil.copy(source, folder / name)
        _seed(folder / "runs")
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        # Neither the user's own store nor the words of the `make` that runs the tests.
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("STUDY_", "MLFLOW_TRACKING", "MAKE", "MFLAGS"))
        }
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        }  # fmt: skip
        self.params = in_full(yaml.safe_load((folder / "params.yaml").read_text()))
        self.params["tier"] = "smoke"
        self.params["execution"] |= {"engine": "inline", "device": "cpu"}
        smoke = self.params["tiers"]["smoke"]
        smoke |= {"tables": ["T5"], "controls": {}, "mechanisms": {}}
        smoke["data"] |= {"train": 8, "tune": 2, "val": 4}
        smoke["recipe"] |= {"steps": 4, "batch": 4}
        self.save()

    @property
    def tier(self) -> dict:
        return self.params["tiers"]["smoke"]

    def save(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params, sort_keys=False))

    def run(self, *command: str, check: bool = True, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder; its output is in the error when it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def python(self, *arguments: str, check: bool = True, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """As ``run`` of Python with ``-m`` or ``-c``, by a process that needs to import next to nothing."""
        outputs = [str(self.folder.with_name(f"{self.folder.name}.{name}")) for name in ("stdout", "stderr")]
        code = _warm(
            {"argv": arguments, "folder": str(self.folder), "environment": self.environment, "outputs": outputs},
            timeout_s,
        )
        said = [Path(path).read_text(encoding="utf-8") for path in outputs]
        if check and code:
            raise AssertionError(f"{arguments} ended with {code}:\n{said[0]}\n{said[1]}")
        return subprocess.CompletedProcess(arguments, code, *said)

    def stages(self, *names: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run stages one after the other, in one process (see ``python``)."""
        done = self.python("-c", IN_TURN.format(names), check=check)
        for path in (self.folder / "runs" / "cache").glob("networks-*.json"):
            _keep(path)
        return done

    def repository(self) -> None:
        """Make the folder a Git and DVC repository."""
        self.run("git", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "start")

    @property
    def reports(self) -> Path:
        return self.folder / "reports" / "smoke"

    def runs(self) -> dict[str, float]:
        """Key -> when it was done, of every run that is done."""
        return {path.parent.name: path.stat().st_mtime for path in (self.folder / "runs").glob("*/DONE")}


def listening(pid: int) -> set[str]:
    """The addresses on which a process and its children wait for TCP connections."""
    first = psutil.Process(pid)
    sockets = [place for one in (first, *first.children(recursive=True)) for place in one.net_connections("inet")]
    return {place.laddr.ip.removeprefix("::ffff:") for place in sockets if place.status == psutil.CONN_LISTEN}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Bucket(NamedTuple):
    """A bucket of a server that speaks S3 on this machine: what DVC and MLflow take to reach it."""

    address: str
    endpoint: str
    variables: dict[str, str]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    variables = keys | {"MLFLOW_S3_ENDPOINT_URL": endpoint}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in keys.items():
                patch.setenv(name, value)
            boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="study")
        yield Bucket("s3://study", endpoint, variables)
    finally:
        server.stop()


def made_up_facts(fingerprint: str) -> dict[str, Any]:
    """The facts of a data set that nobody read."""
    return {"name": "shapes", "task": "segment", "classes": ["a", "b"], "splits": {"train": 9, "tune": 3, "val": 3},
            "size": [64, 64], "fingerprint": fingerprint, "images_with": [9, 9], "pixels": [99, 99], "listed": {},
            "notes": [], "groups": None, "streamed": False, "frequent": None}  # fmt: skip


def training_job(
    key: str,
    training: Training,
    facts: dict[str, Any],
    store: Path,
    *,
    root: Path | None = None,
    labels: dict[str, Any] | None = None,
    **context: Any,
) -> TrainingJob:
    """The job of a training on the CPU, with a checkpoint after every step unless ``context`` says otherwise."""
    shared = Context(store, "cpu", **{"checkpoint_s": 0.0, "samples": 1} | context)
    return TrainingJob(Subject(key, training, facts, root=root), shared, labels or {})
