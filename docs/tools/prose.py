"""Check the prose of pages, docstrings and messages: ``python docs/tools/prose.py`` (part of `make check`).

proselint reads the pages. The phrases of ``HOUSE`` read badly in this project's prose; they are looked for in the pages
and in every docstring and message of the code. ``EXCEPTIONS`` has the few places that keep one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "reports/decisions.md")
CODE = ("study", "pipelines", "benchmarks")
# phrase -> what to write instead
HOUSE = {
    r"hangs? on": "depends on",
    r"(can|to) be had": "is available",
    r"(is|are|was|were) told( of)?": "reports, prints, says",
    r"tells? of": "describes",
    r"anew": "again, from scratch",
    r"nothing but": "only",
    r"so many (?!\w+ that\b)": "the number, or 'that many'",
    r"stands? beside": "is next to",
    r"stands? amid": "is among",
    r"in a way of its own": "in its own way",
    r"of so (many|much|long)": "the number",
    r"wants? to be": "must be",
    r"(there|here)(of|by|upon)": "a plain clause",
    r"for want of": "without",
    r"save for": "except",
    r"as it were": "nothing",
    r"goes by": "depends on, uses",
}
EXCEPTIONS = {  # file -> phrases that it may keep
    "study/ablation/explore_study.py": ("anew",),  # the variable ANEW of `make explore`
    "study/commands/reproduce.py": ("anew",),  # its argument
    "docs/exploring.md": ("anew",),
}


def main() -> int:
    """The exit status: 1 if a page or a message reads badly."""
    found = list(_house())
    for line in found:
        print(line)
    pages = [str(path) for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    linter = [str(Path(sys.executable).with_name("proselint")), "check", "-o", "compact"]
    ended = subprocess.run([*linter, "--config", str(Path(__file__).with_name("proselint.json")), *pages])
    return int(bool(found) or ended.returncode != 0)


def _house() -> Iterator[str]:
    """A line for each phrase of HOUSE in the pages and the code."""
    phrases = {re.compile(rf"(?i:\b{phrase}\b)"): better for phrase, better in HOUSE.items()}
    for name, number, text in _texts():
        for phrase, better in phrases.items():
            for hit in phrase.finditer(text):
                if hit.group().lower() not in EXCEPTIONS.get(name, ()):
                    line = number + text[: hit.start()].count("\n")
                    yield f"{name}:{line}: {hit.group()!r} reads badly; write: {better}"


def _texts() -> Iterator[tuple[str, int, str]]:
    """File, line and text of each page, docstring, comment and message."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix(), 1, path.read_text(encoding="utf-8")
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    yield name, node.lineno, node.value
            for number, line in enumerate(source.splitlines(), 1):
                if comment := re.search(r"(?:^|\s)#\s(.*)$", line):
                    yield name, number, comment.group(1)


if __name__ == "__main__":
    sys.exit(main())
