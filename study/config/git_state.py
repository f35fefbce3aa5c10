"""The project's current commit, and whether its files differ from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from study.config import tiers

NONE = os.devnull  # as GIT_DIR: do not look for a commit
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
LOCAL = Path(".dvc") / "config.local"
NO_GIT = "    no_scm = true  # as long as there is no git repository\n"
DIRTY = "-dirty"  # suffix of the hash, as in `git describe --dirty`


def head() -> str:
    """The hash of the commit; "" outside a repository."""
    return _git("rev-parse", "HEAD")


def dirty() -> bool:
    """Whether tracked files differ from the commit. The chosen tier and search are inputs and do not count; neither do
    the records that DVC and the stages write, if they are committed. False without a commit."""
    if not head():
        return False
    others = [".", *(f":!{name}" for name in ("params.yaml", "dvc.lock", "tiers"))]
    if _git("status", "--porcelain", "--untracked-files=no", "--", *others):
        return True
    ours = tiers.content(Path("params.yaml").read_text(encoding="utf-8"))
    committed = tiers.content(_git("show", "HEAD:./params.yaml")) or {}
    chosen = dict.fromkeys(("tier", tiers.TUNE))
    return ours | chosen != committed | chosen


def described() -> str:
    """The hash, followed by DIRTY if files differ from it; "" outside a repository."""
    return found + DIRTY * dirty() if (found := head()) else ""


def lacking() -> str:
    """Why the commit is unknown, and the remedy, in words; "" if it is known or GIT_DIR is NONE."""
    if os.environ.get("GIT_DIR") == NONE:
        return ""
    try:
        ended = _asked("rev-parse", "HEAD")
    except OSError as error:
        return f"git cannot be run ({error.strerror}); install it"
    if not ended.returncode:
        return ""
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    if "dubious ownership" in ended.stderr:
        return f"git refuses the repository of another user; run `{lines[-1]}`"  # git's own remedy
    if not _in_repository():
        return "the project is not in a git repository; clone it, or run `git init` and commit"
    if "unknown revision" in ended.stderr:
        return "the repository has no commit yet; commit the project's files"
    return f"git says {lines[0] if lines else 'nothing'}; commit the project's files"


def note() -> None:
    """Print a note if the results will have no commit."""
    if why := lacking():
        print(f"note: results will have no commit, because {why}", flush=True)


def tell_dvc(settings: Path = LOCAL) -> None:
    """Let DVC run without a git repository if there is none, through its local settings for this folder. Undo that once
    there is a repository."""
    text = before = settings.read_text() if settings.is_file() else ""
    if _in_repository():
        text = text.replace(NO_GIT, "")
    elif "no_scm" not in text:
        head, core, rest = text.partition("[core]\n")
        text = f"{head}[core]\n{NO_GIT}{rest}" if core else f"{text}[core]\n{NO_GIT}"
        print("note: without a git repository, `dvc exp` does not work; everything else does", flush=True)
    if text != before:
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(text)


def _in_repository() -> bool:
    return any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents))


def _git(*words: str) -> str:
    try:
        ended = _asked(*words)
    except OSError:
        return ""
    return "" if ended.returncode else ended.stdout.strip()


def _asked(*words: str) -> subprocess.CompletedProcess[str]:
    """Run git on the project's own repository, whatever repository the environment variables name."""
    environment = os.environ | {"LC_ALL": "C"}
    for name in ELSEWHERE:
        if environment.get(name) != NONE:
            environment.pop(name, None)
    return subprocess.run(["git", *words], capture_output=True, text=True, env=environment)
