"""Blocks of a tier beside its trainings: where networks look, how verdicts are found, what goes to a server."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from study import checks
from study.spec import InputError

# What a tier may judge: the paper's numbers, what of its claims does not hang on them, or nothing (D80).
PAPER, MECHANISM, NOTHING = "paper", "mechanism", "none"
LEAST_DRAWS = 100  # a variance of fewer draws is mostly noise
SERVERS = ("voc", "cityscapes")  # formats of submission.FORMATS, each named as its data set


@dataclass(frozen=True)
class Receptive:
    """How valid receptive fields are measured (Fig. 3; D47): lengths in px of the original input, ``enlarge`` times
    that of the enlarged one, the ``share`` of all change that is lit, the ``mass`` of the gradient in its square."""

    occluder_px: int
    stride_px: int
    enlarge: float
    share: float
    mass: float
    images: int


@dataclass(frozen=True)
class Submission:
    """What `make submission` writes: for the test images of the ``format``'s benchmark, the classes that the network of
    a cell's training with ``seed`` gives, asked as the cell's address says."""

    cell: str
    format: str
    seed: int


@dataclass(frozen=True)
class Submitted:
    """The mean IoU in per cent that a benchmark's server gave to our submission, and the page that shows it."""

    percent: float
    link: str


@dataclass(frozen=True)
class Rules:
    """How verdicts are found (D81): ``alpha`` of intervals and of Holm's adjustment, the margin in points of per cent
    below which a difference counts as none, and the number of bootstrap draws."""

    alpha: float
    margin_points: float
    draws: int


def receptive(block: dict[str, Any] | None, where: str) -> Receptive | None:
    """How valid receptive fields are measured; None where nothing is asked."""
    if block is None:
        return None
    checks.keys(block, where, {field.name for field in fields(Receptive)})
    for key in ("occluder_px", "stride_px", "images"):
        checks.whole(block[key], 1, f"{where}.{key}")
    checks.number(block["enlarge"], 0, None, f"{where}.enlarge")
    for key in ("share", "mass"):
        checks.number(block[key], 0, 1, f"{where}.{key}")
    if block["occluder_px"] % 2 == 0:
        raise InputError(f"{where}.occluder_px must be odd (it has a middle), got {block['occluder_px']}; add 1")
    return Receptive(**block)


def rules(block: dict[str, Any], where: str) -> Rules | None:
    """The rules of verdicts in a tier's ``block``, of which its scale is checked as well."""
    scale, rules = block.get("scale", NOTHING), block.get("verdicts")
    checks.choice(scale, (PAPER, MECHANISM, NOTHING), f"{where}.scale")
    if scale != NOTHING and block["meaningless"]:
        raise InputError(
            f"{where}.scale must be {NOTHING} where the numbers are meaningless (they can judge no claim), got "
            f"{scale!r}; set it, or meaningless to false"
        )
    if rules is None and scale != NOTHING:
        raise InputError(
            f"{where}.verdicts must be there where a tier may judge claims (scale: {scale}), got none; write e.g. "
            "{alpha: 0.05, margin_points: 0.5, draws: 2000}"
        )
    if rules is None:
        return None
    checks.keys(rules, f"{where}.verdicts", {field.name for field in fields(Rules)})
    checks.number(rules["alpha"], 0, 0.5, f"{where}.verdicts.alpha")
    checks.number(rules["margin_points"], 0, None, f"{where}.verdicts.margin_points")
    checks.whole(rules["draws"], LEAST_DRAWS, f"{where}.verdicts.draws")
    return Rules(**rules)


def submission(
    block: dict[str, Any] | None, cells: Mapping[str, str], seeds: Collection[int], where: str
) -> Submission | None:
    """What is to be submitted, of ``cells`` (the data set's name by address) that are trained with ``seeds``."""
    if block is None:
        return None
    checks.keys(block, where, {field.name for field in fields(Submission)})
    if block["cell"] not in list(cells):
        raise InputError(
            f"{where}.cell must be the address of a segmentation that the tier trains, got {block['cell']!r}; take one "
            f"such as {next(iter(cells), 'T1/score/15 (with its table)')}"
        )
    checks.choice(block["format"], SERVERS, f"{where}.format")
    data = cells[block["cell"]]
    if block["format"] != data:
        raise InputError(
            f"{where}.format must be that of the cell's data set {data} (the server scores its classes only), got "
            f"{block['format']!r}; name a cell trained on {block['format']}"
        )
    checks.choice(block["seed"], seeds, f"{where}.seed")
    return Submission(**block)


def submitted(block: dict[str, Any], served: Collection[str], where: str) -> dict[str, Submitted]:
    """By table, what servers gave; ``served`` are the tables whose scores only they can give."""
    for table, entry in block.items():
        if table not in served:
            raise InputError(
                f"{where} must name tables of the tier whose scores a server gives ({', '.join(served) or 'none'}), "
                f"got {table!r}; remove it"
            )
        checks.keys(entry, f"{where}.{table}", {field.name for field in fields(Submitted)})
        checks.number(entry["percent"], 0, 100, f"{where}.{table}.percent")
        if not isinstance(entry["link"], str) or not re.fullmatch(r"https?://[^\s/]\S*", entry["link"]):
            raise InputError(
                f"{where}.{table}.link must be the http(s) address of the server's page with the score, got "
                f"{entry['link']!r}; copy it from there"
            )
    return {table: Submitted(**entry) for table, entry in block.items()}
