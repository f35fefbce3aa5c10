"""Data sets are plug-ins: finds the module of a data set by name, and checks its options."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from study.spec.errors import InputError
from study.spec.training import Data, thawed


def module_of(data: Data, where: str | None = None) -> tuple[ModuleType, Any]:
    """The module of a data set, and its checked ``Options``, a Block of study.spec.checks. ``where`` is their place in
    params.yaml, if they come from there.

    Raises InputError for unknown options, missing options and invalid values.
    """
    from study.spec import checks  # imported here: a training on cached data can do without pydantic

    module, options = importlib.import_module(f"study.data.sets.{data.name}"), thawed(data.options)
    block: type[checks.Block] = module.Options
    required, optional = checks.keys_of(block)
    if wrong := sorted(required - options.keys() | options.keys() - required - optional):
        raise InputError(
            f"data {data.name} must have the options {sorted(required)}"
            f"{f' and may have {sorted(optional)}' if optional else ''}, got {sorted(options)}; "
            f"{'add' if wrong[0] in required else 'remove'} {wrong[0]!r} in params.yaml"
        )
    return module, checks.checked(block, options, where or (lambda key: f"the {key} of {data.name}"))
