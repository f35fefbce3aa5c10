"""Unpacks archives: writes nothing outside their folder, and raises an error for a broken one."""

from __future__ import annotations

import errno
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

from study.spec.errors import InputError

Tick = Callable[[int, int], None]
PIECE = 1 << 16  # bytes per read; an interrupted download loses no more than this
BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)


def unpack(path: Path, into: Path, tick: Tick, known: bool) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip into a folder; ``tick(done, all)`` counts bytes.

    ``known``: its checksum was verified, so its end is not checked. Raises one of BROKEN for a broken archive,
    InputError for a member whose path leads out of the folder, OSError before writing more than the disk has room for.
    """
    into.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        _unzip(path, into, tick)
    else:
        _untar(path, into, tick, known)


def _admit(path: Path, name: str, fault: object = None) -> None:
    """Raises InputError for a member with a ``fault``, or with a path that is absolute or leads out of its folder."""
    parsed = PureWindowsPath(name)  # knows the separators and roots of every system
    if fault or parsed.anchor or ".." in parsed.parts:
        raise InputError(
            f"every member of {path} must stay below its folder ({fault or 'nothing may be written elsewhere'}), got "
            f"{name!r}; use the published archive instead of this one"
        )


def _need_room(path: Path, into: Path, size: int) -> None:
    """Raises OSError if the unpacked content does not fit on the disk."""
    if size > (free := shutil.disk_usage(into).free):
        raise OSError(errno.ENOSPC, f"{path} holds {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free")


def _untar(path: Path, into: Path, tick: Tick, known: bool) -> None:
    with (
        path.open("rb") as file,
        file if path.suffix == ".tar" else gzip.GzipFile(fileobj=file) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        for member in tar:
            _admit(path, member.name)
            _need_room(path, into, member.size)
            try:
                tar.extract(member, into, filter="data")
            except tarfile.FilterError as error:
                _admit(path, member.name, error)
            tick(file.tell(), path.stat().st_size)
        if known:  # it is the published archive, even if its end is odd
            return
        # tarfile mistakes a damaged header, and a file cut between two members, for the end.
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")
        while stream.read(PIECE):  # the last bytes of a compressed file prove that it is whole
            pass


def _unzip(path: Path, into: Path, tick: Tick) -> None:
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        for member in members:
            _admit(path, member.filename, "it is a link" if stat.S_ISLNK(member.external_attr >> 16) else None)
        done, every = 0, sum(member.file_size for member in members)
        _need_room(path, into, every)
        for member in members:
            file.extract(member, into)
            done += member.file_size
            if done:
                tick(done, every)
