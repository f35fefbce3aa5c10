"""Claims on the paper's own numbers; verdicts on planted counts: every predicate, direction, scale and hindrance."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_report

from study import claims, evidence, paper, plan, report, statistics, tier, trials, verdicts
from study.claims import CLAIMS, Claim, claims_digest
from study.predicates import (
    Predicate,
    above,
    decreasing,
    equal_within,
    every,
    gain,
    increasing,
    no_better,
    widening,
)
from study.spec import Cell, InputError, Table, Variant, gcn

MARGIN = Fraction("0.5")
RULES = {"alpha": 0.05, "margin_points": 0.5, "draws": 200}
CELLS = {cell.address: cell for table in paper.TABLES.values() for cell in table.cells}


def printed(address: str) -> Fraction:
    return evidence.printed(paper.TABLES, address)


# ------------------------------------------------------------------------------------------ the paper's own numbers
# Where the text and the tables of the paper disagree; of every other claim its own numbers say that it holds.
NOT_BY_ITS_OWN_NUMBERS = {
    "beats_stack_text": ("T3/GCN/5 above T3/stack/5",),  # 71.1 against 71.8
    "weights_no_help": (  # 68.8, 70.4, 71.3 from the narrowest to the widest
        "T4/score/1024 no better than T4/score/210",
        "T4/score/2048 no better than T4/score/1024",
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_each_claim_on_the_papers_own_numbers(name: str) -> None:
    assert CLAIMS[name].predicate.failing(printed, MARGIN) == NOT_BY_ITS_OWN_NUMBERS.get(name, ())


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_name_cells_with_printed_numbers_and_places(name: str) -> None:
    claim = CLAIMS[name]
    predicates = [claim.predicate] + ([claim.mechanism] if claim.mechanism else [])
    for address in (address for predicate in predicates for address in predicate.addresses):
        assert CELLS[address].paper is not None
    for table in claim.tables:
        assert claim.place and table.removeprefix("T") in re.findall(r"\d+", claim.place)
        assert claim.page == paper.TABLES[table].page
    for predicate in predicates:  # a contrast compares one kind of number
        for part in predicate.parts:
            kinds = {CELLS[a].metric for a in part.addresses}
            assert len(kinds) == 1 or kinds <= set(trials.REGIONS)
            assert part.low is not None or part.high is not None


def test_the_digest_knows_what_is_claimed_and_not_where_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = claims_digest()
    one = CLAIMS["gain_k"]
    monkeypatch.setitem(CLAIMS, "gain_k", dataclasses.replace(one, page=77, place="elsewhere"))
    assert claims_digest() == first
    for change in ({"says": "something else"}, {"predicate": above("T1/score/15", "T1/score/13")}):
        monkeypatch.setitem(CLAIMS, "gain_k", dataclasses.replace(one, **change))
        assert claims_digest() != first


def test_predicates_of_different_kinds_have_different_identities() -> None:
    a, b = "T1/score/15", "T1/score/base"
    made = [above(a, b), above(b, a), no_better(a, b), equal_within(a, b), equal_within(a, b, MARGIN),
            gain(a, b, Fraction(5), Fraction(1)), increasing((b, a)), decreasing((b, a))]  # fmt: skip
    assert len(set(made)) == len({json.dumps(plan.canonical(p)) for p in made}) == len(made)


NUMBERS = {"a": Fraction(10), "b": Fraction(12), "c": Fraction(13), "d": Fraction("13.4")}


@pytest.mark.parametrize(
    ("predicate", "holds"),
    [
        (above("b", "a"), True), (above("a", "b"), False), (above("a", "a"), False),
        (gain("b", "a", Fraction("2.5"), Fraction(1)), True), (gain("b", "a", Fraction(4), Fraction(1)), False),
        (gain("b", "a", Fraction(4), Fraction(1)).sign(), True),
        (gain("a", "b", Fraction(4), Fraction(1)).sign(), False),
        (increasing(("a", "b", "c")), True), (increasing(("a", "c", "b", "d")), False), (increasing(("a", "a")), False),
        (decreasing(("c", "b", "a")), True), (decreasing(("d", "a", "b")), False),
        (widening((("b", "b"), ("c", "b"), ("b", "a"))), True), (widening((("b", "a"), ("c", "b"))), False),
        (equal_within("c", "d"), True), (equal_within("b", "c"), False), (equal_within("b", "c", Fraction(2)), True),
        (no_better("d", "c"), True), (no_better("c", "b"), False), (no_better("a", "d"), True),
        (every(above("b", "a"), above("c", "b")), True), (every(above("b", "a"), above("b", "c")), False),
    ],
)  # fmt: skip
def test_predicates_on_exact_numbers(predicate: Predicate, holds: bool) -> None:
    assert (not predicate.failing(NUMBERS.__getitem__, MARGIN)) == holds


def test_a_predicate_lists_every_cell_that_it_needs() -> None:
    assert set(decreasing(("a", "b", "c")).addresses) == {"a", "b", "c"}  # the middle one has no weight in the slope
    assert set(widening((("a", "b"), ("c", "d"), ("e", "f"))).addresses) == set("abcdef")


def test_predicates_refuse_what_makes_no_sense() -> None:
    with pytest.raises(InputError, match="tolerance must be positive and below the gain"):
        gain("a", "b", Fraction(1), Fraction(1))
    with pytest.raises(InputError, match="at least two cells"):
        increasing(("a",))


def test_a_contradiction_by_one_part_is_corrected_for_the_number_of_parts() -> None:
    """A p just under alpha of one of two parts is none of the claim."""
    part, unknown = above("T1/score/15", "T1/score/base").parts[0], statistics.Effect(*[0.0] * 6, 3, 60, 0.0)
    against = trials.Tested(part, unknown, holds=1.0, fails=0.04)
    between = trials.Tested(part, unknown, holds=0.3, fails=1.0)
    assert verdicts._p([against]) == 0.04
    assert verdicts._p([against, between]) == pytest.approx(0.08)


# -------------------------------------------------------------------------------- verdicts on planted counts
IMAGES = 60
COLUMNS = tuple("abcdef")


def planted(
    folder: Path, points: dict[str, float], seeds: int = 3, scale: str = "mechanism", spread: float = 0.05,
    metric: str = "pixel_accuracy",
) -> dict[str, Any]:  # fmt: skip
    """A plan of one table T with cells by name, and counts whose scores are about ``points``; ``spread`` over seeds."""
    table = Table("T", "planted", None, ("r",), tuple(points), tuple(
        Cell("T", "r", name, Variant(gcn(2 * place + 1)), metric, None) for place, name in enumerate(points)
    ))  # fmt: skip
    made = test_report.fake_plan([table], seeds) | {"scale": scale, "verdicts": RULES}
    for place, cell in enumerate(made["cells"]):
        for seed, key in cell["runs"].items():
            draw = np.random.default_rng(place * 100 + int(seed))
            share = (points[cell["column"]] + draw.normal(0, spread)) / 100
            tp = np.full((IMAGES, 2, 1), 50_000) * share + draw.normal(0, 20, (IMAGES, 2, 1))
            counts = np.stack([tp, 50_000 - tp, 50_000 - tp], axis=-1).round().astype(np.int64)
            (folder / key).mkdir(parents=True, exist_ok=True)
            np.savez(folder / key / "counts.npz", counts=counts)
    return made


def claimed(predicate: Predicate, mechanism: Predicate | None = None, name: str = "it") -> Claim:
    return Claim(name, "GCN wins", "VOC 2012", predicate, mechanism or predicate.sign(), "GCN wins", "Table 1")


@pytest.fixture
def unprinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted cells have no printed numbers."""
    monkeypatch.setattr(verdicts, "printed", lambda tables, address: Fraction())


def c(name: str) -> str:
    return f"T/r/{name}"


def five(low: float, high: float) -> dict[str, float]:
    return dict(zip(COLUMNS, np.linspace(low, high, len(COLUMNS)), strict=True))


PAIRS = ((c("b"), c("a")), (c("d"), c("c")), (c("f"), c("e")))
GROWS = {"a": 50, "b": 51, "c": 50, "d": 53, "e": 50, "f": 55}
SHRINKS = {"a": 50, "b": 55, "c": 50, "d": 53, "e": 50, "f": 51}
S, C, U = verdicts.SUPPORTED, verdicts.CONTRADICTED, verdicts.UNDECIDED
PLANTED: dict[str, tuple[Predicate, dict[str, float], str, str]] = {
    "above": (above(c("b"), c("a")), {"a": 50, "b": 55}, "paper", S),
    "below": (above(c("b"), c("a")), {"a": 55, "b": 50}, "paper", C),
    "no different": (above(c("b"), c("a")), {"a": 50, "b": 50}, "paper", U),
    "gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 55.4}, "paper", S),
    "too small a gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 52}, "paper", C),
    "too large a gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 60}, "paper", C),
    "a gain at the edge": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 56.5}, "paper", U),
    "any gain": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 90}, "mechanism", S),
    "a loss": (gain(c("b"), c("a"), Fraction("5.5"), Fraction(1)), {"a": 50, "b": 48}, "mechanism", C),
    "rises": (increasing(tuple(map(c, COLUMNS))), five(50, 55), "paper", S),
    "does not rise": (increasing(tuple(map(c, COLUMNS))), five(55, 50), "paper", C),
    "falls": (decreasing(tuple(map(c, COLUMNS))), five(55, 50), "paper", S),
    "does not fall": (decreasing(tuple(map(c, COLUMNS))), five(50, 55), "paper", C),
    "widens": (widening(PAIRS), GROWS, "paper", S),
    "narrows": (widening(PAIRS), SHRINKS, "paper", C),
    "equal": (equal_within(c("b"), c("a")), {"a": 50, "b": 50.02}, "paper", S),
    "unequal": (equal_within(c("b"), c("a")), {"a": 50, "b": 53}, "paper", C),
    "unequal below": (equal_within(c("b"), c("a")), {"a": 53, "b": 50}, "paper", C),
    "equal or not": (equal_within(c("b"), c("a")), {"a": 50, "b": 50.5}, "paper", U),
    "no better": (no_better(c("b"), c("a")), {"a": 50, "b": 50}, "paper", S),
    "worse": (no_better(c("b"), c("a")), {"a": 50, "b": 45}, "paper", S),
    "better": (no_better(c("b"), c("a")), {"a": 50, "b": 52}, "paper", C),
    "all": (every(above(c("b"), c("a")), above(c("c"), c("b"))), {"a": 50, "b": 52, "c": 54}, "paper", S),
    "one fails": (every(above(c("b"), c("a")), above(c("c"), c("b"))), {"a": 50, "b": 52, "c": 48}, "paper", C),
    "one is open": (every(above(c("b"), c("a")), above(c("c"), c("b"))), {"a": 50, "b": 52, "c": 52}, "paper", U),
}


@pytest.mark.usefixtures("unprinted")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_effect_gets_its_verdict(name: str, tmp_path: Path) -> None:
    predicate, points, scale, wanted = PLANTED[name]
    (row,) = verdicts.judge(
        planted(tmp_path, points, seeds=5, scale=scale), tmp_path, computed={}, claims=[claimed(predicate)]
    )
    assert row.verdict == wanted, row
    assert row.seeds == 5 and row.low < row.estimate < row.high and 0 <= row.p <= row.adjusted <= 1
    assert (row.needed is None) if wanted != U else (row.reason != "")
    if name == "one fails":
        assert "T/r/c above T/r/b" in row.reason and row.part == "T/r/c above T/r/b"


@pytest.mark.usefixtures("unprinted")
def test_undecided_says_how_many_seeds_would_decide(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 51}, spread=1.5)
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a")))])
    assert row.verdict == U and row.needed > 3 and row.reason == f"Some {row.needed} seeds would decide it."
    alone = tmp_path / "alone"
    (row,) = verdicts.judge(
        planted(alone, {"a": 50, "b": 60}, seeds=1), alone, computed={}, claims=[claimed(above(c("b"), c("a")))]
    )
    assert (row.verdict, row.low, row.p, row.needed) == (U, None, None, None) and "One seed" in row.reason
    assert row.estimate == pytest.approx(10, abs=0.5)


@pytest.mark.usefixtures("unprinted")
def test_holm_counts_every_tested_claim_and_only_those(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 50.6}, spread=0.25)
    one = claimed(above(c("b"), c("a")), name="one")
    absent = claimed(above("T9/x/y", c("a")), name="absent")
    alone, untested = verdicts.judge(made, tmp_path, computed={}, claims=[one, absent])
    assert alone.adjusted == alone.p and untested.verdict == verdicts.UNTESTED
    many = verdicts.judge(
        made, tmp_path, computed={}, claims=[one, *(claimed(above(c("b"), c("a")), name=f"n{i}") for i in range(3))]
    )
    assert many[0].adjusted == pytest.approx(min(1.0, 4 * min(row.p for row in many)), rel=0.5)
    assert all(row.adjusted >= row.p for row in many)


@pytest.mark.usefixtures("unprinted")
def test_one_region_against_the_other_in_one_contrast(tmp_path: Path) -> None:
    """Inside gains four points, the boundary none: the two accuracies are of one training's counts."""
    made = planted(tmp_path, {"a": 50, "b": 50}, seeds=4)
    for cell in made["cells"]:
        for key in cell["runs"].values():
            with np.load(tmp_path / key / "counts.npz") as archive:
                counts = archive["counts"]
            if cell["column"] == "b":
                counts[:, 1, :, 0] += 2000
                counts[:, 1, :, 2] -= 2000
            np.savez(tmp_path / key / "counts.npz", counts=counts)
    both = [cell | {"address": f"T5/{cell['column']}/{region}", "metric": f"{region}_accuracy"}
            for cell in made["cells"] for region in ("boundary", "internal")]  # fmt: skip
    made["cells"] = both
    inside, edge = (("T5/b/internal", "T5/a/internal"), ("T5/b/boundary", "T5/a/boundary"))
    found = verdicts.judge(
        made, tmp_path, computed={},
        claims=[claimed(widening((edge, inside)), name="inside"), claimed(widening((inside, edge)), name="edge"),
                claimed(above(*inside), name="gain"), claimed(equal_within(*edge), name="hardly")],
    )  # fmt: skip
    assert [row.verdict for row in found] == [S, C, S, S]
    assert found[0].estimate == pytest.approx(4, abs=0.3) and found[2].estimate == pytest.approx(4, abs=0.3)


# ---------------------------------------------------------------------------------------------- scales and hindrances
def whole(tables: tuple[str, ...], folder: Path, scale: str, seeds: int = 3) -> dict[str, Any]:
    listed = [dataclasses.replace(paper.TABLES[name], cells=tuple(
        dataclasses.replace(cell, setting="main") for cell in paper.TABLES[name].cells if cell.variant
    )) for name in tables]  # fmt: skip
    made = test_report.fake_plan(listed, seeds) | {"scale": scale, "verdicts": RULES}
    for key, training in made["trainings"].items():
        if not (folder / key).exists():
            test_report.fake_run(folder / key, training, 4)
    return made


@pytest.mark.parametrize("scale", ["mechanism", "paper"])
def test_the_wording_keeps_to_the_scale(scale: str, tmp_path: Path) -> None:
    made = whole(("T1", "T2", "T3", "T4", "T5"), tmp_path, scale)
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert {S, C, verdicts.UNTESTED} <= {row.verdict for row in found.values()}
    for row in (row for row in found.values() if row.on != claims.ARITHMETIC):
        said = row.wording.lower()
        if scale == "mechanism":
            assert "supported" not in said and "contradicted" not in said
            assert row.verdict == verdicts.UNTESTED or (
                "mechanism" in said and f"of {row.on.lower()} it says nothing" in said
            )
        else:
            assert "mechanism" not in said
    assert found["gain_k"].bounds == ((0, None) if scale == "mechanism" else (4.5, 6.5))
    assert found["fewer_weights"].verdict == S and found["fewer_weights"].wording == "Arithmetic bears it out."
    assert found["best_voc"].reason == (
        "It is about numbers alone, and this tier judges the mechanism." if scale == "mechanism" else
        "Table 8 is not among the tier's tables."
    )  # fmt: skip


def test_reasons_for_untested(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path / "all", "mechanism")
    reasons = {row.claim: row.reason for row in verdicts.judge(made, tmp_path / "all", computed={})}
    assert reasons["stages"] == "Table 7 is not among the tier's tables."
    assert reasons["equal_cost"] == "Table 11 is not among the tier's tables."
    refused = [cell | ({"not_applicable": "No such data.", "runs": {}} if cell["address"] == "T3/stack/9" else {})
               for cell in made["cells"]]  # fmt: skip
    reasons = {
        row.claim: row.reason for row in verdicts.judge(made | {"cells": refused}, tmp_path / "all", computed={})
    }
    assert reasons["beats_stack_caption"] == "No such data."
    for key, training in made["trainings"].items():
        if training["label"] == "stack k=11":
            (tmp_path / "all" / key / "counts.npz").unlink()
    found = {row.claim: row for row in verdicts.judge(made, tmp_path / "all", computed={})}
    assert found["beats_stack_caption"].verdict == verdicts.UNTESTED
    assert "stack k=11, seed 0; stack k=11, seed 1; stack k=11, seed 2" in found["beats_stack_caption"].reason
    assert found["rises"].verdict != verdicts.UNTESTED
    nothing = verdicts.judge(made | {"scale": "none"}, tmp_path / "all", computed={})
    assert {row.verdict for row in nothing} == {verdicts.UNTESTED} and not any(row.p for row in nothing)


@pytest.mark.usefixtures("unprinted")
def test_cells_measured_on_other_images_leave_a_claim_untested(tmp_path: Path) -> None:
    made = planted(tmp_path, {"a": 50, "b": 55})
    for key in next(cell for cell in made["cells"] if cell["column"] == "b")["runs"].values():
        with np.load(tmp_path / key / "counts.npz") as archive:
            fewer = archive["counts"][:-1]
        np.savez(tmp_path / key / "counts.npz", counts=fewer)
    (row,) = verdicts.judge(made, tmp_path, computed={}, claims=[claimed(above(c("b"), c("a")))])
    assert row.verdict == verdicts.UNTESTED and "must have the same seeds and images" in row.reason


def test_a_lost_seed_is_left_out_of_its_claims_alone(tmp_path: Path) -> None:
    made = whole(("T1", "T3"), tmp_path, "mechanism")
    lost = next(cell for cell in made["cells"] if cell["address"] == "T3/stack/11")["runs"]["1"]
    (tmp_path / lost / "counts.npz").unlink()
    found = {row.claim: row for row in verdicts.judge(made, tmp_path, computed={})}
    assert found["beats_stack_caption"].seeds == 2 and found["rises"].seeds == 3


def test_what_is_counted_is_judged_exactly_and_a_server_gives_no_seeds(tmp_path: Path) -> None:
    addresses = CLAIMS["equal_cost"].predicate.addresses
    cells = [
        {"address": a, "metric": "mflops", "not_applicable": None, "parameters": None, "runs": {}} for a in addresses
    ]
    fixed = {"metric": "test_miou", "not_applicable": None, "parameters": None, "runs": {}, "table": "T8"}
    served = [{"address": address} | fixed for address in CLAIMS["best_voc"].predicate.addresses]
    made = {"cells": cells + served, "trainings": {}, "evaluations": {}, "scale": "paper", "verdicts": RULES,
            "tables": [{"id": "T8", "submitted": None}]}  # fmt: skip
    asked = [CLAIMS["equal_cost"], CLAIMS["best_voc"]]

    def judged(values: list[float], **changes: Any) -> list[verdicts.Verdict]:
        computed = dict(zip(addresses, values, strict=False))
        return verdicts.judge(made | changes, tmp_path, computed=computed, claims=asked)

    assert [row.verdict for row in judged([3730, 3700])] == [S, verdicts.UNTESTED]
    assert judged([3730, 4087])[0].verdict == C and judged([3730, 4087])[0].estimate == -357
    assert judged([3730])[0].reason == f"Not counted: {addresses[1]}."
    assert judged([1, 1])[1].reason == "Nothing was submitted to the benchmark's server."
    submitted = {"percent": 83.0, "link": "https://x"}
    assert "83.0: one score, without seeds" in judged([1, 1], tables=[{"id": "T8", "submitted": submitted}])[1].reason


def test_more_seeds_change_nothing_else(tmp_path: Path) -> None:
    two, three = (whole(("T1", "T2"), tmp_path, "mechanism", seeds) for seeds in (2, 3))
    assert two["trainings"].items() <= three["trainings"].items()
    first, second = (verdicts.judge(made, tmp_path, computed={}) for made in (two, three))
    fixed = ("claim", "says", "on", "where", "printed", "parts")
    assert [[getattr(row, name) for name in fixed] for row in first] == [
        [getattr(r, name) for name in fixed] for r in second
    ]
    assert [row for row in first if row.verdict == verdicts.UNTESTED] == [
        row for row in second if row.verdict == verdicts.UNTESTED
    ]
    assert first == verdicts.judge(two, tmp_path, computed={})


# ------------------------------------------------------------------------------------------------ tiers, plans, report
def test_the_digest_is_in_the_plan_and_every_training_and_in_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tier.load(tier.read(), "smoke")
    facts = {name: {"fingerprint": "f" * 64} for name in chosen.settings}
    made = plan.build(chosen, facts, "cpu").manifest()
    assert made["claims"] == claims_digest() and made["scale"] == "none"
    assert {training["claims"] for training in made["trainings"].values()} == {claims_digest()}
    monkeypatch.setattr(plan, "claims_digest", lambda: "0" * 64)
    other = plan.build(chosen, facts, "cpu").manifest()
    assert other["claims"] == "0" * 64 and list(other["trainings"]) == list(made["trainings"])


def test_a_tier_says_what_it_may_judge() -> None:
    params = tier.read()
    assert {name: tier.load(params, name).scale for name in params["tiers"]} == {
        "shapes": "mechanism", "smoke": "none", "camvid": "mechanism", "voc_subset": "mechanism", "voc": "paper",
        "cityscapes": "paper",
    }  # fmt: skip
    shapes = params["tiers"]["shapes"]

    def refused(match: str, **changes: Any) -> None:
        block = {key: value for key, value in (shapes | changes).items() if value is not None}
        with pytest.raises(InputError, match=match):
            tier.load(params | {"tiers": {"shapes": block | {"frequent": None}}}, "shapes")

    refused("scale must be one of paper, mechanism, none", scale="huge")
    refused("scale must be none where the numbers are meaningless", meaningless=True)
    refused("verdicts must be there where a tier may judge", verdicts=None)
    refused("verdicts.alpha must be a number from 0 to 0.5", verdicts=RULES | {"alpha": 2})
    refused("verdicts.draws must be a whole number from 100", verdicts=RULES | {"draws": 5})
    refused("verdicts.margin_points must be a positive number", verdicts=RULES | {"margin_points": 0})
    plain = {key: value for key, value in shapes.items() if key not in ("scale", "verdicts")}
    assert tier.load(params | {"tiers": {"shapes": plain}}, "shapes").scale == "none"


@pytest.mark.slow
def test_the_report_shows_verdicts_and_says_when_claims_changed(tmp_path: Path) -> None:
    made = test_report.fake_plan([paper.TABLES[name] for name in ("T1", "T2", "T3")], 3)
    folder = test_report.fake_folder(tmp_path / "fake", made)
    keys = list(made["trainings"])
    for key, digest in ((keys[0], claims_digest()), (keys[1], "0" * 64)):
        (folder / "results" / key / "training.json").write_text(json.dumps({"labels": {"claims": digest}}))
    judged = verdicts.content(made, folder / "results", computed={})
    assert judged["recorded"] == {claims_digest(): 1, "0" * 64: 1, "": len(keys) - 2}
    (folder / "verdicts.json").write_text(json.dumps(judged))
    report.build(folder, test_report.TIER)
    told = json.loads((folder / "report.json").read_text())["verdicts"]
    assert (told["same"], told["other"], told["unrecorded"]) == (1, 1, len(keys) - 2)
    assert len(told["rows"]) == len(CLAIMS) and (folder / "figures" / "forest.svg").is_file()
    rows = {row["claim"]: row for row in told["rows"]}
    assert rows["rises"]["called"] == "shows here" and rows["fewer_weights"]["called"] == "supported"
    assert re.fullmatch(r"\+\d+\.\d \[\+\d+\.\d, \+\d+\.\d\]", rows["rises"]["effect"])
    assert rows["beats_stack_text"]["printed"] == "does not hold: T3/GCN/5 above T3/stack/5"
    assert sum(told["kinds"].values()) == len(CLAIMS)
