"""The JSON schema of params.yaml, with which editors complete and check it.

``python -m study.config.editor_schema`` writes params.schema.json, which the first line of params.yaml names.

The schema has the kinds and ranges of study.config.schema. Rules that involve several values, files or the paper are
checked when a command reads params.yaml.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from study.config.inheritance import LIKE
from study.config.schema import Params

FILE = Path("params.schema.json")
REFERENCE, PART = "#/$defs/", "PartOf"


def written() -> str:
    """The content of params.schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Pydantic's schema, extended: a tier with `like:` may omit keys that it inherits, or remove them with null."""
    found = Params.model_json_schema()
    whole = found["$defs"]
    parts = {PART + name: _part(block) for name, block in whole.items()}
    parts[PART + "Tier"]["properties"][LIKE] = {
        "description": "Another tier to inherit from: the keys given here override its keys; null removes one.",
        "type": "string",
    }
    found["$defs"] = whole | parts
    found["properties"]["tiers"]["additionalProperties"] = {
        "if": {"required": [LIKE]},
        "then": {"$ref": f"{REFERENCE}{PART}Tier"},
        "else": {"$ref": f"{REFERENCE}Tier"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found


def _part(block: dict[str, Any]) -> dict[str, Any]:
    """A block in which every key may be omitted or null."""
    found = _renamed(copy.deepcopy(block))
    found.pop("required", None)
    found["properties"] = {
        name: {"anyOf": [value, {"type": "null"}]} for name, value in found.get("properties", {}).items()
    }
    return found


def _renamed(value: Any) -> Any:
    """References to blocks become references to their partial versions, and entries of mappings may be null."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _renamed(item) for key, item in value.items()}
    if isinstance(found.get("$ref"), str):
        found["$ref"] = found["$ref"].replace(REFERENCE, REFERENCE + PART)
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = {"anyOf": [found["additionalProperties"], {"type": "null"}]}
    return found


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
