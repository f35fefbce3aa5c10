"""Finds, downloads and unpacks the archives of data sets.

Archives that the user provides are used in place and never deleted. Missing archives are downloaded if they are public.
An interrupted download resumes; an interrupted unpacking starts again. Downloads stay in ``.downloads`` below the root
until they are unpacked.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests
from filelock import FileLock

from study.data.unpack import BROKEN, PIECE, Tick, unpack
from study.spec.digest import digest
from study.spec.errors import InputError
from study.store.runs import StoreError

RESUMES, PAUSE_S = 5, 1.0  # if a mirror sent something before the connection broke; each pause is longer
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces
UNPACKED = 2  # approximate bytes on disk for each byte of an archive


@dataclass(frozen=True)
class Archive:
    """One file of a data set: approximate ``size`` in bytes; ``checksum`` "md5:<hex>", "sha256:<hex>", or "" for none.

    ``provides`` lists the paths below the root that exist once it is unpacked into ``into``, a folder below the root.
    ``urls`` are its mirrors, best first. An archive behind a login has none; ``where`` says where a person can get it.
    """

    name: str
    provides: tuple[str, ...]
    size: int
    checksum: str
    urls: tuple[str, ...] = ()
    into: str = ""
    where: str = ""

    def marker(self, root: Path) -> Path:
        """A file that exists during unpacking, and remains if that is interrupted."""
        return root / f".unpacking-{self.name}"

    def part(self, root: Path) -> Path:
        """The part that is downloaded so far."""
        return root / ".downloads" / f"{self.name}.part"


def mirrors_from(text: str | None) -> tuple[str, ...]:
    """Split the text of STUDY_MIRROR into folders and base URLs, which white space separates."""
    return tuple((text or "").split())


def missing(archives: Iterable[Archive], root: Path) -> list[Archive]:
    """Archives with missing files or an unfinished unpacking."""
    return [a for a in archives if a.marker(root).exists() or not all((root / path).exists() for path in a.provides)]


def silent(what: str) -> Tick:
    return lambda done, every: None


def fetch(
    archives: Iterable[Archive], root: Path, mirrors: tuple[str, ...] = (), tick_of: Callable[[str], Tick] = silent
) -> None:
    """Download and unpack all missing archives. ``tick_of`` maps the name of a step to its progress callback.

    Raises InputError for archives that need a login, that no mirror has, or that have the wrong content; StoreError if
    the disk is full or not writable.
    """
    folders = [Path(mirror).expanduser() for mirror in mirrors if "://" not in mirror]
    if wrong := [masked(str(folder)) for folder in folders if not folder.is_dir()]:
        raise InputError(f"a mirror must be an existing folder or a base URL, got {wrong[0]}; correct STUDY_MIRROR")
    try:
        if not (wanted := missing(dict.fromkeys(archives), root)):
            return
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fetch.lock"):
            wanted = missing(wanted, root)  # another process may have been here meanwhile
            urls = {a: [*(_url(mirror, a.name) for mirror in mirrors if "://" in mirror), *a.urls] for a in wanted}
            places = {a: _place(a, root, folders) for a in wanted}
            _demand([a for a in wanted if not (places[a] or a.urls or any(map(_gives, urls[a])))], root)
            _need_room(wanted, [a for a in wanted if not places[a]], root)
            for a in wanted:
                path = places[a] or _download(a, urls[a], root, tick_of(f"fetching {a.name}"))
                try:
                    _unpack(a, path, root, tick_of(f"unpacking {a.name}"))
                except InputError:
                    _discard(path)  # otherwise the next run would find it again
                    raise
                _discard(path)
                _discard(a.part(root))  # left by an earlier run, before the user provided the file
    except OSError as error:
        raise StoreError(
            f"{root} must be a writable folder with free space, got {error}; free some space or correct the "
            "permissions and run the same command again (downloads are kept)"
        ) from error


def masked(text: str) -> str:
    """Hide the parts of URLs in a text that may be secret: users, passwords and queries."""
    return re.sub(r"[?#]\S+", "?***", re.sub(r"(://|^[^\s/]*:(?!//))\S*@", r"\1***@", text))


def _url(base: str, name: str) -> str:
    path, mark, query = base.partition("?")  # a token may follow the path
    return f"{path.rstrip('/')}/{quote(name)}{mark}{query}"


def _origin(path: Path) -> Path:
    """A note next to a download with its source and version. A file without such a note belongs to the user."""
    return path.with_name(f"{path.name}.from")


def _discard(path: Path) -> bool:
    """Delete a file that we downloaded. Returns False for a user's file, which stays."""
    if ours := _origin(path).is_file():
        path.unlink(missing_ok=True)
        _origin(path).unlink()
    return ours


def _place(archive: Archive, root: Path, folders: list[Path]) -> Path | None:
    """The path of the archive if it exists. Raises InputError if the user provided another file under its name."""
    for folder in (root, root / archive.into, root / ".downloads", *folders):
        path = folder / archive.name
        if path.is_file():
            if not (fault := _fault(archive, path)):
                return path
            if not _discard(path):
                raise InputError(f"{path} must be the published file, got {fault}; replace it or move it away")
    return None


def _fault(archive: Archive, path: Path) -> str:
    """What is wrong with a file: its digest or, if none is published, that it is not an archive. "" if nothing is
    wrong."""
    if not archive.checksum:
        opens = zipfile.is_zipfile if archive.name.endswith(".zip") else tarfile.is_tarfile
        return "" if opens(path) else "no archive"
    kind, _, expected = archive.checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return "" if found == expected.lower() else f"another one (expected {kind} {expected}, found {found})"


def _gives(url: str) -> bool:
    """Whether a mirror has the file. Reads none of it."""
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S) as response:
            return response.ok
    except requests.RequestException:
        return False


def _demand(absent: list[Archive], root: Path) -> None:
    """Raises one InputError for all archives that a person must download."""
    files = [
        f"put {a.name} (about {a.size / 1e9:.1f} GB; {a.where or 'from its publisher'}) into {root}, or unpack it so "
        f"that {' and '.join(str(root / path) for path in a.provides)} exist"
        + (f" and delete {a.marker(root)}" if a.marker(root).exists() else "")
        for a in absent
    ]
    if files:
        raise InputError(
            "files behind a login must be in place before any download (only a person with an account can get them), "
            f"got none of {', '.join(a.name for a in absent)}; {'; '.join(files)}"
        )


def _need_room(wanted: list[Archive], downloaded: list[Archive], root: Path) -> None:
    """Raises StoreError if the disk cannot hold all unpacked files and the largest download (they run one at a
    time)."""
    need = sum(UNPACKED * a.size for a in wanted) + max((a.size for a in downloaded), default=0)
    need -= sum(part.stat().st_size for part in (root / ".downloads").glob("*.part"))
    if need > (free := shutil.disk_usage(root).free):
        raise StoreError(
            f"the disk of {root} must have about {need / 1e9:.1f} GB free ({', '.join(a.name for a in wanted)} "
            f"and their content), got {free / 1e9:.1f} GB; free some space or name another folder"
        )


def _download(archive: Archive, urls: list[str], root: Path, tick: Tick) -> Path:
    """Download a file to .downloads and verify it. Raises InputError with the reason of each mirror if all fail."""
    part = archive.part(root)
    part.parent.mkdir(exist_ok=True)
    reasons = []
    for url in urls:
        if not (reason := _transfer(url, part, archive.size, tick)):
            if not (reason := _fault(archive, part)):
                whole = part.replace(part.with_name(archive.name))
                _origin(part).replace(_origin(whole))
                return whole
            _discard(part)
        reasons.append(f"{masked(url)} : {reason}")
    raise InputError(
        f"{archive.name} must be available from a mirror, got {', '.join(reasons)}; put the file into "
        f"{root} by hand, or set STUDY_MIRROR to a folder or a base URL that has it"
    )


def _transfer(url: str, part: Path, size: int, tick: Tick) -> str:
    """Complete ``part`` from one mirror. Returns the reason of a failure, "" on success."""
    begun, reason = False, ""
    for attempt in range(1 + RESUMES):
        time.sleep(PAUSE_S * attempt)
        source, _, version = (_origin(part).read_text() if _origin(part).is_file() else "").partition(" ")
        # Resume another mirror's download only if the server can confirm that it has the same version.
        have = done = part.stat().st_size if part.is_file() and (version or source == digest(url)) else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        every = None
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
                code, told = response.status_code, response.headers.get("Content-Range", "")
                length = told.rpartition("/")[2] if told else response.headers.get("Content-Length", "")
                every = int(length) if length.isdigit() else None
                given = response.headers.get("ETag", "W/")
                if given.startswith("W/"):  # weak tags never match
                    given = response.headers.get("Last-Modified", "")
                if have and code == 416 and every == have:
                    return ""
                goes_on = code == 206 and told.startswith(f"bytes {have}-") and given in ("", version)
                if have and code in (206, 416) and not goes_on:
                    part.unlink()  # the file has changed: start again
                    continue
                if code != 200 and not goes_on:
                    raise requests.HTTPError(f"HTTP {code}", response=response)
                # Do not decompress a .tar.gz that the server declares to be a gzip-encoded .tar.
                response.raw.headers.pop("Content-Encoding", None)
                with part.open("ab") as file:
                    done = have if goes_on else 0
                    file.truncate(done)
                    if not goes_on:
                        _origin(part).write_text(f"{digest(url)} {given}")
                    for piece in response.iter_content(PIECE):
                        file.write(piece)
                        begun, done = True, done + len(piece)
                        tick(done, every or max(size, done))
                if every in (None, done):
                    return ""
                reason = "truncated"
        except requests.HTTPError as error:
            reason = str(error)
        except requests.RequestException as error:
            reason = type(error).__name__  # its own text would show the whole URL
        if not begun:
            break
        reason += f" at {done} of {every or 'unknown'} bytes"
    return reason


def _unpack(archive: Archive, path: Path, root: Path, tick: Tick) -> None:
    """Unpack below the root. Raises InputError for an archive that is broken, unsafe or the wrong one."""
    marker = archive.marker(root)
    marker.touch()
    try:
        unpack(path, root / archive.into, tick, known=bool(archive.checksum))
    except BROKEN as error:
        raise InputError(
            f"{path} must be a whole archive, got a broken or truncated one ({error}); fetch it again, or unpack it by "
            f"hand and delete {marker}"
        ) from error
    marker.unlink()
    if absent := [name for name in archive.provides if not (root / name).exists()]:
        raise InputError(
            f"{path} must hold {', '.join(archive.provides)}, got an archive without {', '.join(absent)}; use "
            "the published one"
        )
