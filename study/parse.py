"""Pieces of params.yaml -> values of the vocabulary. ``where`` is the piece's place in the file, for errors."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import Any

from study import checks, code
from study.spec import DECONVOLUTIONS, HEADS, Crf, Data, Head, Inference, InputError, Network, Recipe, Variant, freeze

WIDEST = 100_000  # the weights of so wide a stack can still be counted, though no memory holds them


def variant(block: dict[str, Any], where: str) -> Variant:
    """``{head: gcn, k: 15, refine: true, at: {res2: {head: dense, k: 1}}}``: all but head and k is optional."""
    checks.keys(block, where, {"head", "k"}, {"refine", "width", "at"})
    checks.mapping(block.get("at", {}), f"{where}.at")
    at = {level: head(other, f"{where}.at.{level}") for level, other in block.get("at", {}).items()}
    everywhere = head({key: block[key] for key in ("head", "k", "width") if key in block}, where)
    return Variant(everywhere, bool(block.get("refine", False)), tuple(sorted(at.items(), key=lambda item: item[0])))


def head(block: dict[str, Any], where: str) -> Head:
    """``{head: stack, k: 7, width: 1/2}``."""
    checks.keys(block, where, {"head", "k"}, {"width"})
    checks.choice(block["head"], HEADS, f"{where}.head")
    options = {}
    if "width" in block:
        if block["head"] != "stack":
            raise InputError(f"{where}.width must stand with head: stack only, got head: {block['head']}; drop it")
        try:
            options["width"] = Fraction(str(block["width"]))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"{where}.width must be a number or a share such as 1/2, got {block['width']!r}; write e.g. 1/2"
            ) from error
        if options["width"] > WIDEST:
            raise InputError(
                f"{where}.width must be at most {WIDEST:,} (of the input's channels), got {block['width']!r}; take a "
                "share such as 1/2"
            )
    return HEADS[block["head"]](block["k"], **options)


def data(block: dict[str, Any], where: str) -> Data:
    """A data set by the name of its module, with its options."""
    if "name" not in block:
        raise InputError(f"{where} must have a name, got {sorted(block)}; add the name of a data set")
    known = sorted(p.stem for p in (code.ROOT / "study" / "data").glob("[a-z]*.py") if p.stem != "pairs")
    checks.choice(block["name"], known, f"{where}.name")
    return Data(block["name"], freeze({key: value for key, value in block.items() if key != "name"}))


def network(block: dict[str, Any], where: str) -> Network:
    """A backbone with the levels at which heads stand."""
    checks.keys(block, where, {"backbone", "levels", "frozen", "output_stride", "options"}, {"fixed", "deconvolution"})
    try:
        code.entry("study.models.backbones", "BACKBONES", block["backbone"])
    except KeyError as error:
        raise InputError(
            f"{where}.backbone must be an entry of BACKBONES in study/models/backbones.py, got {block['backbone']!r}; "
            "rename it or add the entry"
        ) from error
    checks.sequence(block["levels"], f"{where}.levels")
    checks.mapping(block["options"], f"{where}.options")
    checks.whole(block["output_stride"], 1, f"{where}.output_stride")
    checks.yes_or_no(block["frozen"], f"{where}.frozen")
    if not block["levels"]:
        raise InputError(f"{where}.levels must name at least one level, got none; write e.g. [res4, res5]")
    checks.mapping(block.get("fixed", {}), f"{where}.fixed")
    fixed = tuple((at, head(block["fixed"][at], f"{where}.fixed.{at}")) for at in sorted(block.get("fixed", {})))
    deconvolution = block.get("deconvolution", DECONVOLUTIONS[0])
    checks.choice(deconvolution, DECONVOLUTIONS, f"{where}.deconvolution")
    return Network(
        block["backbone"], tuple(block["levels"]), freeze(block["options"]), block["frozen"], block["output_stride"],
        fixed, deconvolution,
    )  # fmt: skip


def recipe(block: dict[str, Any], where: str) -> Recipe:
    """How to train; ``crop`` (height, width) is optional."""
    checks.keys(block, where, {field.name for field in fields(Recipe)} - {"crop"}, {"crop"})
    checks.choice(block["optimizer"], ("sgd", "adamw"), f"{where}.optimizer")
    checks.choice(block["schedule"], ("constant", "cosine", "poly"), f"{where}.schedule")
    checks.choice(block["precision"], ("fp32", "bf16", "auto"), f"{where}.precision")
    for key in ("steps", "batch", "validations"):
        checks.whole(block[key], 1, f"{where}.{key}")
    checks.number(block["lr"], 0, None, f"{where}.lr")
    checks.yes_or_no(block["flip"], f"{where}.flip")
    for key in ("momentum", "weight_decay", "warmup"):
        checks.number(block[key], 0, 1, f"{where}.{key}")
    return Recipe(**block | {"crop": _size(block.get("crop"), f"{where}.crop")})


def inference(block: dict[str, Any], where: str) -> Inference:
    """``{scales: [0.75, 1], flip: true, crop: [64, 64], crops: [1, 4], crf: {...}}``: each is optional.

    ``optional: true`` beside a CRF is the tier's business: without the library its cells are left out.
    """
    checks.keys(block, where, set(), {field.name for field in fields(Inference)} | {"optional"})
    scales = block.get("scales", [1])
    checks.sequence(scales, f"{where}.scales")
    if not scales:
        raise InputError(f"{where}.scales must name at least one scale of the input, got none; write e.g. [0.75, 1]")
    for scale in scales:
        checks.number(scale, 0, None, f"{where}.scales")
    crop, crops = _size(block.get("crop"), f"{where}.crop"), _size(block.get("crops", [1, 1]), f"{where}.crops")
    crf = block.get("crf")
    if crf is not None:
        checks.keys(crf, f"{where}.crf", {field.name for field in fields(Crf)})
        checks.whole(crf["iterations"], 1, f"{where}.crf.iterations")
        for key in crf.keys() - {"iterations"}:
            checks.number(crf[key], 0, None, f"{where}.crf.{key}")
    crf = None if crf is None else Crf(**crf)
    return Inference(tuple(map(float, scales)), bool(block.get("flip", False)), crop, crops or (1, 1), crf)


def _size(value: Any, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} must be [height, width], got {value!r}; write two whole numbers")
    for side in value:
        checks.whole(side, 1, where)
    return value[0], value[1]


def frequent(block: dict[str, Any] | None, where: str) -> tuple[int, float] | None:
    """The rule for frequent classes: (least number of training images, least share of the labelled pixels)."""
    if block is None:
        return None
    checks.keys(block, where, {"min_images", "min_pixels"})
    checks.whole(block["min_images"], 0, f"{where}.min_images")
    checks.number(block["min_pixels"], 0, 1, f"{where}.min_pixels")
    return block["min_images"], block["min_pixels"]
