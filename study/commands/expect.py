"""Forecast for a tier that draws seeds by need: the claims that it should decide, and at which cost (D149)."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path

from study.config import tiers
from study.paper.claims import CLAIMS, PRIMARY
from study.spec.documents.plan import PlanFile
from study.spec.errors import InputError
from study.spec.words import counted, duration
from study.statistics import answers, questions, sequence
from study.statistics.claim_tests import HERE, Scores, Tested, judged_by, rules_of
from study.statistics.levels import Levels
from study.store.code_digest import ROOT

DEFAULT = "shapes"  # the tier whose report is docs/example itself
TIMED = ("trainings", "evaluations")  # the parts of a forecast that the planned cost covers


def tell(plan: PlanFile, left: float, seconds: Mapping[str, float | None], hours: float | None) -> float | None:
    """Print what the looks of a plan cost and what they should decide. With ``hours``, also print and return the budget
    that this machine can do in that time.

    ``seconds`` are those of a forecast's parts by name, ``left`` the planned cost of the same work.
    """
    looks = sequence.of_plan(plan)
    first = sequence.first_keys(plan)
    begin, whole = (math.fsum(looks.work[key] for key in keys) for keys in (first, looks.work))
    parts = [seconds.get(name) for name in TIMED]
    known = None not in parts
    pace = math.fsum(filter(None, parts)) / left if known and left else None
    print(f"\n  seeds: {looks.at[0]} for everything, then more for open claims; looks at {_listed(looks.at)}")
    print(f"    first look       {begin:10,.0f} tera multiply-adds")
    print(f"    all seeds        {whole:10,.0f}{_about(pace, whole - begin)}")
    budget = None
    if not math.isinf(looks.budget):
        print(f"    budget           {looks.budget:10,.0f}{_about(pace, min(looks.budget, whole) - begin)}")
    if hours is not None:
        if known and not left:
            raise InputError(
                "hours must be given before the first look, whose trainings show this machine's pace, got a tier whose "
                "first look is done; write a budget instead"
            )
        budget = _budget(begin, pace, sum(filter(None, seconds.values())), hours)
        print(f"    {hours:g} h here        {budget:10,.0f} tera multiply-adds")
    _chances(plan)
    return budget


def _about(pace: float | None, more: float) -> str:
    return "" if pace is None else f"  about {duration(pace * max(0.0, more))} more than the first look"


def _budget(begin: float, pace: float | None, known: float, hours: float) -> float:
    """The budget that takes ``hours`` in all, including the first look and all work besides training."""
    if pace is None:
        raise InputError("hours need a machine that can train the tier, which this one cannot; leave them out")
    rest = 3600 * hours - known
    if rest < 0:
        raise InputError(f"hours must cover the first look ({duration(known)} here), got {hours:g}; write more")
    return float(f"{begin + rest / pace:.3g}")


def write(path: Path, tier: str, budget: float) -> None:
    """Write the budget into the block of a tier in params.yaml, and change nothing else. Raises InputError, and writes
    nothing, if the layout of the block does not allow that."""
    text = path.read_text(encoding="utf-8")
    block = re.search(rf"(?ms)^  {re.escape(tier)}:[ \t]*(?:#[^\n]*)?\n(.*?)(?=^ {{0,2}}[^\s#]|\Z)", text)
    if block is not None:
        line = re.search(r"(?m)^    seeds: \{(.*?)\}", block[1])
        if line is not None:
            kept = [part.strip() for part in line[1].split(",") if not part.strip().startswith("budget")]
            at, old = block.start(1) + line.start(), line[0]
            new = f"    seeds: {{{', '.join([*kept, f'budget: {budget:g}'])}}}"
        else:  # the tier inherits its seeds
            at, old, new = block.start(1), "", f"    seeds: {{budget: {budget:g}}}\n"
        text = text[:at] + new + text[at + len(old) :]
    try:
        written = tiers.load(tiers.check(tiers.content(text)), tier).by_need
    except InputError:
        written = None
    if written is None or written.budget != budget:
        raise InputError(
            f"tiers.{tier}.seeds must be a mapping in one line, or its budget cannot be written; write "
            f"budget: {budget:g} there"
        )
    path.write_text(text, encoding="utf-8")


def measured(plan: PlanFile) -> tuple[Path | None, dict[str, dict[int, float]]]:
    """The scores of an earlier run of a tier here, or else of the shipped report, by address and seed, and their file;
    None and {} if there are none."""
    shipped = ROOT / "docs" / "example" / ("" if plan["tier"] == DEFAULT else plan["tier"]) / "scores.csv"
    for path in (Path("reports") / plan["tier"] / "scores.csv", shipped):
        if not path.is_file():
            continue
        metrics = {cell["address"]: judged_by(plan, cell) for cell in plan["cells"]}
        found: dict[str, dict[int, float]] = {}
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["value"] and row["seed"] and metrics.get(row["address"]) == row["metric"]:
                    found.setdefault(row["address"], {})[int(row["seed"])] = float(row["value"])
        return path, found
    return None, {}


def _chances(plan: PlanFile) -> None:
    """Print for each claim the chance of a verdict at each look, if effects and spreads are as measured before."""
    path, known = measured(plan)
    family = questions.family(plan)
    if path is None:
        print(f"\n  verdicts: unknown for {counted(len(family), 'claim')}; this tier has no earlier scores")
        return
    looks, expected = sequence.of_plan(plan), chances(plan, Scores(plan, known))
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"\n  expected verdicts, if effects and spreads are as in {name}")
    print(f"    {'claim':22} {'effect':>16}" + "".join(f"{f'{at} seeds':>10}" for at in looks.at) + "   more cost")
    sums = [0.0] * len(looks.at)
    for claim, (found, shown) in expected.items():
        sums = [total + chance for total, chance in zip(sums, found, strict=True)]
        effect = (
            f"{answers.in_unit(shown.part.measure, shown.effect.estimate):+.1f} {answers.UNITS[shown.part.measure]}"
        )
        predicate = questions.predicate_of(CLAIMS[claim], plan["scale"])
        assert predicate is not None
        more = sequence.keys_of(plan, predicate.addresses, looks.seeds[looks.at[0] :])
        cost = math.fsum(looks.work[key] for key in more)
        print(f"    {claim:22} {effect:>16}" + "".join(f"{100 * one:8.0f} %" for one in found) + f"  {cost:10,.0f}")
    told = ", ".join(f"{total:.1f} with {at} seeds" for total, at in zip(sums, looks.at, strict=True))
    print(f"    in all, of {counted(len(family), 'claim')}: {told}")
    if unknown := [claim for claim in family if claim not in expected]:
        print(f"    unknown: {', '.join(unknown)}")


def chances(plan: PlanFile, scores: Scores) -> dict[str, tuple[list[float], Tested]]:
    """For each claim that ``scores`` tell something about, the chance of a verdict by each look if effects and spreads
    are as in ``scores``, and its weakest part. What decided claims pass on is not counted."""
    looks, margins, family = sequence.of_plan(plan), answers.margins_of(plan), questions.family(plan)
    levels, alpha = Levels(family, PRIMARY), rules_of(plan)["alpha"]
    expected = {}
    for claim in family:
        predicate = questions.predicate_of(CLAIMS[claim], plan["scale"])
        _, parts = answers.tested(predicate, plan, scores, HERE, 1.0)
        if predicate is None or not parts or math.isnan(max(part.holds for part in parts)):
            continue
        found, best = [], 0.0
        for number, share in zip(looks.at, looks.shares, strict=True):
            best = max(best, answers.chance(parts, margins, levels.initial[claim] * alpha * share, number))
            found.append(best)
        expected[claim] = (found, max(parts, key=lambda part: part.holds))
    return expected


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
