"""Which claims a plan asks, and the digests of its questions and of their wording, recorded before any training.

A *question* is everything that decides a verdict: the claim's predicate at the plan's scale, the family of claims that
are corrected together, the rules, and the method. Its wording is not part of it. So editing a sentence makes no verdict
late, and changing the question does (D82).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields

from study.paper.claims import CLAIMS, METHOD, Claim
from study.paper.predicates import Predicate
from study.spec.cells import COUNTED, SERVED
from study.spec.constants import DATA, NOTHING, PAPER
from study.spec.digest import digest
from study.spec.documents.plan import Asked, trained
from study.statistics import mechanisms
from study.statistics.settling import Settling


def predicate_of(claim: Claim, scale: str) -> Predicate | None:
    """The predicate that judges a claim at a scale; None if nothing of the claim is judged there."""
    return claim.predicate if scale == PAPER else claim.mechanism


def hindrance(claim: Claim, plan: Asked) -> str:
    """Why a plan cannot ask a claim, known before anything is trained; empty if it can."""
    cells = {cell["address"]: cell for cell in plan["cells"]}
    if plan["scale"] == NOTHING or plan["verdicts"] is None:
        return "This tier judges no claim: its numbers mean nothing."
    if said := plan["not_asked"].get(claim.id):
        return said
    predicate = predicate_of(claim, plan["scale"])
    if predicate is None:
        judged = "another recipe" if plan["scale"] == DATA else "the mechanism"
        return f"It is only about numbers, and this tier judges {judged}."
    if missing := [address for address in predicate.addresses if address not in cells]:
        tables = dict.fromkeys(address.split("/", 1)[0].removeprefix("T") for address in missing)
        return f"Table {', '.join(tables)} is not among the tier's tables."
    needed = [cells[address] for address in predicate.addresses]
    if absent := dict.fromkeys(cell["not_applicable"] for cell in needed if cell["not_applicable"]):
        return " ".join(absent)
    if any(cell["metric"] in SERVED for cell in needed):
        submitted = next(t["submitted"] for t in plan["tables"] if t["id"] == needed[0]["table"])
        if submitted is None:
            return "Nothing was submitted to the benchmark's server."
        return f"The server gave {submitted['percent']}: one score without seeds decides nothing."
    return ""


def counted(claim: Claim, plan: Asked) -> bool:
    """Whether a claim that can be asked is arithmetic: about counts, not trainings."""
    cells = {cell["address"]: cell for cell in plan["cells"]}
    predicate = predicate_of(claim, plan["scale"])
    return predicate is not None and all(cells[a]["metric"] in COUNTED for a in predicate.addresses if a in cells)


def family(plan: Asked, claims: Iterable[Claim] = CLAIMS.values()) -> list[str]:
    """The claims that are tested and corrected together. The plan fixes them: a claim stays even if its trainings
    fail."""
    return [claim.id for claim in claims if not hindrance(claim, plan) and not counted(claim, plan)]


def digests(plan: Asked, claims: Iterable[Claim] = CLAIMS.values()) -> dict[str, str]:
    """The digest of each claim's question in this plan."""
    claims = list(claims)
    common = (
        METHOD,
        plan["scale"],
        sorted(_rules(plan).items(), key=str),
        family(plan, claims),
        _looks(plan),
        plan.get("judged_by", "miou"),
    )
    return {claim.id: digest((predicate_of(claim, plan["scale"]), str(common)))[:16] for claim in claims}


def all_digests(plan: Asked) -> dict[str, str]:
    """The digests of claims and mechanisms, each in its own family."""
    return digests(plan) | digests(plan, mechanisms.claims(plan))


def _looks(plan: Asked) -> object:
    """The part of the looks that decides a verdict: their seeds and shares of alpha. The budget does not belong to it:
    whatever is spent, no more verdicts are wrong."""
    told = plan.get("sequence")
    return None if told is None else (told["at"], told["shares"])


def _rules(plan: Asked) -> dict[str, object]:
    """The rules of verdicts in the order of their declaration, which a file may not keep."""
    if plan["verdicts"] is None:
        return {}
    settled: Mapping[str, object] = plan["verdicts"]["settled"]
    return {**plan["verdicts"], "settled": {field.name: settled[field.name] for field in fields(Settling)}}


def of_trainings(plan: Asked) -> dict[str, dict[str, str]]:
    """By training, the digests of the questions about its cells, which it records before its first step. They are
    labels, and no part of its key."""
    tested = mechanisms.claims(plan)
    every = {**CLAIMS, **{claim.id: claim for claim in tested}}
    asked, members = all_digests(plan), family(plan) + family(plan, tested)
    keys = dict[str, set[str]]()
    for cell in plan["cells"]:
        for key in cell["runs"].values():
            keys.setdefault(cell["address"], set()).add(trained(plan, key))
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in members:
        predicate = predicate_of(every[name], plan["scale"])
        for key in sorted({k for a in (predicate.addresses if predicate else ()) for k in keys.get(a, ())}):
            found[key][name] = asked[name]
    return found


def wording(claims: Iterable[Claim] = CLAIMS.values()) -> str:
    """sha256 of the wording of the claims, in hexadecimal. Places and pages are labels."""
    return digest([(claim.id, claim.says, claim.shows, claim.on) for claim in claims])
