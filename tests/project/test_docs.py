"""Runs every command of the pages in a copy of the project with a tiny tier.

``RUN``, ``SERVED``, ``DRY`` and ``CLUSTER`` say how; a command in none of them fails. docs/your-data.md has its own
tests in test_guide.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks import page_tables, ship
from study.config import tiers
from study.config.execution import execution_of
from study.config.inheritance import in_full
from study.config.mlflow_address import place
from study.paper import audit
from study.paper.tables import FIGURES, TABLES
from study.report import figure_list
from study.statistics import results, verdicts
from study.store import stage
from study.store.runs import Store
from tests.conftest import ROOT, Project, listening

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
    if path.name != "your-data.md"
}
# Documented command -> the command to run, in this order: itself, or one that does the same at the smallest scale.
RUN = {
    "make repro TIER=smoke": "make repro TIER=smoke",
    "make repro": "make repro TIER=smoke",
    "make repro TIER=shapes": "make repro TIER=smoke",
    "make repro TUNE=yes": "make preview TIER=smoke",  # test_tune.py searches
    "make repro TIER=camvid": "make repro TIER=smoke",
    "make repro TIER=voc_subset": "make repro TIER=smoke",
    "make repro TIER=voc": "make repro TIER=smoke",
    "make status": "make status TIER=smoke",
    "make report": "make report TIER=smoke",
    "make report TIER=smoke": "make report TIER=smoke",
    "make report TIER=shapes": "make report TIER=smoke",
    "make status TIER=smoke": "make status TIER=smoke",
    "make status TIER=voc": "make status TIER=smoke",
    "make preview TIER=smoke": "make preview TIER=smoke",
    "make preview TIER=shapes": "make preview TIER=smoke",
    "make preview TIER=voc_subset": "make preview TIER=smoke",
    "make preview TIER=voc": "make preview TIER=smoke",  # test_full_scale.py previews voc and cityscapes themselves
    "make preview TIER=cityscapes": "make preview TIER=smoke",
    "make preview TIER=voc_weekend": "make preview TIER=smoke",
    "make repro TIER=voc_weekend": "make repro TIER=smoke",
    "make force CELL=T5/GCN/overall TIER=smoke": "make force CELL=T5/GCN/overall TIER=smoke",
    "make force CELL=T1/score/15": "make force CELL=T5/GCN/overall TIER=smoke",
    "make retry TIER=smoke": "make retry TIER=smoke",
    "make retry TIER=shapes": "make retry TIER=smoke",
    "make retry TIER=voc": "make retry TIER=smoke",
    "make gc": "make gc",
    "make stop": "make stop TIER=smoke",
    "make stop TIER=smoke": "make stop TIER=smoke",
    "make gc FREE=yes": "make gc FREE=yes",
    "make verify": "make verify TIER=smoke",
    "make verify TIER=smoke": "make verify TIER=smoke",
    ".venv/bin/dvc metrics show": ".venv/bin/dvc metrics show",
    "dvc metrics show": ".venv/bin/dvc metrics show",
    "dvc metrics diff": ".venv/bin/dvc metrics diff",
    "dvc plots diff": ".venv/bin/dvc plots diff --json",
    "dvc exp show": ".venv/bin/dvc exp show --csv",
    "dvc exp show --only-changed": ".venv/bin/dvc exp show --csv",
    "make": "make",
    "make replay": "make replay TIER=smoke",
    "make replay TIER=shapes": "make replay TIER=smoke",
    '.venv/bin/study predict --tier shapes --cell T5/GCN+BR/overall photographs/ "more/*.jpg" --to predictions': (
        "mkdir -p photographs; "
        "python -c \"from PIL import Image; Image.new('RGB', (90, 70)).save('photographs/a.png')\"; "
        "python -m study predict --tier smoke --cell T5/GCN+BR/overall photographs/ 'photo*/*.png' --to predictions"
    ),
    ".venv/bin/study export --tier shapes --cell T5/GCN+BR/overall --to model.onnx photographs/": (
        "mkdir -p photographs; "
        "python -c \"from PIL import Image; Image.new('RGB', (90, 70)).save('photographs/a.png')\"; "
        "python -m study export --tier smoke --cell T5/GCN+BR/overall --to model.onnx photographs/"
    ),
    "make setup": "make setup",  # nothing is left to install
    "make format": "make format",
}
SERVED = {"make ui", "make ui TIER=smoke", "make ui TIER=shapes", "make dashboard", "make dashboard TIER=smoke"}
# Checked but not run, with the reason.
DRY = {
    'make compare WITH="shapes smoke"': "needs two reports; test_side_by_side.py runs it",
    "make submission TIER=voc": "needs VOC's test images; test_benchmark.py runs it on a stand-in",
    "make crf": "builds a package from source; `make setup` has tried",
    "make bench": "measures for minutes",
    "make preview TIER=camvid": "needs CamVid; test_preview.py previews, test_expect.py what its looks should decide",
    "make preview TIER=camvid HOURS=1.5": "as for camvid; test_seeds_by_need.py writes the budget",
    "make explore": "many trials; test_explore.py runs the stage",
    "make explore TIER=shapes TRIALS=60": "as for `make explore`",
    "make explore ANEW=yes": "test_explore.py begins a study anew",
    "make rehearse TIER=voc": "test_full_scale.py rehearses the paper's layouts at a small size",
    "make rehearse TIER=cityscapes": "as for voc",
    "make rehearse TIER=voc_weekend": "as for voc",
    "make gpu-check": "test_gpu_check.py runs it on the CPU",
    "make new-tier FOLDER=~/data/mine": "needs a folder; test_new_tier.py and test_guide.py run the command",
    "make check": ".ci/run runs it",
    "make docs": "test_the_site_builds builds it",
    "make test": ".ci/run runs it",
    "make test FAST=1": ".ci/run runs all of the tests",
    ".venv/bin/python -m benchmarks.storm": "minutes of faults; its parts are tested one by one",
    "export RAY_AUTH_MODE=token": "of the shell; test_cluster.py has a cluster that demands a token",
    "dvc exp run -S tier=camvid": "test_pipeline.py runs it with a tier of its own",
}
CLUSTER = ("down", "exec", "get-auth-token", "start", "status", "stop", "up")  # subcommands of ray
SHARED = "test_sharing.py runs it with a remote, a branch or an experiment of its own"
DRY |= dict.fromkeys(
    (
        ". .venv/bin/activate",
        "dvc remote add --default team /shared/remote",
        "git switch --create shared",
        "git add params.yaml dvc.lock tiers .dvc/config",
        'git commit --message "The report of the tier shapes"',
        "dvc push",
        "dvc pull",
        "dvc repro",
    ),
    SHARED,
)
DRY |= dict.fromkeys(
    ("dvc exp run --queue --name narrow -S tiers.shapes.band_px=2", "dvc queue start", "dvc queue status"),
    "DVC's own workers; test_sharing.py runs an experiment in such a workspace",
)
SET = re.compile(r"^(?:STUDY_\w+=\S+ )+")  # variables before a command


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def _commands() -> dict[str, list[str]]:
    """Command, without its comment and variables -> the pages that contain it, in a block or inline."""
    found: dict[str, list[str]] = {}
    for page, text in PAGES.items():
        lines = [line for block in _blocks(page, "(?:sh|bash|shell)") for line in block.splitlines() if line.strip()]
        prose = " ".join(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S).split())  # a command may wrap
        lines += re.findall(r"`((?:make|dvc)(?: [^`]+)?)`", prose)
        for line in lines:
            found.setdefault(SET.sub("", line.split("  ")[0].split(" #")[0].strip()), []).append(page)
    return found


COMMANDS = _commands()
RAY = {command for command in COMMANDS if command.startswith(".venv/bin/ray ")}


def _make(folder: Path) -> Project:
    """A copy with a Makefile and a ready environment, as after `make setup`."""
    project = Project(folder)
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements.in"):
        shutil.copy(ROOT / name, folder / name)
    file = folder / "pyproject.toml"  # one module of each, because checking the whole project takes too long
    file.write_text(re.sub(r'(?m)^packages = .*"study".*$', 'modules = ["study.seeds"]', file.read_text()))
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_seeds.py", folder / "tests")
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "ready":
            (folder / ".venv" / path.name).symlink_to(path)
    shutil.copy(ROOT / "requirements.lock", folder / ".venv" / "ready")
    project.repository()
    return project


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The copy after its first run."""
    project = _make(tmp_path_factory.mktemp("ran"))
    said = project.run("sh", "-ec", "make repro TIER=smoke")
    assert said.stdout.splitlines()[-1] == "reports/smoke/report.pdf"
    return project


def test_exactly_the_documented_commands_are_handled() -> None:
    known = RUN.keys() | SERVED | DRY.keys() | RAY
    assert sorted((command, pages) for command, pages in COMMANDS.items() if command not in known) == []
    assert sorted((RUN.keys() | SERVED | DRY.keys()) - COMMANDS.keys()) == [], "no page has these any more"


@pytest.mark.slow
def test_documented_targets_exist_and_make_lists_them_all(tmp_path: Path) -> None:
    project = _make(tmp_path)
    help_ = project.run("make").stdout
    targets = set(re.findall(r"^  make ([\w-]+) ", help_, re.MULTILINE))
    named = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert named <= targets
    assert set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) == targets
    assert all(len(line) <= 120 for line in help_.splitlines())
    for command in sorted(command for command in COMMANDS if command.startswith("make ")):
        said = project.run(*shlex.split(command.replace("make ", "make -n ", 1))).stdout
        assert command == "make" or said or command == "make setup", command


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_documented_commands_run(ran: Project) -> None:
    scores = ran.reports / "scores.csv"
    table = scores.read_bytes()
    for command in dict.fromkeys(RUN.values()):
        before = ran.runs()
        said = ran.run("sh", "-ec", command).stdout
        assert said or command in ("make format", "make setup"), command  # neither has anything to do
        # Only `make force` retrains finished runs.
        again = sum(done != before[key] for key, done in ran.runs().items() if key in before)
        assert again == ("force" in command) and scores.read_bytes() == table, command
        assert "verify" not in command or "all match" in said
        assert "force" not in command or "deleted: GCN k=15, seed 0\n" in said
        assert "retry" not in command or "Running stage 'evaluate@" not in said, "nothing had failed"


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answer(address: str, server: subprocess.Popen[bytes], seconds: float) -> str:
    """The page at an address, as soon as the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10) as answered:
                return str(answered.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"{address} does not answer; the server ended with {server.poll()}")


@pytest.fixture
def serve(ran: Project) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Servers to stop after the test, with all their child processes."""
    servers: list[subprocess.Popen[bytes]] = []
    yield servers
    for server in servers:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted({command.split()[1] for command in SERVED}))
def test_the_served_pages_answer(ran: Project, serve: list[subprocess.Popen[bytes]], target: str) -> None:
    port = _port()
    command = ["make", target, "TIER=smoke", f"PORT={port}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    serve.append(subprocess.Popen(command, cwd=ran.folder, env=ran.environment, start_new_session=True, **quiet))
    page = _answer(f"http://127.0.0.1:{port}/", serve[0], 200)
    assert {"ui": "mlflow", "dashboard": "optuna"}[target] in page.lower()
    assert listening(serve[0].pid) == {"127.0.0.1"}


@pytest.mark.slow
def test_ray_accepts_every_documented_option(tmp_path: Path) -> None:
    """Dry: nothing is started."""
    named = {command.split()[1] for command in RAY}
    assert named == set(CLUSTER)
    taken = (
        "import json; from ray.scripts.scripts import cli; print(json.dumps({name: [option for parameter in command."
        "params for option in parameter.opts + parameter.secondary_opts] for name, command in cli.commands.items()}))"
    )
    said = subprocess.run([sys.executable, "-c", taken], cwd=tmp_path, capture_output=True, text=True, check=True)
    flags = json.loads(said.stdout.splitlines()[-1])
    for line in RAY:
        assert [flag for flag in re.findall(r"--[\w-]+", line) if flag not in flags[line.split()[1]]] == [], line


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Broken links and missing pages are errors; each page of docs/ is in the site."""
    command = [
        str(Path(sys.executable).with_name("mkdocs")),
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        str(tmp_path),
    ]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    built = {path.stem for path in tmp_path.glob("*.html")}
    assert {Path(page).stem for page in PAGES if page.startswith("docs/")} <= built
    assert {"index", "api", "decisions"} <= built and "Raises InputError" in (tmp_path / "api.html").read_text()


def test_the_blocks_for_params_yaml_load(tmp_path: Path) -> None:
    params = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    blocks = [yaml.safe_load(block) for page in PAGES for block in _blocks(page, "yaml")]
    for block in blocks:
        if "execution" in block:
            assert block["execution"].keys() == params["execution"].keys()
            assert execution_of(block).workers == block["execution"]["workers"]
            continue
        if "tracking" in block:
            assert block["tracking"].keys() == params["tracking"].keys()
            assert place(block, Store(tmp_path)).experiment("shapes") == "our group shapes"
            continue
        smoke = params["tiers"]["smoke"]
        changed = {name: smoke[name] | value if isinstance(value, dict) else value for name, value in block.items()}
        loaded = tiers.load(params | {"tiers": {"smoke": smoke | changed}}, "smoke")
        assert "extra" not in block or len(loaded.extra) == len(block["extra"])
    named = {"extra", "settings", "controls", "mechanisms", "inference", "execution", "tracking", "explore"}
    assert {name for block in blocks for name in block} == named


def test_everything_the_pages_refer_to_exists() -> None:
    decisions = (ROOT / "reports" / "decisions.md").read_text(encoding="utf-8")
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#]*)(?:#[\w-]+)?\)", text):
            if link and not link.startswith("http"):
                assert ((ROOT / page).parent / link).exists(), (page, link)
        for name in re.findall(r"`((?:study|tests|docs|pipelines)/[\w/.-]+)`", text):
            assert (ROOT / name).exists(), (page, name)
        assert [name for name in re.findall(r"\bD\d\d\b", text) if f"**{name} " not in decisions] == [], page
    # "Tables 1 to 11", "Figures 1 to 7"
    assert len(TABLES) == 11 and len(FIGURES) == 7
    assert FIGURES.keys() <= {plate.name for plate in figure_list.PLATES}


def test_the_readme_tree_matches_the_project() -> None:
    """Every path in the tree exists, and every package is in the tree."""
    tree = PAGES["README.md"].split("## Where things are")[1].split("```")[1]
    folders, found = [""], set()
    for line in tree.splitlines()[1:]:
        names = re.split(r"\s{2,}", line.strip())[0].split()
        depth = (len(line) - len(line.lstrip())) // 2
        for name in names:
            path = "".join(folders[: depth + 1]) + name
            assert (ROOT / path).exists(), path
            found.add(path.rstrip("/"))
        if names[0].endswith("/"):
            folders[depth + 1 :] = [names[0]]
    packages = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("study/*/__init__.py")}
    assert packages <= found and {"pipelines", "tests", "benchmarks", "docs"} <= found


def test_the_readme_lists_all_tiers_the_default_first() -> None:
    # params.yaml names the tier chosen last; the default is the committed one.
    shown = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True)
    params = yaml.safe_load(shown.stdout or (ROOT / "params.yaml").read_text(encoding="utf-8"))
    told = re.findall(r"^\| `(\w+)`", PAGES["README.md"].split("## Tiers")[1].split("## ")[0], re.MULTILINE)
    assert sorted(told) == sorted(params["tiers"]) and told[0] == params["tier"]


@pytest.mark.slow
def test_tables_in_pages_match_the_shipped_reports() -> None:
    """`python -m benchmarks.page_tables` writes them."""
    for page, text in page_tables.tables().items():
        named = [name for name, (at, _) in page_tables.TABLES.items() if at == page]
        assert PAGES[page] == text and text.count("<!-- table: ") == len(named)
    rows = {name: len(made()) - 1 for name, (_, made) in page_tables.TABLES.items()}
    assert rows["photographs"] > 10 and rows["scores by kernel size"] == 6 and rows["other scores"] > 15
    told = page_tables.the_answer().splitlines()
    assert len(told) == len(page_tables.SHIPPED) and all(line in PAGES["README.md"] for line in told)


SHIPPED = sorted(path.parent.relative_to(ROOT / "docs" / "example") for path in ROOT.glob("docs/example/**/counts.zip"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED, ids=str)
def test_shipped_verdicts_and_scores_follow_from_shipped_counts(name: Path, tmp_path: Path) -> None:
    example = ROOT / "docs" / "example" / name
    assert (example / ship.COUNTS).stat().st_size <= ship.MOST_BYTES
    with zipfile.ZipFile(example / ship.COUNTS) as archive:
        archive.extractall(tmp_path)
    made = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    computed = audit.counts(json.loads((tmp_path / "examined" / "anatomy.json").read_text(encoding="utf-8"))["table11"])
    folders = (tmp_path / "results", tmp_path / "examined")
    tuned = {}
    if (example / ship.TUNED).is_file():
        assert (example / ship.TUNED).stat().st_size <= ship.MOST_BYTES
        with zipfile.ZipFile(example / ship.TUNED) as archive:
            archive.extractall(tmp_path / "tuning")
        tuned = {"tuned": stage.tuned_plan(tmp_path), "tuned_folder": tmp_path / "tuning" / "results"}
    found = verdicts.content(made, *folders, computed=computed, **tuned)
    assert json.loads(json.dumps(found)) == json.loads((example / "verdicts.json").read_text(encoding="utf-8"))
    drawn = stage.drawn_plan(tmp_path)
    frame, kept = results.frame(drawn, *folders, computed=computed), pd.read_csv(example / "scores.csv")
    assert frame["value"].tolist() == pytest.approx(kept["value"].tolist(), nan_ok=True) and len(kept) > 300
    ship.counts(tmp_path, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (example / ship.COUNTS).read_bytes()


def test_the_citation_is_valid_and_names_the_paper() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert found["cff-version"] == "1.2.0" and found["type"] == "software" and found["license"] == "Apache-2.0"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{found["version"]}"' in project and 'license = "Apache-2.0"' in project
    paper = found["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys() and paper["year"] == 2017
    assert [author["family-names"] for author in paper["authors"]] == ["Peng", "Zhang", "Yu", "Luo", "Sun"]
    for author in (*found["authors"], *paper["authors"]):
        assert {"name"} <= author.keys() or {"family-names", "given-names"} <= author.keys()


def test_the_licence_is_the_full_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n" in text and "Version 2.0, January 2004" in text
    assert [number for number in range(1, 10) if f"\n   {number}. " not in text] == []
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_changelog_version_has_a_numbers_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions and [part.splitlines()[0] for part in versions if "### Numbers" not in part] == []
