"""The commit that the project stands at, and whether its files differ from it."""

from __future__ import annotations

import subprocess

from study import tier

DIRTY = "-dirty"  # after the hash, as `git describe --dirty` writes it


def head() -> str:
    """The hash of the commit, "" outside of a repository."""
    return _git("rev-parse", "HEAD")


def dirty() -> bool:
    """Whether tracked files differ from the commit; the choice of a tier and of a search, which are inputs, do not
    count, nor does what DVC and the stages write of what they made (where somebody has committed it)."""
    if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!params.yaml", ":!dvc.lock", ":!tiers"):
        return True
    ours, committed = tier.read(), tier.content(_git("show", "HEAD:./params.yaml")) or {}
    chosen = dict.fromkeys(("tier", tier.TUNE))
    return ours | chosen != committed | chosen


def described() -> str:
    """The hash, with DIRTY after it where files differ from it; "" outside of a repository."""
    return found + DIRTY * dirty() if (found := head()) else ""


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
