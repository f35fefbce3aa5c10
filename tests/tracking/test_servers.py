"""MLflow on a real PostgreSQL and on a real MLflow server: contents, messages when they fail, and secrets."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from study.commands.serve import replay, ui
from study.config.mlflow_address import GENERAL, VARIABLE, Place, Unreachable, place
from study.spec.errors import InputError
from study.store.runs import Store
from study.tracking import mlflow_access
from tests.conftest import Project
from tests.tracking.test_mlflow_runs import _plan, _replay, content, log

PASSWORD = "s3cr3t"


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the server settings that the person who runs the tests may have."""
    for name in (VARIABLE, GENERAL, "STUDY_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)


def test_study_tracking_outranks_params_and_mlflows_variable(alone, tmp_path, monkeypatch):
    store = Store(tmp_path)
    local = place({}, store)
    assert local.uri == f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}" and local.experiment("smoke") == "smoke"
    monkeypatch.setenv(GENERAL, "http://general:1")
    assert place({}, store).uri == "http://general:1"
    params = {"tracking": {"server": "postgresql://me@team/mlflow", "artifacts": None, "name": "ours"}}
    named = place(params, store)
    assert (named.uri, named.experiment("smoke")) == ("postgresql://me@team/mlflow", "ours smoke")
    assert named.artifacts == (tmp_path / "mlflow" / "artifacts").as_uri(), "a database keeps no files"
    monkeypatch.setenv(VARIABLE, f"https://me:{PASSWORD}@mine")
    mine = place(params, store)
    assert (mine.named, mine.shown, mine.artifacts) == (VARIABLE, "https://mine", None)
    assert PASSWORD not in mine.hidden(f"no {mine.uri} and no {PASSWORD}")


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{PASSWORD}@team/mlflow",
        f"postgresql://team/mlflow?user=me&password={PASSWORD}",
        f"https://{PASSWORD}@team",
        f"postgresql://me:{PASSWORD}@team:five/mlflow",
        f"mssql://me:{PASSWORD}@team/mlflow",
        f"postgresql://me:{PASSWORD}/x@team/mlflow",
    ],
)
def test_passwords_in_params_are_rejected_and_hidden(alone, tmp_path, address):
    with pytest.raises(InputError, match=r"tracking\.server must") as refused:
        place({"tracking": {"server": address}}, Store(tmp_path))
    assert PASSWORD not in str(refused.value)


@pytest.mark.slow
def test_buckets_store_pictures_as_folders_do(alone, bucket, tmp_path, monkeypatch):
    import boto3

    for name, value in bucket.variables.items():
        monkeypatch.setenv(name, value)
    plan = _plan(tmp_path)
    _replay(tmp_path, plan)
    monkeypatch.setenv("STUDY_ARTIFACTS", f"{bucket.address}/mlflow")
    tracker = mlflow_access.opened(place({}, Store(tmp_path / "store")), "smoke")
    log(tracker, tmp_path, plan)
    client = boto3.client("s3", endpoint_url=bucket.endpoint)
    there = {file["Key"].split("/", 2)[2]: file["Size"] for file in client.list_objects_v2(Bucket="study")["Contents"]}
    folder = tmp_path / "mlflow" / "artifacts"
    here = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sorted(size for size in there.values()) == sorted(here.values()) and len(here) > 4


def test_an_absent_server_is_reported_in_one_line(alone, tmp_path):
    at = Place(f"postgresql://me:{PASSWORD}@127.0.0.1:{_port()}/mlflow", None, "", VARIABLE)
    with pytest.raises(Unreachable, match=r"MLflow's database must answer, got .*refused.*STUDY_TRACKING") as told:
        mlflow_access.opened(at, "smoke")
    assert PASSWORD not in str(told.value) and "\n" not in str(told.value)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server with a password, run by an unprivileged user as PostgreSQL demands."""
    places = os.pathsep.join((os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))))  # Debian's
    programs = [shutil.which(name, path=places) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL's server is not installed (initdb, pg_ctl)")
    initdb, pg_ctl = programs
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), _port()
    (folder / "password").write_text(PASSWORD)
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody", "nogroup")
    quiet = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL} | other
    data, start = str(folder / "data"), f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    made = [initdb, "-D", data, "-U", "study", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-N"]
    subprocess.run(made, **quiet)
    control = [pg_ctl, "-D", data, "-w", "-t", "200"]
    try:
        subprocess.run([*control, "-l", str(folder / "log"), "-o", start, "start"], **quiet)
        yield f"postgresql://study:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **(quiet | {"check": False}))
        shutil.rmtree(folder)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of an MLflow server, and its process."""
    base = f"http://127.0.0.1:{(port := _port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "kept")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    kept |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes
    process = subprocess.Popen(command, env=kept, cwd=tmp_path, **quiet)
    try:
        end = time.monotonic() + 250
        while True:
            try:
                urllib.request.urlopen(f"{base}/health", timeout=20).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.5)
        yield base, process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_postgresql_holds_the_same_as_sqlite(alone, postgres, tmp_path):
    plan = _plan(tmp_path)
    _replay(tmp_path, plan)
    at = Place(postgres, (tmp_path / "pictures").as_uri(), "", VARIABLE)
    log(mlflow_access.opened(at, "smoke"), tmp_path, plan)
    found = content(tmp_path, postgres)
    assert found == content(tmp_path)
    before = mlflow_access.opened(at, "smoke").links()
    log(mlflow_access.opened(at, "smoke"), tmp_path, plan)
    assert mlflow_access.opened(at, "smoke").links() == before and content(tmp_path, postgres) == found
    wrong = at._replace(uri=postgres.replace(PASSWORD, "wr0ng"))
    with pytest.raises(Unreachable, match="password authentication failed") as told:
        mlflow_access.opened(wrong, "smoke")
    assert "wr0ng" not in str(told.value)
    missing = next(name for name in ("pg8000", "psycopg2", "asyncpg") if not find_spec(name))
    with pytest.raises(Unreachable, match=f"{missing}.*install the driver into"):
        mlflow_access.opened(at._replace(uri=postgres.replace("postgresql", f"postgresql+{missing}")), "smoke")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_losing_the_server_loses_no_result(alone, project: Project, server, monkeypatch, capsys):
    shutil.rmtree(project.folder / "runs" / "mlflow")  # every test's store begins with it
    base, process = server
    gone = f"http://{getpass.getuser()}:{PASSWORD}@127.0.0.1:{_port()}"
    project.environment["STUDY_TRACKING"] = gone
    refused = project.stages("data", "plan", "ablate", check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("error: MLflow's server must answer")
    assert len(refused.stderr.splitlines()) == 1 and project.runs() == {}, "told before anything was trained"

    project.environment["STUDY_TRACKING"] = base
    project.stages("ablate", "evaluate", "tune")
    project.environment["STUDY_TRACKING"] = gone  # between two stages
    behind = project.stages("score")
    assert "is behind" in behind.stderr and "`make replay TIER=smoke` catches up" in behind.stderr
    found = json.loads((project.reports / "provenance.json").read_text())["runs"].values()
    assert {run["mlflow"] for run in found} == {None}
    told = refused.stderr + behind.stdout + behind.stderr
    written = b"".join(path.read_bytes() for path in project.reports.rglob("*") if path.is_file())
    assert PASSWORD not in told and PASSWORD.encode() not in written

    monkeypatch.setenv(VARIABLE, base)
    monkeypatch.chdir(project.folder)
    replay(None)
    tracker = mlflow_access.opened(Place(base, None, "", VARIABLE), "smoke")
    assert tracker.links().keys() == project.runs().keys() and not tracker.empty()
    capsys.readouterr()
    ui(None, "127.0.0.1", "5000")
    assert capsys.readouterr().out == f"MLflow UI: {tracker.url(base)}\n", "the server's page, and none of our own"
    assert not (project.folder / "runs" / "mlflow" / "mlflow.db").exists()

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _end(process)  # with an experiment open
    with mlflow_access.kept(Place(base, None, "", VARIABLE), "smoke"):
        tracker.sweep()
        raise AssertionError("nobody answers")
    assert "is behind" in capsys.readouterr().err
