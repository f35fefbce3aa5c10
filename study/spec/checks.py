"""Kinds of user input, each with its range and its error messages, and blocks of them.

``steps: Annotated[int, whole(1, 1000)]`` in a subclass of Block declares a key completely. study.config.schema declares
the keys of params.yaml, and the class ``Options`` of a data set its options. ``checked`` reads a value.
Each failure is one InputError: the place, the rule, the value, the remedy.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic import model_validator as _model_validator

from study.spec.errors import InputError
from study.spec.heads import PerClass

LARGEST = 2**63 - 1  # the tools that get the value hold it in 64 bits
NUMBERED = {"labels"}  # mappings of params.yaml whose keys may be whole numbers
SHOWN = 200  # characters of a wrong value that an error quotes
DEEPEST = 16  # nested lists and mappings; a YAML alias may refer to a mapping that contains it
LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes, the limits of file systems
DOTTED = "write it with a dot, such as 0.001 (YAML reads 1e-3 as text)"
PRINTED = r"[ -~\xa0-\ud7ff\ue000-\U0010ffff]"  # characters that files, databases and the report can hold
Test = Callable[[Any], bool]
Json = JsonValue  # any value that JSON has


class Broken(ValueError):
    """A rule that a value breaks; ``checked`` adds the place. ``at`` is the key at fault, below the block."""

    def __init__(self, must: str, got: str, remedy: str, at: str = "") -> None:
        super().__init__(must)
        self.must, self.got, self.remedy, self.at = must, got, remedy, at


def kind(
    test: Test, must: str, remedy: str, of_text: str = "", most: float | None = None, *, editor: Any = Any
) -> PlainValidator:
    """Values that pass ``test``, unchanged. ``most`` bounds a number, or each number of a list; ``of_text`` is the
    remedy for text. ``editor`` is the type that an editor checks and completes."""

    def read(value: Any) -> Any:
        if not test(value):
            raise Broken(must, shown(value), of_text if of_text and isinstance(value, str) else remedy)
        for part in value if isinstance(value, list | tuple) else (value,):
            if most is not None and part > most:
                raise Broken(f"be at most {most:,}", shown(part), "take less")
        return tuple(value) if isinstance(value, list) else value

    return PlainValidator(read, json_schema_input_type=editor)


def whole(least: int, most: int = LARGEST, must: str = "", remedy: str = "write one") -> PlainValidator:
    """A whole number."""
    must = must or f"be a whole number from {least:,} up"
    editor = Annotated[int, Field(ge=least, le=most)]
    return kind(lambda value: type(value) is int and value >= least, must, remedy, most=most, editor=editor)


def _number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def number(low: float, high: float) -> PlainValidator:
    """A number from ``low`` to ``high``. Its type is kept: 1 and 1.0 are two values, and give trainings two keys."""
    must = f"be a number from {low:,} to {high:,}"
    editor = Annotated[float, Field(ge=low, le=high)]
    return kind(lambda value: _number(value) and low <= value <= high, must, "write one", DOTTED, editor=editor)


def above(low: int, most: float) -> PlainValidator:
    """A number above ``low``, at most ``most``."""
    must = f"be a positive number, above {low}"
    editor = Annotated[float, Field(gt=low, le=most)]
    return kind(lambda value: _number(value) and value > low, must, "write one", DOTTED, most, editor=editor)


def choice(*names: Any, must: str = "") -> PlainValidator:
    """One of ``names``."""
    must = must or f"be one of {', '.join(map(str, names))}"
    editor = Literal[names]  # type: ignore[valid-type]
    return kind(
        lambda value: any(type(value) is type(n) and value == n for n in names), must, "rename it", editor=editor
    )


def either(word: str, other: PlainValidator, must: str) -> PlainValidator:
    """``word``, or a value of another kind."""
    editor = Literal[word] | other.json_schema_input_type  # type: ignore[valid-type]
    return kind(lambda value: value == word or _is(other, value), must, f"write {word}", editor=editor)


def by_name(one: PlainValidator) -> PlainValidator:
    """A non-empty mapping of names to values of a kind; for ``either``, which words the rule."""

    def test(value: Any) -> bool:
        return isinstance(value, dict) and bool(value) and all(_is_text(n) and _is(one, v) for n, v in value.items())

    editor = dict[str, one.json_schema_input_type]  # type: ignore[name-defined]
    return kind(test, "be values by name", "write e.g. {roof: 2.0}", editor=editor)


def _is(one: PlainValidator, value: Any) -> bool:
    try:
        one.func(value)  # type: ignore[call-arg]
    except Broken:
        return False
    return True


def matching(pattern: str, must: str, remedy: str) -> PlainValidator:
    """Text that matches ``pattern`` from end to end."""
    editor = Annotated[str, Field(pattern=f"^(?:{pattern})$")]
    return kind(
        lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)), must, remedy, editor=editor
    )


def is_path(value: Any) -> bool:
    """Whether this is a path that a file system accepts; it need not exist."""
    if not isinstance(value, str) or not re.fullmatch(f"{PRINTED}+", value):
        return False
    try:
        names = [len(part.encode()) for part in Path(value).expanduser().parts]
    except RuntimeError:  # the home folder of an unknown user
        return False
    return bool(names) and max(names) <= LONGEST_NAME and sum(names) < LONGEST_PATH


def path(must: str = "be a path", remedy: str = "write that of a file or folder, in quotes") -> PlainValidator:
    """The path of a file or folder, which need not exist."""
    return kind(is_path, must, remedy, editor=str)


def sides(
    most: int,
    must: str = "be two whole numbers from 1 up (height, width)",
    remedy: str = "write [512, 512]",
    least: int = 1,
) -> PlainValidator:
    """A pair of whole numbers."""
    side = Annotated[int, Field(ge=least, le=most)]
    return kind(
        lambda value: listed(value, lambda side: type(side) is int and side >= least) and len(value) == 2,
        must, remedy, most=most, editor=Annotated[list[side], Field(min_length=2, max_length=2)],  # type: ignore[valid-type]
    )  # fmt: skip


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return _number(value) and 0 <= value <= 1


def listed(value: Any, test: Test) -> bool:
    """Whether ``value`` is a list of values that pass ``test``."""
    return isinstance(value, list | tuple) and all(map(test, value))


def either_block(block: type[Block], read: Callable[[Any], Any], editor: Any) -> PlainValidator:
    """A mapping is read as ``block``, any other value by ``read``."""

    def choose(value: Any) -> Any:
        return block.model_validate(value) if isinstance(value, dict) else read(value)

    return PlainValidator(choose, json_schema_input_type=editor | block)


def each(read: Callable[[Any], Any], known: tuple[str, ...] = ()) -> PlainValidator:
    """One value for all, or a mapping with a value for each name (of ``known``, if given), read by ``read``."""

    def choose(value: Any) -> Any:
        if not isinstance(value, dict):
            return read(value)
        if not value or (known and value.keys() - set(known)):
            must = f"have keys among {', '.join(known)}" if known else "have a key"
            raise Broken(must, shown([*map(str, value)]), "rename or drop the others")
        return {str(name): read(one) for name, one in value.items()}

    return PlainValidator(choose, json_schema_input_type=list[Any] | dict[str, list[Any]])


def names(least: int, most: int, must: str, remedy: str) -> PlainValidator:
    """A list of ``least`` to ``most`` different names."""

    def read(value: Any) -> Any:
        if isinstance(value, list | tuple) and (others := [name for name in value if not _is_text(name)]):
            raise Broken(
                "be names (YAML reads an unquoted yes, no or number as another type)", shown(others[0]),
                "write it in quotes",
            )  # fmt: skip
        if not listed(value, _is_text):
            raise Broken(must, shown(value), remedy)
        if not least <= len(value) <= most:
            raise Broken(must, f"{len(value)} names", "merge some" if len(value) > most else "name more")
        if not different(value):
            raise Broken(must, shown(value), "give each label a name of its own")
        return tuple(value)

    editor = Annotated[list[str], Field(min_length=least, max_length=most)]
    return PlainValidator(read, json_schema_input_type=editor)


def different(values: Any) -> bool:
    """Whether all values differ."""
    return len(set(values)) == len(values)


def rule(test: Test, must: str, remedy: str, got: str = "") -> AfterValidator:
    """A further rule for a value, such as one for a list as a whole."""

    def check(value: Any) -> Any:
        if not test(value):
            raise Broken(must, got or shown(value), remedy)
        return value

    return AfterValidator(check)


def _is_text(value: Any) -> bool:
    return (
        isinstance(value, str)
        and bool(value.strip())
        and bool(re.fullmatch(rf"(?:{PRINTED}|[\n\t]){{1,10000}}", value))
    )


A_LIST = kind(
    lambda value: listed(value, lambda _: True), "be a list", "write it in brackets", editor=list[Any]
)  # of anything; a ``rule`` checks the list as a whole
YesNo = Annotated[
    bool, kind(lambda value: isinstance(value, bool), "be true or false", "write one of them", editor=bool)
]
Text = Annotated[str, kind(_is_text, "be text of at most 10,000 characters", "write it in quotes", editor=str)]
Label = Annotated[
    str,
    kind(
        lambda value: _is_text(value) and not re.search(r"[/\n\t]|^ | $", value) and len(value) <= 200,
        "be text of one line, without a slash", "write it in quotes", editor=str,
    ),
]  # a name that other keys refer to, or that becomes part of a file's name  # fmt: skip
PathText = Annotated[str, path()]
FolderText = Annotated[str, path("be a folder below the root", "name the one that has them")]


def share(most: int, why: str) -> PlainValidator:
    """A number, or a share such as 1/2, as a fraction. The number of digits is bounded: 1e999999999 would take all
    memory."""

    def read(value: Any) -> Fraction:
        text = repr(value) if _number(value) and abs(value) < 1e18 else value
        digits = r"-?\d{1,18}(/\d{1,9}|(\.\d{1,18})?(e[+-]?\d{1,3})?)"
        try:
            found = Fraction(text) if isinstance(text, str) and re.fullmatch(digits, text) else None
        except ZeroDivisionError:
            found = None
        if found is None:
            raise Broken("be a number or a share such as 1/2", shown(value), "write e.g. 1/2")
        if found > most:
            raise Broken(f"be at most {most:,} ({why})", shown(value), "take a share such as 1/2")
        return found

    return PlainValidator(read, json_schema_input_type=float | str)


def places_of(known: tuple[str, ...]) -> PlainValidator:
    """True, False, or some of the places ``known``."""

    def read(value: Any) -> bool | tuple[str, ...]:
        if isinstance(value, bool):
            return value
        if listed(value, known.__contains__) and different(value):
            return tuple(value)
        raise Broken(
            f"be true or false, or places among {', '.join(known)}", shown(value),
            f"write true, or e.g. [{known[0]}, {known[-1]}]",
        )  # fmt: skip

    return PlainValidator(read, json_schema_input_type=bool | list[str])


def stack_width(most: int) -> PlainValidator:
    """A share of the input's channels, or a number of channels per class, such as 10K."""
    of_channels = share(most, "of the input's channels")

    def read(value: Any) -> Fraction | PerClass:
        if isinstance(value, str) and (found := re.fullmatch(r"([1-9]\d{0,3})K", value)):
            return PerClass(int(found[1]))
        return of_channels.func(value)  # type: ignore[call-arg]

    return PlainValidator(read, json_schema_input_type=float | str)


def _loose(value: Any) -> Any:
    for part in _parts(value):
        if (isinstance(part, float) and not math.isfinite(part)) or (isinstance(part, int) and abs(part) > LARGEST):
            raise Broken(f"be finite and of at most {LARGEST:,}", shown(part), "write another number")
    return value


def _parts(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return [value] if inner is None else [part for item in inner for part in _parts(item)]


Loose = Annotated[Any, AfterValidator(_loose)]  # a value that is checked elsewhere, or belongs to a user's own module


class Block(BaseModel):
    """A mapping with known keys. Keys without a default are required."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @_model_validator(mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Broken("be a mapping", shown(value), "write its keys below it")
        required, optional = keys_of(cls)
        if missing := sorted(required - value.keys()):
            raise Broken(f"have the key {missing[0]!r}", shown(sorted(value)), "add it")
        unknown = sorted(value.keys() - required - optional)
        if unknown and cls.model_config["extra"] == "forbid":
            raise Broken("have known keys only", shown(unknown[0]), f"take one of {sorted(required | optional)}")
        return value

    @_model_validator(mode="after")
    def _whole(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raises Broken for values that do not go together."""


OPEN = ConfigDict(frozen=True, extra="allow")  # for a block that also takes other keys, unchecked


def keys_of(block: type[Block]) -> tuple[set[str], set[str]]:
    """The required and the optional keys of a block."""
    required = {name for name, field in block.model_fields.items() if field.is_required()}
    return required, block.model_fields.keys() - required


ODD_KEYS = {"missing": "no", "extra_forbidden": "the unknown key"}
OF_TYPE = {
    "tuple_type": ("be a list", "write it in brackets"),
    "dict_type": ("be a mapping", "write its keys below it"),
}


def checked(kind: Any, value: Any, where: str | Callable[[str], str]) -> Any:
    """``value`` as ``kind`` reads it. ``where`` is its place, or a function from the key below it to the place.

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
        # Leave out the index of a list entry and pydantic's mark of a key.
        names = [str(part) for part in fault["loc"] if not isinstance(part, int) and part != "[key]"]
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            raise InputError(f"{place('.'.join(names))}: {cause}") from None
        if not isinstance(cause, Broken):
            must, remedy = OF_TYPE.get(fault["type"], (f"be valid ({fault['msg']})", "correct it"))
            cause = Broken(must, shown(fault["input"]), remedy)
        raise InputError(_told(cause, place(".".join(filter(None, (*names, cause.at)))))) from None


def fits(kind: Any, value: Any) -> str:
    """What in a file's content does not fit ``kind``, in words; empty where all fits."""
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        if fault["type"] in ODD_KEYS:
            return f"{ODD_KEYS[fault['type']]} {place}"
        return f"{shown(fault['input'])} {f'at {place} ' if place else ''}({fault['msg']})"
    return ""


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where and key else where or key or "params.yaml"


def _told(broken: Broken, place: str) -> str:
    return f"{place} must {broken.must}, got {broken.got}; {broken.remedy}"


def _plain(value: Any, at: str = "", depth: int = 0) -> None:
    """Raises Broken for YAML that no key accepts: dates, sets, keys that are not text, endless nesting."""
    numbered = at.rpartition(".")[2] in NUMBERED
    if depth > DEEPEST:
        raise Broken(
            f"be at most {DEEPEST} lists or mappings deep", "more", "remove an alias that refers to its own mapping", at
        )  # fmt: skip
    if isinstance(value, dict):
        for key, item in value.items():
            if (
                numbered and isinstance(key, str) and any(type(other) is int for other in value)
            ):  # which DVC cannot sort
                raise Broken(
                    "have keys that are numbers", shown(key), "to cover all others, write `others: void` next to it", at
                )
            if not isinstance(key, str) and not (numbered and type(key) is int):
                raise Broken("have keys that are text", shown(key), "write it in quotes, or rename it", at)
            _plain(item, f"{at}.{key}" if at else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, at, depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        raise Broken(
            "be text, a number, true, false, null, a list or a mapping", shown(value), "write it in quotes", at
        )


def shown(value: Any) -> str:
    """A value as an error quotes it, of at most SHOWN characters; a tuple is shown as the list that the user wrote."""
    try:
        text = repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
