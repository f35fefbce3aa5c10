"""The console command ``study``, also ``python -m study``. Each command imports what it needs only when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from study.config import tiers
from study.spec.errors import InputError
from study.store import code_digest, stage

LOOPBACK = "127.0.0.1"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "DVC_NO_ANALYTICS": "1"}
EPILOG = """\b
Exit status: 0 done; 1 a training or a stage failed, or numbers are stale; 2 wrong input; 3 the run store or the disk
refused; 130 stopped.
Completion: eval "$(_STUDY_COMPLETE=bash_source study)" in ~/.bashrc; zsh_source and fish_source likewise."""


def _tiers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The tiers of params.yaml, for completion."""
    try:
        return [name for name in tiers.read()["tiers"] if name.startswith(incomplete)]
    except Exception:  # completion must not print errors
        return []


TIER = click.argument("tier", required=False, envvar="TIER", shell_complete=_tiers)
TIER_OPTION = click.option("--tier", envvar="TIER", shell_complete=_tiers, help="default: the tier in params.yaml")
CELL = click.option("--cell", envvar="CELL", help="the address of a cell that has a model, such as T5/GCN+BR/overall")
HOST = click.option(
    "--host", default=LOOPBACK, show_default=True,
    help="address to listen on; there is no password: anyone who reaches it can read and delete",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG)
def study() -> None:
    """Do large kernels matter? Trains the networks behind the paper's tables and judges its claims.

    TIER is a block of params.yaml; the default is its key `tier:`. Run the commands in the project's folder.
    """


@study.command()
@TIER
@click.option(
    "--tune", type=click.Choice(["yes", "no"]), envvar="TUNE",
    help="also search each variant's best values; saved in params.yaml",
)  # fmt: skip
def repro(tier: str | None, tune: str | None) -> int:
    """Train, evaluate and report."""
    from study.commands import reproduce

    return reproduce.repro(tier, tune)


@study.command()
@TIER
def retry(tier: str | None) -> int:
    """Train a tier's failed trainings again, then report."""
    from study.commands import reproduce

    return reproduce.retry(tier)


@study.command()
@click.argument("cell", envvar="CELL")
@TIER
def force(cell: str, tier: str | None) -> int:
    """Run one cell's trainings again, then report. CELL is an address such as T1/score/15, or a run's key."""
    from study.commands import reproduce, trainings

    trainings.forget(cell, tier)
    return reproduce.force(tier)


@study.command()
@TIER
@click.option(
    "--trials", type=click.IntRange(min=0), envvar="TRIALS", help="number of trials in all; 0 removes the exploration"
)
@click.option(
    "--anew", type=click.Choice(["yes", "no"]), envvar="ANEW", default="no", help="discard the existing study first"
)
def explore(tier: str | None, trials: int | None, anew: str) -> int:
    """Search for better networks, train the best with new seeds, then report."""
    from study.commands import reproduce

    return reproduce.explore(tier, trials, anew == "yes")


@study.command()
@TIER
@click.option("--tune", type=click.Choice(["yes", "no"]), envvar="TUNE", help="search each variant's best values")
def choose(tier: str | None, tune: str | None) -> None:
    """Set the tier in params.yaml, for `dvc` commands."""
    from study.commands import reproduce

    reproduce.choose(tier, tune)


@study.command()
@TIER
def status(tier: str | None) -> None:
    """List which trainings are done, running, failed and left; from any terminal."""
    from study.commands import trainings

    trainings.status(tier)


@study.command()
@TIER
def report(tier: str | None) -> None:
    """Render the report of an unfinished run, with its holes marked."""
    from study.commands import render

    click.echo(render.render(tier))


@study.command()
@TIER
def stop(tier: str | None) -> None:
    """Save checkpoints and end all trainings of a tier, on any machine."""
    from study.commands import trainings

    trainings.stop(tier)


@study.command(name="tier")
@TIER
def tier_in_full(tier: str | None) -> None:
    """Print a tier in full, including what it inherits from another tier."""
    chosen = tiers.load(tiers.read(), tier)
    click.echo(tiers.text({chosen.name: chosen.block}), nl=False)


@study.command(name="new-tier")
@click.argument("folder", envvar="FOLDER", type=click.Path())
@click.option("--name", envvar="TIER", help="name of the tier (default: the folder's name)")
@click.option(
    "--write",
    type=click.Choice(["yes", "no"]),
    is_flag=False,
    flag_value="yes",
    default="no",
    envvar="WRITE",
    help="append the block to params.yaml",
)
@click.option("--all", "whole", is_flag=True, help="read every mask, however many there are")
def new_tier(folder: str, name: str | None, write: str, whole: bool) -> None:
    """Write a tier's block for a FOLDER of images and masks, based on its content."""
    from study.commands import new_tier

    new_tier.main(folder, name, write == "yes", whole)


@study.command()
@TIER
@click.option("--all", "every", is_flag=True, help="open every image and mask, not just some of each split")
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), envvar="HOURS",
    help="set the seed budget in params.yaml to what this machine can do in this many hours",
)  # fmt: skip
@click.option("--tune", type=click.Choice(["yes", "no"]), envvar="TUNE", help="with the search for each variant's best")
def preview(tier: str | None, every: bool, hours: float | None, tune: str | None) -> None:
    """Show what a tier would run, how long that takes on this machine, and what is wrong with its data."""
    from study.commands import preview  # imports torch

    params = tiers.read()
    if tune is not None:
        params["tune"] = tune == "yes"
    preview.preview(params, tier, every, hours)


@study.command()
@TIER
def rehearse(tier: str | None) -> int:
    """Run every stage with two steps per training, at full resolution, on stand-ins for the data."""
    from study.commands import rehearse

    params = tiers.read()
    return rehearse.rehearse(params, tiers.load(params, tier).name)


@study.command()
@TIER
def verify(tier: str | None) -> int:
    """Recompute every number of a report from the stored counts, and check its inputs."""
    from study.commands import verify

    return verify.verify(tiers.read(), tier)


@study.command()
@click.argument("reports", nargs=-1, required=True, envvar="WITH", metavar="REPORT...")
def compare(reports: tuple[str, ...]) -> None:
    """Put reports side by side in one PDF and page. A REPORT is a tier, or tier@NAME of an experiment of `dvc exp`."""
    from study.commands import compare

    compare.main(list(reports))


@study.command()
@TIER
def submission(tier: str | None) -> None:
    """Write the archive of predictions for a benchmark's server."""
    from study.commands import submission  # imports torch

    submission.main(tier)


@study.command()
@TIER_OPTION
@CELL
@click.option("--model", type=click.Path(path_type=Path), help="a model's file, instead of a tier and a cell")
@click.option(
    "--to", type=click.Path(path_type=Path), default="predictions", show_default=True, help="the folder to write to"
)
@click.option(
    "--longest", type=click.IntRange(1),
    help="first scale larger images down to this side, in px (default: as in training)",
)  # fmt: skip
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def predict(
    tier: str | None, cell: str | None, model: Path | None, to: Path, longest: int | None, images: tuple[str, ...]
) -> int:
    """Predict the classes of your images with a trained network: writes masks, and pictures with a legend. An IMAGE is
    a file, a folder or a pattern in quotes."""
    from study.commands import predict

    return predict.main(predict.model_file(tier, cell, model), images, to, longest)


@study.command()
@TIER_OPTION
@CELL
@click.option("--model", type=click.Path(path_type=Path), help="a model's file, instead of a tier and a cell")
@click.option("--to", type=click.Path(path_type=Path), help="the file to write (default: in the current folder)")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
def export(tier: str | None, cell: str | None, model: Path | None, to: Path | None, images: tuple[str, ...]) -> int:
    """Write a trained network as an ONNX file, and check that ONNX Runtime gives the same classes: on random pixels,
    and on your images if you name some."""
    from study.commands import export, predict

    return export.main(predict.model_file(tier, cell, model), images, to)


@study.command()
@click.option("--free", type=click.Choice(["yes", "no"]), default="no", envvar="FREE", help="delete it (default: no)")
@click.option(
    "--keep-days", type=float, default=7.0, envvar="KEEP_DAYS", show_default=True,
    help="keep what was used within this many days, because other clones' plans are not visible here",
)  # fmt: skip
def gc(free: str, keep_days: float) -> None:
    """List what no current plan references in the run store, and optionally delete it."""
    from study.commands import gc

    gc.main(free == "yes", keep_days)


@study.command()
@TIER
@HOST
@click.option("--port", default="5000", envvar="PORT", show_default=True)
def ui(tier: str | None, host: str, port: str) -> None:
    """Serve the MLflow UI until Ctrl-C."""
    from study.commands import serve

    serve.ui(tier, host, port)


@study.command()
@TIER
@HOST
@click.option("--port", default="8080", envvar="PORT", show_default=True)
def dashboard(tier: str | None, host: str, port: str) -> None:
    """Serve the Optuna dashboard until Ctrl-C."""
    from study.commands import serve

    serve.dashboard(tier, host, port)


@study.command()
@TIER
def replay(tier: str | None) -> None:
    """Write a tier's missing runs to MLflow."""
    from study.commands import serve

    serve.replay(tier)


def main() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(stage.run(_run))


def _run() -> int:
    """Run the command on the command line; returns its exit status. Raises InputError for wrong input."""
    here = Path("study", "__init__.py")
    if here.is_file() and not here.samefile(code_digest.ROOT / here):
        raise InputError(
            f"`study` must run the code of the current folder, got that of {code_digest.ROOT}; run `python -m study`, "
            "or `make setup` here and then .venv/bin/study"
        )
    try:
        return study(prog_name="study", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
