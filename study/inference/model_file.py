"""A model in one file, ``<cell>.safetensors``: tensors, and everything else as JSON in the metadata key STUDY (D140).

Reading needs only safetensors and JSON: nothing is unpickled, so a stranger's file runs no code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from study.spec.checks import fits
from study.spec.documents.models import ModelFile
from study.spec.documents.reading import version_of
from study.spec.errors import InputError
from study.store import runs

STUDY = "study"  # the only metadata key: several would have no order, and equal models must give equal bytes
PROJECT = "large-kernel-study"
Tensors = dict[str, torch.Tensor]


def write(path: Path, about: ModelFile, tensors: Tensors) -> ModelFile:
    """Write a model. Returns ``about`` with the digest. Raises StoreError if the disk is full or not writable."""
    tensors = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    about = cast(ModelFile, about | {"sha256": _digest(about, tensors)})
    content = save(tensors, {STUDY: json.dumps(about, ensure_ascii=False)})
    runs.write(path, lambda file: file.write(content))
    return about


def read(path: Path) -> tuple[ModelFile, Tensors]:
    """Read what ``write`` wrote. Raises InputError for a file that is missing, damaged, from other software or of
    another version."""
    about, tensors = _opened(path, whole=True)
    if _digest(about, tensors) != about["sha256"]:
        raise InputError(f"a model must be unchanged, got {path} with other content; copy it again")
    return about, tensors


def about(path: Path) -> ModelFile:
    """The metadata alone. The digest is not checked. Raises InputError as ``read`` does."""
    return _opened(path, whole=False)[0]


def _opened(path: Path, whole: bool) -> tuple[ModelFile, Tensors]:
    if not path.is_file():
        raise InputError(
            f"a model must be a file, got no file {path}; name one, such as reports/<tier>/weights/<cell>.safetensors"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(STUDY)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"a model must be a whole .safetensors file (nothing else is loaded: it could run code), got {path} "
            f"({error}); copy it again, or run `make repro` of its tier"
        ) from error
    return _told(text, path), tensors


def _told(text: str | None, path: Path) -> ModelFile:
    """The metadata, checked."""
    try:
        found: Any = json.loads(text or "null")
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("project") != PROJECT:
        raise InputError(
            f"a model must be written by this project (its metadata say how it is built), got {path} from other "
            "software; use a file of reports/<tier>/weights/"
        )
    if found.get("version") != version_of(ModelFile):
        raise InputError(
            f"a model must have format version {version_of(ModelFile)}, got {found.get('version')!r} in {path} "
            "(another version of the code wrote it); use that version, or run `make repro` of its tier again"
        )
    if wrong := fits(ModelFile, found):
        raise InputError(f"a model's metadata must be as the code writes them, got {wrong} in {path}; copy it again")
    return cast(ModelFile, found)


def _digest(about: ModelFile, tensors: Tensors) -> str:
    """sha256 over all of ``about`` except the digest itself, and over the tensors with their names and shapes."""
    told = {name: value for name, value in about.items() if name != "sha256"}
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
