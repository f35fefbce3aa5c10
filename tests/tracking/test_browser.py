"""The MLflow UI as a person sees it: Chromium opens the link of ``make ui`` on the project's own server.

Screenshots are kept in STUDY_SCREENSHOTS, else among pytest's temporary files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typst

from study.paper.tables import TABLES
from study.statistics import results
from study.store.runs import Store
from study.tracking.mlflow_runs import Tracker
from tests.conftest import ROOT
from tests.report.test_document import fake_folder, fake_plan
from tests.tools.browser import COMMAND, Browser
from tests.tracking.test_mlflow_runs import content

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(COMMAND is None, reason="Chromium is not installed (.ci/run installs it where it can)"),
]
NAME = "smoke"
TOLERATED = re.compile(
    # Without its login add-on, MLflow has no users, but its UI still asks for the current one.
    r"status of 404 \(Not Found\) http://127\.0\.0\.1:\d+/ajax-api/2\.0/mlflow/users/current$"
    # Chromium's message for a layout that takes one more frame.
    r"|ResizeObserver loop completed with undelivered notifications"
    # Plotly may draw a chart before its card has a size ("M0.5,0.5VNaN", a height of -0.8). The last must be valid.
    r"|^Error: <\w+> attribute \w+: .*(NaN|A negative value is not valid)"
)
# A drawn chart must not have NaN attributes or negative sizes.
BROKEN = """[...document.querySelectorAll('svg *')].filter(drawn => [...drawn.attributes].some(it =>
    /NaN|undefined/.test(it.value) || (/^(width|height|r)$/.test(it.name) && parseFloat(it.value) < 0)
)).map(drawn => drawn.outerHTML.slice(0, 200))"""
GAIN = {"1x1": 0.0, "kxk": -0.01, "stack": -0.03, "GCN": 0.0}


class Study:
    """A folder like the project's after a study of Tables 1 and 3 over three seeds, in which one training failed."""

    def __init__(self, root: Path) -> None:
        self.root, self.reports = root, root / "reports" / NAME
        self.plan = fake_plan([TABLES["T1"], TABLES["T3"]], 3, 6)
        for training in self.plan["trainings"].values():
            training["backbone"] = "shallow"
        failed = next(key for key, t in self.plan["trainings"].items() if t["label"] == "GCN k=13" and t["seed"] == 1)
        fake_folder(self.reports, self.plan, {failed: "out of memory"})
        for key, training in self.plan["trainings"].items():
            self._finish(self.reports / "results" / key, training)
        (self.reports / "report.pdf").write_bytes(typst.compile(b"= Do large kernels matter?"))
        (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        self.store = Store(root / "runs")

    def _finish(self, folder: Path, training: dict) -> None:
        if not (folder / "result.json").is_file():
            return
        result = json.loads((folder / "result.json").read_text())
        result |= {"steps": training["steps"], "seconds": {"train": 30.0, "evaluate": 3.0}}
        (folder / "result.json").write_text(json.dumps(result))
        counts = np.load(folder / "counts.npz")["counts"].astype(float)  # make heads differ in charts
        counts[..., 0] *= 1 + GAIN[training["head"]] * training["kernel_size"]
        np.savez(folder / "counts.npz", counts=counts.astype(np.int64))

    def serve(self) -> tuple[subprocess.Popen[str], str]:
        """Start ``make ui`` in that folder on a free port; return the process and its printed link once it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "STUDY_STORE": str(self.store.root), "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"
        }  # fmt: skip
        command = [sys.executable, "-m", "study", "ui", NAME, "--port", str(port)]
        with (self.root / "server.log").open("w") as log:
            served = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=log, stderr=log, text=True, start_new_session=True
            )
        return served, f"http://127.0.0.1:{port}"

    def printed(self) -> str:
        found = re.search(r"MLflow UI: (\S+)", (self.root / "server.log").read_text())
        return found[1] if found else ""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The study, served. Its database does not exist at first: ``make ui`` writes it from the collected results."""
    made = Study(tmp_path_factory.mktemp("served"))
    process, base = made.serve()
    try:
        for _ in range(600):
            if process.poll() is not None or answers(base):
                break
            signal.sigtimedwait([], 0.5)
        assert answers(base), (made.root / "server.log").read_text()
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # otherwise it waits for the browser's open connections
        process.wait(60)


def answers(base: str) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", int(base.rsplit(":", 1)[1]))) == 0


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("STUDY_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"screenshots: {folder}")
    return folder


@pytest.fixture(scope="module")
def browser(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser") / "profile", height=1500)
    try:
        opened.open(study.printed())
        # A person closes it once; then the browser remembers.
        opened.click("document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')")
        yield opened
    finally:
        opened.close()


@pytest.fixture(autouse=True)
def _no_errors(browser: Browser) -> Iterator[None]:
    browser.errors.clear()
    yield
    browser.wait(BROKEN, lambda found: found == [])
    assert [error for error in browser.errors if not TOLERATED.search(error)] == []


TEXT = "document.body?.innerText ?? ''"
# From left to right: the table adds its columns in no fixed order.
COLUMNS = """[...document.querySelectorAll('.ag-header-cell')].sort(
    (a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left
    ).map(e => e.innerText.trim()).filter(Boolean)"""
FIXED = ("Run Name", "Created", "Duration")
CARDS = "[...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')]"
# Title of a chart -> number of marks (points, bars, lines, pictures) that it has drawn.
CHARTS = f"""Object.fromEntries({CARDS}.map(card => [card.innerText.trim().split('\\n')[0], card.querySelectorAll(
    '.point, .points path, .js-line, canvas.gl-canvas-focus, .parcoords canvas').length +
    [...card.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth > 1).length]))"""


def shown(*words: str) -> Callable[[str], bool]:
    return lambda text: all(word in text for word in words)


def link(text: str) -> str:
    """The first link with exactly this text."""
    return f"[...document.querySelectorAll('a')].find(e => e.innerText.trim() == {json.dumps(text)})"


def open_view(browser: Browser, study: Study, key: str, mode: str = "CHART") -> str:
    """Opens a view like its link in the experiment's note, and returns the page's text with the number of runs."""
    browser.open(study.printed().replace("ShareKey=cells", f"ShareKey={key}").replace("=CHART", f"={mode}"))
    return browser.wait(TEXT, shown("matching runs"))


def drawn(browser: Browser, *titles: str) -> None:
    """Waits until exactly the charts with these titles have drawn something."""
    browser.wait(CHARTS, lambda charts: charts.keys() == set(titles) and all(charts.values()))


def count(study: Study, kind: str, key: str = "") -> int:
    cells, trainings = study.plan["cells"], study.plan["trainings"].values()
    return len(cells) if kind == "cell" else sum(1 for t in trainings if key != "means" or not t["refine"])


def test_the_printed_link_opens_cells_with_charts(browser, study, screenshots):
    browser.open(study.printed())
    text = browser.wait(TEXT, shown("matching runs", "T1/score/15", "Cells beside the paper"))
    assert f"{count(study, 'cell')} matching runs" in text.replace("\n", " ")
    drawn(browser, "kernel_size vs. val/miou", "Parallel Coordinates", "paper/miou")
    browser.screenshot(screenshots / "cells.png")


def test_a_permanently_broken_chart_is_detected(browser, study):
    """The check after each test finds what a chart drawn too early would leave."""
    browser.open(study.printed())
    browser.wait(TEXT, shown("matching runs"))
    drawing = "<svg id=broken><rect width=-1 /><path d=M0,NaN /></svg>"
    browser.run(f"document.body.insertAdjacentHTML('beforeend', '{drawing}')")
    assert {re.findall(r"^<(\w+)", found)[0] for found in browser.wait(BROKEN)} >= {"rect", "path"}
    browser.run("document.getElementById('broken').remove()")


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("cells", "head kernel_size BR val/miou paper/miou paper/miou_difference spread/miou_low spread/miou_high"),
        ("trainings", "head kernel_size BR seed val/miou val/pixel_accuracy parameters"),
    ],
)
def test_the_table_has_its_comparing_columns(browser, study, screenshots, key, columns):
    open_view(browser, study, key, "TABLE")
    browser.wait(COLUMNS, lambda names: [name for name in names if name not in FIXED] == columns.split())
    browser.screenshot(screenshots / f"{key}_table.png")


@pytest.mark.parametrize(
    ("key", "kind", "titles", "grouped"),
    [
        ("lines", "cell", ("val/miou", "paper/miou"), "Group by: series"),
        ("trainings", "training",
         ("kernel_size vs. val/miou", "Parallel Coordinates", "samples", "tune/miou", "train/loss"), "Group by"),
        ("means", "training", ("val/miou", "kernel_size vs. val/miou"), "head: GCN, kernel_size: 15"),
        ("curves", "training", ("tune/miou", "train/loss"), "Group by: variant"),
    ],
)  # fmt: skip
def test_each_view_opens_with_runs_groups_and_charts(browser, study, screenshots, key, kind, titles, grouped):
    open_view(browser, study, key)
    drawn(browser, *titles)
    browser.screenshot(screenshots / f"{key}.png")
    text = browser.wait(TEXT, shown(grouped))
    assert f"{count(study, kind, key)} matching runs" in text.replace("\n", " ")


def test_lines_are_drawn_through_the_scores_not_smoothed(browser, study):
    open_view(browser, study, "lines")
    drawn(browser, "val/miou", "paper/miou")
    lines = "[...document.querySelectorAll('.js-plotly-plot')].flatMap(e => e.data.map(d => [...(d.y ?? [])]))"
    paper = [cell["paper"] for cell in study.plan["cells"] if cell["table"] == "T1" and cell["column"] != "base"]
    # The UI draws each line twice, bold as smoothed and faint as logged: both must be what the paper prints.
    browser.wait(lines, lambda found: [sorted(filter(None, y)) for y in found].count(sorted(paper)) == 2)


def test_a_cell_leads_to_seeds_report_and_boxes(browser, study, screenshots):
    def open_cell() -> None:
        open_view(browser, study, "cells")
        browser.wait(f"!!{link('T1/score/13')}")
        browser.run(f"{link('T1/score/13')}.click()")
        browser.wait(TEXT, shown("About this run", "Trainings of this table side by side"))
        browser.click("[...document.querySelectorAll('button')].find(e => e.innerText.trim() == 'Show more')")
        browser.wait(TEXT, shown("Show less"))

    open_cell()
    browser.screenshot(screenshots / "cell.png")
    browser.follow(link("1"))  # the seed that failed, with its reason
    browser.wait(TEXT, shown("GCN k=13, seed 1", "out of memory", "make retry"))
    browser.screenshot(screenshots / "failed_training.png")

    open_cell()
    browser.follow(link("Report"))
    browser.wait(TEXT, shown("report.pdf"))
    browser.wait("document.querySelectorAll('.react-pdf__Page canvas').length")
    browser.screenshot(screenshots / "report.png")

    open_cell()
    browser.follow(link("Trainings of this table side by side"))
    finished = len({key for c in study.plan["cells"] if c["table"] == "T1" for key in c["runs"].values()}) - 1
    browser.wait(TEXT, shown(f"Comparing {finished} Runs", "kernel_size", "val/miou"))
    browser.wait("document.querySelectorAll('.parcoords canvas, .js-plotly-plot').length")
    browser.screenshot(screenshots / "comparison.png")
    browser.click("[...document.querySelectorAll('[role=tab]')].find(e => e.innerText == 'Box Plot')")
    for axis, name in (("x", "kernel_size"), ("y", "val/miou")):
        browser.click(f"document.getElementById('{axis}-axis-selector')")
        browser.click(f"[...document.querySelectorAll('[role=option]')].find(e => e.innerText.trim() == '{name}')")
    kernels = {c["kernel_size"] for c in study.plan["cells"] if c["table"] == "T1"}
    browser.wait("document.querySelectorAll('.boxes path.box, path.box').length", lambda n: n == len(kernels))
    browser.screenshot(screenshots / "boxes.png")


def test_a_rebuilt_database_equals_what_the_stages_write(browser, study, tmp_path):
    folder = study.reports / "results"
    tracker = Tracker(tmp_path / "mlflow" / "mlflow.db", tmp_path / "mlflow" / "artifacts", NAME)
    for key, labels in study.plan["trainings"].items():
        done = results.status(folder / key) == results.DONE
        scores = (results.scores(folder / key, None), results.class_scores(folder / key)) if done else ({}, [])
        tracker.training(key, labels, folder / key, scores[0], study.plan["data"]["main"], scores[1])
    frame = results.frame(study.plan, folder)
    tracker.cells(study.plan, frame, results.summary(frame))
    tracker.report(study.reports / "report.pdf")
    assert content(tmp_path) == content(study.store.root)
