"""What a process can use of its machine: memory, cores, a folder for sockets, and paths that every tool accepts."""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from study.spec.errors import InputError

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# MLflow unquotes % and cuts at ?, Ray interprets quotes and \, : ends an entry of PATH, shells expand $ and `.
STORE_UNFIT, PROJECT_UNFIT = "%?", "%?'\"\\:$`"
SOCKETS = "/tmp"  # a folder with a short path
# A socket's path may have 107 bytes, and Ray's sockets take 68 of them below the folder for temporary files.
LONGEST_TEMPORARY = 36


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """CPU cores that this process may use: those that it may run on, or fewer under a container's quota."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *_quotas(cgroups, own)])))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """The CPU quotas, in cores, of the process's own cgroups (versions 2 and 1) and of all above them."""
    found: list[float] = []
    for line in _words(own, "\n"):
        _, controllers, path = line.split(":", 2)
        mounts = ["", "unified"] if not controllers else [controllers, "cpu"] if "cpu" in controllers.split(",") else []
        for mount in mounts:
            # A container may see its own cgroup as the root of the mount, so folders that do not exist are skipped.
            here = cgroups / mount / path.replace("..", "").strip("/")
            for folder in (here, *here.parents):
                if folder.is_relative_to(cgroups):
                    found += _quota(folder)
    return found


def _quota(folder: Path) -> list[float]:
    limit = _words(folder / "cpu.max") or [
        word for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for word in _words(folder / name)
    ]
    if len(limit) != 2 or limit[0] in ("max", "-1"):
        return []
    return [int(limit[0]) / int(limit[1])]


def _words(path: Path, mark: str | None = None) -> list[str]:
    try:
        return path.read_text().strip().split(mark)
    except OSError:
        return []


def checked(path: Path, what: str, remedy: str, unfit: str = STORE_UNFIT) -> Path:
    """``path``, which the error calls ``what``. Raises InputError if it has a character that some tool interprets."""
    text = str(path)
    if bad := "".join(c for c in dict.fromkeys(text) if c in unfit or c < " " or "\ud800" <= c <= "\udfff"):
        raise InputError(
            f"{what} must be a path without any of {unfit} (some tool would read it as another path), got "
            f"{text!r} with {bad!r}; {remedy}"
        )
    return path


def named(variable: str, unfit: str = STORE_UNFIT) -> Path | None:
    """The absolute path in an environment variable, with ``~`` expanded; None if the variable is unset or empty. Raises
    InputError for an unknown home folder and for a path that some tool cannot take."""
    if not (text := os.environ.get(variable)):
        return None
    path = os.path.expanduser(text)  # a shell leaves ~ in quotes as it is
    if path.startswith("~"):
        raise InputError(
            f"{variable} must begin with a home folder that exists, got {text!r}; write the whole path instead of ~"
        )
    checked(Path(path).resolve(), variable, "name another", unfit)
    return Path(path).absolute()


def ready() -> None:
    """Make this process and its children independent of the path in TMPDIR and of the terminal's character set. Raises
    InputError if some tool cannot take the path of the project or of its virtual environment, or if no folder for
    temporary files is usable."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the default of standard error
    for path, what in ((Path.cwd(), "the project's folder"), (Path(sys.prefix), "the virtual environment")):
        checked(path, what, "move the project, delete .venv and run `make setup` there", PROJECT_UNFIT)
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(
            f"the folder for temporary files must be writable, got none ({error.strerror}); name one in TMPDIR"
        ) from None
    if not re.fullmatch(rf"[\w./-]{{1,{LONGEST_TEMPORARY}}}", tempfile.gettempdir(), re.ASCII):
        _link()


def _link() -> None:
    """Set TMPDIR to a short link to the folder for temporary files: large files stay there, and sockets fit."""
    given = tempfile.gettempdir()
    try:
        folder = tempfile.mkdtemp(prefix="study-", dir=SOCKETS)
        os.symlink(given, f"{folder}/t")
    except OSError as error:
        raise InputError(
            f"TMPDIR must be a path of at most {LONGEST_TEMPORARY} plain characters (Ray puts its sockets there), got "
            f"{given}, and no short link to it can be made ({error}); name another"
        ) from None
    atexit.register(_remove, folder, os.getpid())
    os.environ["TMPDIR"], tempfile.tempdir = f"{folder}/t", None


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # forked children inherit the exit handler
        shutil.rmtree(folder, ignore_errors=True)
