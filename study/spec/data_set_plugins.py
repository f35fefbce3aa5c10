"""Data sets are plug-ins: the module of a name, found when it is asked for, and its options checked."""

from __future__ import annotations

import importlib
from typing import Any

from study.spec import checks
from study.spec.errors import InputError
from study.spec.training import Data, thawed


def module_of(data: Data, where: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The module of a data set and its options; ``where`` is their place in params.yaml, if they come from there.

    Raises InputError for options that it does not have, that lack, or whose values it does not take.
    """
    module, options = importlib.import_module(f"study.data.sets.{data.name}"), thawed(data.options)
    block: type[checks.Block] | None = getattr(module, "Options", None)
    required, optional = checks.keys_of(block) if block else (module.OPTIONS, getattr(module, "OPTIONAL", set()))
    if wrong := sorted(required - options.keys() | options.keys() - required - optional):
        raise InputError(
            f"data {data.name} must have the options {sorted(required)}"
            f"{f' and may have {sorted(optional)}' if optional else ''}, got {sorted(options)}; "
            f"{'add' if wrong[0] in required else 'remove'} {wrong[0]!r} in params.yaml"
        )
    if block:
        checks.checked(block, options, where or (lambda key: f"the {key} of {data.name}"))
    return module, options
