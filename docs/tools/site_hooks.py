"""Pages of the site that are not files of docs/: the README as its home, the decisions, and the API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
API = {
    "Heads and variants": "study.spec.heads",
    "Claims": "study.paper.predicates",
    "Metrics": "study.metrics",
    "Networks": "study.models.build",
    "A trained model": "study.inference.exported",
    "Verdicts": "study.statistics.verdicts",
    "The run store": "study.store.runs",
}


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Add the pages, with their links as the site has them."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Links of a page that lead out of docs/ become plain words: the site has only its pages."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./|recipes/|example/)[^)]*\)", r"\1", markdown)


def pages() -> dict[str, str]:
    """The text of each page by its name."""
    home = (ROOT / "README.md").read_text(encoding="utf-8")
    home = re.sub(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)\n", "", home)  # the picture lies outside of the site
    home = home.replace("](docs/", "](").replace("](reports/decisions.md)", "](decisions.md)")
    home = re.sub(r"\[([^\]]+)\]\((?:example/[^)]*|[A-Z]+(?:\.md|\.cff)?)\)", r"\1", home)
    api = ["# API", "Made from the docstrings.", ""]
    for title, module in API.items():
        api += [f"## {title}", f"::: {module}", ""]
    decisions = (ROOT / "reports" / "decisions.md").read_text(encoding="utf-8")
    decisions = re.sub(r"\[([^\]]+)\]\((?!http|#)[^)]*\)", r"\1", decisions)
    return {"index.md": home, "api.md": "\n".join(api), "decisions.md": decisions}
