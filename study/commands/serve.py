"""`study ui`, `replay` and `dashboard`: pages of MLflow and Optuna, for this machine only unless a host is given."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from pathlib import Path

from study.config import tiers
from study.config.mlflow_address import place
from study.spec.errors import InputError
from study.store import stage
from study.store.runs import Store


def ui(tier: str | None, host: str, port: str) -> None:
    """Serve the MLflow UI on the project's database, for this machine only unless a host is given. If MLflow is a
    server, print its page instead."""
    from study.tracking import mlflow_access, rebuild

    params = tiers.read()
    name, at = tiers.load(params, tier).name, place(params, Store())
    if not at.served:
        can_listen(host, port)
    tracker = mlflow_access.opened(at, name)
    if tracker.empty() and (Path("reports") / name / "scores.csv").is_file():
        print(f"rewriting the runs of {name} to {at.shown}", flush=True)
        tracker = rebuild.whole(at, name)
    tracker.report(stage.folder(name) / "report.pdf")
    if at.served:
        print(f"MLflow UI: {tracker.url(at.shown)}")
        return
    base = f"http://{host}:{port}"
    print(f"MLflow UI: {tracker.url(base)}\nstop it with Ctrl-C", flush=True)
    server = ["-m", "mlflow", "server", "--host", host, "--port", port, "--workers", "1"]
    server += ["--no-serve-artifacts", "--default-artifact-root", str(at.artifacts)]
    # Not as an argument, which every user could see. Job execution would take a GB of memory.
    own = {"MLFLOW_BACKEND_STORE_URI": at.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, [sys.executable, *server], os.environ | own)


def replay(tier: str | None) -> None:
    """Write a tier's trainings, cells and report to MLflow, unless they are there already."""
    from study.tracking import rebuild

    params = tiers.read()
    name, at = tiers.load(params, tier).name, place(params, Store())
    rebuild.whole(at, name)
    print(f"MLflow at {at.shown} has the runs of {name}")


def dashboard(tier: str | None, host: str, port: str) -> None:
    """Serve the Optuna dashboard on the tier's study, for this machine only unless a host is given."""
    name = tiers.load(tiers.read(), tier).name
    can_listen(host, port)
    log = Store().study_log(name)
    if not log.is_file():
        raise InputError(f"a tier has a study once it has run, but {log} is missing; run `make repro TIER={name}`")
    command = Path(sys.executable).with_name("optuna-dashboard")
    os.execv(command, [str(command), str(log), "--host", host, "--port", port])


def can_listen(host: str, port: str) -> None:
    """Raises InputError unless a server can listen at ``host`` and ``port``. The server itself would print many lines,
    after a link to whatever program listens there."""
    if not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise InputError(f"PORT must be a whole number from 1 to 65535, got {port!r}; name one with PORT=...")
    wrong = f"HOST must be an address of this machine, got {host!r} ({{}}); name one with HOST=..."
    try:
        if not host:
            raise OSError("nothing")  # sockets take an empty host for every address
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(wrong.format(error)) from error
    failed: list[OSError] = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ignores ended connections
                tried.bind(address)
        except OSError as error:
            failed.append(error)
    if any(error.errno == errno.EADDRINUSE for error in failed):
        raise InputError(
            f"PORT must be free (or the link would open another program), got {port} of {host}, which is in use; name "
            "another with PORT=..."
        )
    if any(error.errno == errno.EACCES for error in failed):
        raise InputError(
            f"PORT must be one that you may use (without root, 1024 or more), got {port}; name another with PORT=..."
        )
    if len(failed) == len(found):  # if a name has several addresses, one is enough
        raise InputError(wrong.format(failed[-1].strerror))
