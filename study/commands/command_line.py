"""Thin commands behind make: ``python -m study COMMAND``."""

from __future__ import annotations

import argparse
import errno
import os
import re
import socket
import sys
import time
from pathlib import Path

from study.ablation import progress
from study.config import git_state, tiers
from study.config.execution import execution_of
from study.config.mlflow_address import place
from study.spec.errors import InputError
from study.store import drivers, stage
from study.store.runs import Store

PARAMS, LOOPBACK = Path("params.yaml"), "127.0.0.1"


def status(arguments: argparse.Namespace) -> None:
    params = tiers.read(PARAMS)
    name = tiers.load(params, arguments.tier).name
    plan = stage.read_json(stage.folder(name) / "plan.json")
    store = Store()
    print(progress.status(store, plan, execution_of(params).workers, drivers.running(store, name)))


def stop(arguments: argparse.Namespace) -> None:
    """Ask the drivers of a tier, on any machine, to save what their trainings have and to end; wait until they did."""
    store, name = Store(), tiers.load(tiers.read(PARAMS), arguments.tier).name
    asked = drivers.running(store, name)
    if not asked:
        print(f"{name}: nobody trains it into {store.root}")
    for driver in asked:
        drivers.ask_to_stop(store, driver)
        print(f"asked {driver['host']} (process {driver['pid']}) to stop; its trainings save a checkpoint", flush=True)
    while asked:
        time.sleep(0.5)
        left = {driver["name"] for driver in drivers.running(store, name)}
        for driver in [driver for driver in asked if driver["name"] not in left]:
            asked.remove(driver)
            print(
                f"{driver['host']} (process {driver['pid']}) has stopped; `make repro` goes on from there", flush=True
            )


def choose(arguments: argparse.Namespace) -> None:
    """Set the keys ``tier:`` and ``tune:`` of params.yaml, leaving the rest of the file as it is."""
    params = tiers.read(PARAMS)
    git_state.tell_dvc()
    chosen = tiers.load(params, arguments.tier)
    wanted = {"tier": chosen.name}
    if arguments.tune:
        wanted[tiers.TUNE] = {"yes": "true", "no": "false"}[arguments.tune]
        if arguments.tune == "yes" and chosen.tuning is None:
            raise InputError(
                f"tiers.{chosen.name}.tuning must say what is searched before TUNE=yes, got none; write it as the tier "
                "shapes does"
            )
    before = text = PARAMS.read_text(encoding="utf-8")
    for key, value in wanted.items():
        if str(params.get(key, False)).lower() != value:
            line = f"{key}: {value}"
            # Only the value: the comment after it stays.
            text, found = re.subn(rf"(?m)^{key}:[ \t]*[^\s#]*", line, text, count=1)
            text = text if found else f"{line}\n{text}"
    if text != before:
        PARAMS.write_text(text, encoding="utf-8")


def where(arguments: argparse.Namespace) -> None:
    """Print the path of the tier's report."""
    print(stage.folder(tiers.load(tiers.read(PARAMS), arguments.tier).name) / "report.pdf")


def compare(arguments: argparse.Namespace) -> None:
    """Put reports side by side: tiers, or tier@revision for a `dvc exp` experiment, in reports/comparison/."""
    from study.commands.compare import main

    main(arguments.names)


def forget(arguments: argparse.Namespace) -> None:
    """Forget the trainings of a cell (or one training), so that the next ablation runs them again."""
    name = tiers.load(tiers.read(PARAMS), arguments.tier).name
    plan = stage.read_json(stage.folder(name) / "plan.json")
    what = arguments.what
    keys = {key for cell in plan["cells"] if cell["address"] == what for key in cell["runs"].values()}
    known = plan["trainings"] | plan["evaluations"]
    keys |= {key for key in known if len(what) >= 8 and key.startswith(what)}
    if not keys:
        raise InputError(
            f"a cell must be an address such as T1/score/15 with trainings, or a run's key, got {what!r}; "
            f"scores.csv of the tier {name} lists both"
        )
    for key in sorted(keys):
        Store().run(key).clear()
        print(f"forgotten: {progress.named(known[key])}")


def submission(arguments: argparse.Namespace) -> None:
    """Write the archive that a benchmark's server takes, of the network that the tier's block `submission` names."""
    from study.commands.submission import main  # torch, only where it predicts

    main(arguments.tier)


def preview(arguments: argparse.Namespace) -> None:
    """What a tier would run and cost on this machine, and which data is missing; runs nothing."""
    from study.commands import preview  # torch, only where it is probed

    preview.preview(tiers.read(PARAMS), arguments.tier)


def rehearse(arguments: argparse.Namespace) -> int:
    """Run every stage of a tier for two steps a training, at full resolution, on synthetic stand-ins for its data."""
    from study.commands import rehearse

    params = tiers.read(PARAMS)
    return rehearse.rehearse(params, tiers.load(params, arguments.tier).name)


def verify(arguments: argparse.Namespace) -> int:
    """Recompute every number of a tier's report and check the digests of what it was made from."""
    from study.commands import verify

    return verify.verify(tiers.read(PARAMS), arguments.tier)


def gc(arguments: argparse.Namespace) -> None:
    """Show what no current plan names in the run store; remove it where --free says so."""
    from study.commands.gc import main

    main(arguments.free == "yes", arguments.keep_days)


def ui(arguments: argparse.Namespace) -> None:
    """Serve the MLflow UI on the project's database, on this machine only unless a host is named; of a server, tell
    the page."""
    from study.tracking import rebuild, session

    params = tiers.read(PARAMS)
    name, at = tiers.load(params, arguments.tier).name, place(params, Store())
    if not at.served:
        can_listen(arguments.host, arguments.port)
    tracker = session.opened(at, name)
    if tracker.empty() and (Path("reports") / name / "scores.csv").is_file():
        print(f"writing the runs of {name} to {at.shown} again", flush=True)
        tracker = rebuild.whole(at, name)
    tracker.report(stage.folder(name) / "report.pdf")
    if at.served:
        print(f"MLflow UI: {tracker.url(at.shown)}")
        return
    base = f"http://{arguments.host}:{arguments.port}"
    print(f"MLflow UI: {tracker.url(base)}\nstop it with Ctrl-C", flush=True)
    server = ["-m", "mlflow", "server", "--host", arguments.host, "--port", arguments.port, "--workers", "1"]
    server += ["--no-serve-artifacts", "--default-artifact-root", str(at.artifacts)]
    # Not an argument: those are for all to see. Nor are jobs run, which would take a GB of memory.
    own = {"MLFLOW_BACKEND_STORE_URI": at.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, [sys.executable, *server], os.environ | own)


def replay(arguments: argparse.Namespace) -> None:
    """Write a tier's trainings, cells and report to MLflow, as far as they are not there."""
    from study.tracking import rebuild

    params = tiers.read(PARAMS)
    name, at = tiers.load(params, arguments.tier).name, place(params, Store())
    rebuild.whole(at, name)
    print(f"MLflow at {at.shown} has the runs of {name}")


def dashboard(arguments: argparse.Namespace) -> None:
    """Serve the Optuna dashboard on the tier's study, on this machine only unless a host is named."""
    name = tiers.load(tiers.read(PARAMS), arguments.tier).name
    can_listen(arguments.host, arguments.port)
    log = Store().study_log(name)
    if not log.is_file():
        raise InputError(
            f"a tier must have run before its study can be shown, got no {log}; run `make repro TIER={name}`"
        )
    command = Path(sys.executable).with_name("optuna-dashboard")
    os.execv(command, [str(command), str(log), "--host", arguments.host, "--port", arguments.port])


def can_listen(host: str, port: str) -> None:
    """Raises InputError unless a server can listen at ``host`` and ``port``: it would tell so in many lines, after a
    link that leads to whoever listens there."""
    if not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise InputError(f"PORT must be a whole number from 1 to 65535, got {port!r}; name one with PORT=...")
    wrong = f"HOST must be an address of this machine, got {host!r} ({{}}); name one with HOST=..."
    try:
        if not host:
            raise OSError("nothing")  # for sockets, this is every address
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(wrong.format(error)) from error
    failed: list[OSError] = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that ended is no other
                tried.bind(address)
        except OSError as error:
            failed.append(error)
    if any(error.errno == errno.EADDRINUSE for error in failed):
        raise InputError(
            f"PORT must be free (or the link would lead to another program), got {port} of {host}, where one listens; "
            "name another with PORT=..."
        )
    if any(error.errno == errno.EACCES for error in failed):
        raise InputError(
            f"PORT must be one that you may use (without rights, 1024 or more), got {port}; name another with PORT=..."
        )
    if len(failed) == len(found):  # of a name that stands for several addresses, one is enough
        raise InputError(wrong.format(failed[-1].strerror))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m study", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, text: str, **options) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=text, description=text)
        added.add_argument("--tier", default=None, help="a tier of params.yaml (default: its `tier:`)")
        added.set_defaults(function=function)
        return added

    command(status, "which trainings of a tier are done, running, failed and left")
    command(stop, "let all that trains a tier, on any machine, save checkpoints and end")
    command(choose, "set the tier in params.yaml, and whether each variant's best values are searched").add_argument(
        "--tune", choices=("yes", "no"), default=None, help="default: leave params.yaml's `tune:` as it is"
    )
    command(where, "the path of the tier's report")
    command(compare, "put reports side by side in one PDF and page for browsers").add_argument(
        "names", nargs="+", metavar="REPORT", help="a tier, or tier@revision for an experiment of `dvc exp`"
    )
    command(preview, "what a tier would run and cost here, and which data is missing")
    command(rehearse, "run every stage for two steps a training, at full resolution, on stand-ins for the data")
    command(verify, "recompute every number of a report from the stored counts, and check what it was made from")
    command(replay, "write a tier's runs to MLflow, as far as they are not there")
    command(forget, "forget the trainings of one cell, so that they are trained again").add_argument(
        "what", metavar="CELL", help="an address such as T1/score/15, or a run's key"
    )
    command(submission, "write the archive of predictions that a benchmark's server takes")
    collect = command(gc, "show what no current plan names in the run store, and free it")
    collect.add_argument("--free", choices=("yes", "no"), default="no", help="remove it (default: no)")
    collect.add_argument(
        "--keep-days", type=float, default=7.0, help="keep what was used since: other clones' plans are not seen"
    )
    for function, port, text in (
        (ui, "5000", "serve the MLflow UI"),
        (dashboard, "8080", "serve the Optuna dashboard"),
    ):
        served = command(function, f"{text} on this machine only, unless --host names an address")
        served.add_argument("--port", default=port)
        served.add_argument("--host", default=LOOPBACK, help="who reaches the address may read and delete: no password")
    arguments = parser.parse_args()
    sys.exit(stage.run(lambda: arguments.function(arguments)))
