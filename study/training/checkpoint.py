"""A checkpoint: the digest of its bytes, then the bytes, in one file that is replaced as a whole."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from study.store.runs import write

DIGEST = hashlib.sha256().digest_size


class _Hashed:
    """A file that is written once, from start to end, with the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def save(path: Path, content: Mapping[str, object]) -> None:
    """Write tensors, numbers and texts without a copy in memory. Raises StoreError if the disk is full or not
    writable."""

    def fill(file: BinaryIO) -> None:
        file.write(bytes(DIGEST))
        hashed = _Hashed(file)
        torch.save(content, hashed)  # type: ignore[arg-type]
        file.seek(0)
        file.write(hashed.digest.digest())

    write(path, fill)


def load(path: Path) -> dict[str, object] | None:
    """The saved content, on the CPU; None if the file is missing, damaged, or holds objects that ``save`` does not
    write."""
    try:
        with path.open("rb") as file:
            known = file.read(DIGEST)
            content = io.BytesIO(file.read())
    except OSError:
        return None
    if hashlib.sha256(content.getbuffer()).digest() != known:
        return None
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None
