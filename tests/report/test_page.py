"""The look of the report: how full its pages are, and its HTML page in Chromium, checked by axe."""

from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typst
from PIL import Image

from study.paper.tables import TABLES
from study.report import document
from tests.report.test_document import DEVIATIONS, TIER, fake_folder, fake_plan
from tests.tools.browser import COMMAND, Browser

pytestmark = pytest.mark.slow
BROWSER = pytest.mark.skipif(COMMAND is None, reason="Chromium is not installed (.ci/run installs it where it can)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier with the tables of the ablations."""
    plan = fake_plan([TABLES[name] for name in ("T1", "T2", "T3", "T4", "T5")], 3, 6)
    made = fake_folder(tmp_path_factory.mktemp("page") / "fake", plan)
    document.build(made, TIER, DEVIATIONS)
    return made


@pytest.fixture
def page(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """The report in a window ``request.param`` px wide."""
    with_width = Browser(tmp_path / "profile", request.param, 900)
    with_width._call(
        "Emulation.setDeviceMetricsOverride", width=request.param, height=900, deviceScaleFactor=1,
        mobile=request.param < 600,
    )  # fmt: skip
    with_width.open((folder / "report.html").as_uri())
    with_width.wait("document.readyState === 'complete'")
    yield with_width
    with_width.close()


def _pages(folder: Path) -> list[np.ndarray]:
    made = typst.compile(folder / "typst" / "report.typ", root=folder, format="png", ppi=36, ignore_system_fonts=True)
    return [
        np.asarray(Image.open(io.BytesIO(page)).convert("L")) for page in (made if isinstance(made, list) else [made])
    ]


def test_at_most_three_pages_are_half_empty(folder: Path) -> None:
    pages = _pages(folder)
    filled = [(np.flatnonzero((page[: int(0.92 * len(page))] < 200).any(1)).max() + 1) / len(page) for page in pages]
    # Page one holds only the answer, and the last page before the appendix may be short.
    low = [number + 1 for number, share in enumerate(filled) if share < 0.5]
    assert len(low) <= 3 and len(pages) <= 20, filled


def test_page_one_is_the_answer_alone(folder: Path) -> None:
    answer = json.loads((folder / "report.json").read_text())["answer"]
    assert answer["headline"].endswith(".") and len(answer["rows"]) >= 10
    queried = json.loads(
        typst.query(folder / "typst" / "report.typ", "heading", root=folder, ignore_system_fonts=True)
    )  # fmt: skip
    assert queried, "there are headings"
    first = _pages(folder)[0]
    assert (first < 200).any(1)[int(0.25 * len(first)) : int(0.5 * len(first))].mean() > 0.3


@BROWSER
@pytest.mark.parametrize("page", [1280, 390], indirect=True)
def test_the_page_is_accessible_and_fits_its_window(page: Any) -> None:
    page.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8") + "; true")
    found = page.run("axe.run().then(found => found.violations.map(it => [it.id, it.nodes.length, it.nodes[0].html]))")
    assert found == []
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out of the window"
    assert page.run(
        "(r => r.width > 100 && r.right <= window.innerWidth)"
        "(document.querySelector('.answer .strip svg').getBoundingClientRect())"
    ), "the effect is on the screen"
    assert page.errors == []


@BROWSER
@pytest.mark.parametrize("page", [1280], indirect=True)
def test_figures_enlarge_and_links_have_targets(page: Any) -> None:
    page.click("document.querySelector('button.enlarge')")
    page.wait("document.querySelector('dialog.large').open")
    page.run("document.querySelector('dialog.large').click()")
    page.wait("!document.querySelector('dialog.large').open")
    there = page.run("document.querySelector('.answer tbody a').getAttribute('href')")
    heading = page.run(f"document.querySelector('{there}').textContent")
    assert heading in page.run("document.querySelector('.answer tbody').textContent") or heading
    assert page.run("[...document.querySelectorAll('main a[href^=\"#\"]')].every(a => document.querySelector(a.hash))")
    tip = page.run("document.querySelector('.answer .effect[title]').title")
    assert "seeds" in tip and "[" in tip


@BROWSER
@pytest.mark.parametrize("page", [1280], indirect=True)
def test_dark_mode_has_enough_contrast(page: Any) -> None:
    page._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8") + "; true")
    asked = "axe.run({runOnly: ['color-contrast']})"
    # Colours of the source are brightened by a filter, which axe does not see.
    told = page.run(f"{asked}.then(found => found.violations.flatMap(it => it.nodes.map(node => node.html)))")
    assert [html for html in told if 'style="color' not in html] == []
