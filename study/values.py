"""Kinds of values that a user gives, each with its range and its words, and blocks of them.

``steps: Annotated[int, whole(1, 1000)]`` in a class that is a Block says of a key all there is to say: study.schema has
those of params.yaml, ``Options`` of a data set those of its options. ``checked`` reads one. Each failure is one
InputError: the place, the rule, the value, the remedy.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic import model_validator as _model_validator
from pydantic_core import CoreSchema, core_schema

from study.spec import InputError

LARGEST = 2**63 - 1  # what tools behind us hold in 64 bits
SHOWN = 200  # characters of a wrong value
DEEPEST = 16  # lists and mappings in each other; an alias of YAML may name what it stands in
LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes that a file system takes
Place = Callable[[str], str]  # the key below a block, such as recipe.lr -> its place in words


class Broken(ValueError):
    """A rule that a value breaks; ``checked`` adds the place. ``at`` is the key below the block that tells it."""

    def __init__(self, must: str, got: str, remedy: str, at: str = "") -> None:
        super().__init__(must)
        self.must, self.got, self.remedy, self.at = must, got, remedy, at


class Kind:
    """What values of one kind must be, told in these words whatever is wrong; above ``most`` in words of its own."""

    def __init__(
        self, schema: CoreSchema | None, must: str, remedy: str, of_text: str = "", most: float | None = None
    ) -> None:
        self.schema, self.most = schema, most
        self.words = {"must": must, "remedy": remedy, "of_text": of_text or remedy}

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        schema = self.schema or handler(source)
        told = core_schema.custom_error_schema(
            schema, "kind", custom_error_message="{must}", custom_error_context=self.words
        )
        if self.most is None:
            return told
        return core_schema.no_info_after_validator_function(functools.partial(_at_most, self.most), told)


def _at_most(most: float, value: Any) -> Any:
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, int | float) and part > most:
            raise Broken(f"be at most {most:,}", shown(part), "take less")
    return value


def whole(least: int, most: int = LARGEST, must: str = "", remedy: str = "write one") -> Kind:
    """A whole number."""
    must = must or f"be a whole number from {least:,} up"
    return Kind(core_schema.int_schema(strict=True, ge=least), must, remedy, most=most)


def _finite(test: Callable[[float], bool]) -> Callable[[Any], float]:
    """Takes numbers as they are: 1 and 1.0 are two values of a training, and two keys."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not test(value):
            raise ValueError
        return value

    return check


def _number(test: Callable[[float], bool]) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(_finite(test))


DOTTED = "write it with a dot, such as 0.001 (YAML takes 1e-3 for text)"


def number(low: float, high: float) -> Kind:
    """A number from ``low`` to ``high``."""
    return Kind(
        _number(lambda value: low <= value <= high), f"be a number from {low:,} to {high:,}", "write one", DOTTED
    )


def above(low: int, most: float) -> Kind:
    """A number above ``low``, at most ``most``."""
    return Kind(_number(lambda value: value > low), f"be a positive number, above {low}", "write one", DOTTED, most)


def choice(*names: Any, must: str = "") -> Kind:
    """One of ``names``."""
    must = must or f"be one of {', '.join(map(str, names))}"
    return Kind(core_schema.literal_schema(list(names)), must, "rename it")


def either(word: str, kind: Kind, must: str) -> Kind:
    """``word``, or a value of ``kind``."""
    assert kind.schema is not None
    limited = core_schema.no_info_after_validator_function(
        functools.partial(_at_most, kind.most or LARGEST), kind.schema
    )
    return Kind(core_schema.union_schema([core_schema.literal_schema([word]), limited]), must, f"write {word}", DOTTED)


def share_or_path(must: str) -> Kind:
    """A number from 0 to 1, or the path of a file."""
    named = path()
    assert named.schema is not None
    return Kind(
        core_schema.union_schema([_number(lambda value: 0 <= value <= 1), named.schema]), must, "write one of them"
    )


def matching(pattern: str, must: str, remedy: str) -> Kind:
    """Text that is ``pattern`` from end to end."""
    return Kind(core_schema.str_schema(strict=True, pattern=f"^(?:{pattern})$"), must, remedy)


def _tested(schema: CoreSchema, test: Callable[[Any], bool], must: str, remedy: str) -> Kind:
    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError
        return value

    return Kind(core_schema.no_info_after_validator_function(check, schema), must, remedy)


def _nameable(text: str) -> bool:
    """Whether a file system can be asked for this path; what it holds is another question."""
    try:
        parts = Path(text).expanduser().parts
    except RuntimeError:  # the home of a user that there is not
        return False
    names = [len(part.encode()) for part in parts]
    return text.isprintable() and bool(names) and max(names) <= LONGEST_NAME and sum(names) < LONGEST_PATH


def path(must: str = "be a path", remedy: str = "write the path of a file or folder, in quotes") -> Kind:
    """The path of a file or folder, which need not be there."""
    return _tested(core_schema.str_schema(strict=True, min_length=1), _nameable, must, remedy)


def sides(
    most: int,
    must: str = "be two whole numbers from 1 up (height, width)",
    remedy: str = "write [512, 512]",
    least: int = 1,
) -> Kind:
    """A pair of whole numbers."""
    side = core_schema.int_schema(strict=True, ge=least)
    return Kind(core_schema.tuple_schema([side, side]), must, remedy, most=most)


def rule(test: Callable[[Any], bool], must: str, remedy: str, got: str = "") -> Any:
    """A rule beyond the kind of a value, such as of a list as a whole."""

    def check(value: Any) -> Any:
        if not test(value):
            raise Broken(must, got or shown(list(value) if isinstance(value, tuple) else value), remedy)
        return value

    return AfterValidator(check)


def words(must: str, remedy: str) -> Kind:
    """The words for whatever is wrong in a value of several parts."""
    return Kind(None, must, remedy)


def different(values: tuple[Any, ...]) -> bool:
    """Whether no value stands twice."""
    return len(set(values)) == len(values)


def _a_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise Broken("be a list", shown(value), "write it in brackets")
    return value


A_LIST = BeforeValidator(_a_list)  # before ``words`` for its content
YesNo = Annotated[
    bool, Kind(core_schema.bool_schema(strict=True), "be true or false", "write one of them, without quotes")
]
TEXT = core_schema.str_schema(strict=True, min_length=1, max_length=10_000, pattern=r"\S")
Text = Annotated[str, Kind(TEXT, "be text of at most 10,000 characters", "write it in quotes")]
Label = Annotated[
    str,
    matching(
        r"[^/\p{C}\s](?:[^/\p{C}]{0,198}[^/\p{C}\s])?", "be text of one line, without a slash", "write it in quotes"
    ),
]  # a name that others name, or that stands in a file's name
PathText = Annotated[str, path()]
FolderText = Annotated[str, path("be a folder below the root", "name the one that has them")]


def _share(value: Any) -> Fraction:
    """A number, or text such as 1/2; of few digits, as 1e999999999 would take all memory."""
    text = repr(value) if type(value) in (int, float) and abs(value) < 1e18 else value
    if not isinstance(text, str) or not re.fullmatch(r"\d{1,18}(/\d{1,9}|(\.\d{1,18})?(e[+-]?\d{1,3})?)", text.strip()):
        raise ValueError
    return Fraction(text)  # ZeroDivisionError is no ValueError


def share(most: int, why: str) -> Any:
    """A number, or a share such as 1/2, as a fraction."""

    def read(value: Any) -> Fraction:
        try:
            found = _share(value)
        except (ValueError, ZeroDivisionError):
            raise Broken("be a number or a share such as 1/2", shown(value), "write e.g. 1/2") from None
        if found > most:
            raise Broken(f"be at most {most:,} ({why})", shown(value), "take a share such as 1/2")
        return found

    return _Read(read)


class _Read:
    """A value that is read by a function."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)


def _loose(value: Any) -> Any:
    for part in _parts(value):
        if (isinstance(part, float) and not math.isfinite(part)) or (isinstance(part, int) and abs(part) > LARGEST):
            raise Broken(f"be finite and of at most {LARGEST:,}", shown(part), "write another number")
    return value


def _parts(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return [value] if inner is None else [part for item in inner for part in _parts(item)]


Loose = Annotated[Any, AfterValidator(_loose)]  # of a block that is checked elsewhere, or of a user's own module


class Block(BaseModel):
    """A mapping with known keys. Those without a default must be there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @_model_validator(mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Broken("be a mapping", shown(value), "write its keys below it")
        required, optional = keys_of(cls)
        if missing := sorted(required - value.keys()):
            raise Broken(*cls.lacking(missing[0], sorted(value)))
        unknown = sorted(value.keys() - required - optional)
        if unknown and cls.model_config["extra"] == "forbid":
            raise Broken("have known keys only", shown(unknown[0]), f"take one of {sorted(required | optional)}")
        return value

    @_model_validator(mode="after")
    def _whole(self) -> Self:
        self.check()
        return self

    @classmethod
    def lacking(cls, key: str, keys: list[str]) -> tuple[str, str, str]:
        """Rule, value and remedy of a key that is not among those that are there."""
        return f"have the key {key!r}", shown(keys), "add it"

    def check(self) -> None:
        """Raises Broken for values that do not go together."""


def keys_of(block: type[Block]) -> tuple[set[str], set[str]]:
    """The keys that a block must have, and those that it may have."""
    required = {name for name, field in block.model_fields.items() if field.is_required()}
    return required, block.model_fields.keys() - required


def checked(kind: Any, value: Any, where: str | Place) -> Any:
    """``value`` as ``kind`` reads it. ``where`` is its place, or makes one of the key below it.

    Raises InputError with the place, the rule, the value and the remedy.
    """
    place = where if callable(where) else functools.partial(_below, where)
    try:
        _plain(value)
        return _adapter(kind).validate_python(value)
    except Broken as broken:
        raise InputError(_told(broken, place(broken.at))) from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        # Neither the number of an entry in a list nor pydantic's mark of a key.
        names = [str(part) for part in fault["loc"] if not isinstance(part, int) and part != "[key]"]
        known, said = fault.get("ctx", {}), shown(fault["input"])
        cause = known.get("error")
        if isinstance(cause, InputError):
            raise InputError(f"{place('.'.join(names))}: {cause}") from None
        if not isinstance(cause, Broken):
            remedy = known.get("of_text" if isinstance(fault["input"], str) else "remedy", "correct it")
            of_type = {
                "kind": (known.get("must"), remedy),
                "tuple_type": ("be a list", "write it in brackets"),
                "dict_type": ("be a mapping", "write its keys below it"),
            }
            must, remedy = of_type.get(fault["type"], (f"be valid ({fault['msg']})", remedy))
            cause = Broken(str(must), said, remedy)
        raise InputError(_told(cause, place(".".join([*names, *([cause.at] if cause.at else [])])))) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where and key else where or key or "params.yaml"


def _told(broken: Broken, place: str) -> str:
    return f"{place} must {broken.must}, got {broken.got}; {broken.remedy}"


def _plain(value: Any, at: str = "", depth: int = 0) -> None:
    """Raises Broken for what YAML has and no key of ours takes: dates, sets, keys that are no text, endless nesting."""
    if depth > DEEPEST:
        raise Broken(f"be at most {DEEPEST} lists or mappings deep", "more", "name nothing that it stands in", at)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Broken("have keys that are text", shown(key), "write it in quotes, or rename it", at)
            _plain(item, f"{at}.{key}" if at else key, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, at, depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        raise Broken(
            "be text, a number, true, false, null, a list or a mapping", shown(value), "write it in quotes", at
        )


def shown(value: Any) -> str:
    """A value as an error quotes it, of no more than SHOWN characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
