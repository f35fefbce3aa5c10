"""Scores at equal cost: interpolation by hand, no extrapolation beyond a family's range, and costs from arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.models.build import build
from study.models.costs import costs
from study.paper import tables
from study.report import document
from study.spec.heads import Variant, dense, gcn, stack
from study.spec.training import Network, freeze
from study.statistics import equal_cost
from tests.report.test_document import DEVIATIONS, TIER, fake_folder, fake_plan

LEVELS = ("res2", "res3", "res4", "res5")
SHALLOW = Network("shallow", LEVELS, freeze({"widths": (8, 16, 16, 16), "strides": (1, 2, 4, 4)}))
RESNET = Network("resnet", ("res5",), freeze({"depth": 50, "weights": None, "frozen_norm": True}))


def _points(*rows: tuple[str, str, int, int, list[float]]) -> pd.DataFrame:
    """(family, label, k, cost, score by seed); multiply-adds are ten times the weights."""
    return pd.DataFrame(
        [
            dict(zip(equal_cost.POINTS, (family, label, k, seed, value, cost, 10 * cost), strict=True))
            for family, label, k, cost, scores in rows
            for seed, value in enumerate(scores)
        ]
    )


def _one(points: pd.DataFrame, source: str = equal_cost.HERE) -> dict[str, Any]:
    rows = equal_cost.matches(points, source)
    (row,) = rows[rows["cost"] == "head_parameters"].to_dict("records")
    return row


DENSE = (("kxk", "k3", 3, 100, [0.40, 0.42, 0.44]), ("kxk", "k5", 5, 10_000, [0.60, 0.62, 0.70]))


def test_halfway_in_log_cost_is_halfway_in_score() -> None:
    row = _one(_points(("GCN", "g", 7, 1000, [0.55, 0.56, 0.60]), *DENSE))
    gains = np.array([0.55 - 0.50, 0.56 - 0.52, 0.60 - 0.57])
    half = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(3)
    assert (row["below"], row["above"], row["span"], row["seeds"]) == ("k3", "k5", 100, 3)
    assert [row["mean"], row["low"], row["high"]] == pytest.approx(
        [gains.mean(), gains.mean() - half, gains.mean() + half]
    )
    assert row["outcome"] == equal_cost.BETTER
    assert _one(_points(("GCN", "g", 7, 1000, [0.45, 0.48, 0.52]), *DENSE))["outcome"] == equal_cost.WORSE
    assert _one(_points(("GCN", "g", 7, 1000, [0.45, 0.58, 0.56]), *DENSE))["outcome"] == equal_cost.UNDECIDED


def test_interpolation_weights_follow_log_cost() -> None:
    points = _points(("GCN", "g", 7, 200, [0.5]), ("kxk", "a", 3, 100, [0.3]), ("kxk", "b", 5, 800, [0.6]))
    row = _one(points)
    assert row["mean"] == pytest.approx(0.5 - (2 * 0.3 + 0.6) / 3)
    assert math.isnan(row["low"]) and row["outcome"] == equal_cost.UNDECIDED  # one seed decides nothing
    assert _one(points, equal_cost.PAPER)["outcome"] == equal_cost.BETTER  # the paper has one training each


@pytest.mark.parametrize("cost", [99, 10_001, 1, 10**9])
def test_outside_the_range_only_the_nearest_is_named(cost: int) -> None:
    for source in (equal_cost.HERE, equal_cost.PAPER):
        row = _one(_points(("GCN", "g", 7, cost, [0.9, 0.9, 0.9]), *DENSE), source)
        assert row["outcome"] == equal_cost.OUTSIDE and row["seeds"] == 0
        assert all(math.isnan(row[name]) for name in ("mean", "low", "high"))
        nearest, at = ("k3", 100) if cost < 1000 else ("k5", 10_000)
        assert (row["nearest"], row["ratio"]) == (nearest, at / cost)
        assert row["nearest_mean"] == pytest.approx(0.9 - (0.42 if nearest == "k3" else 0.64))


@pytest.mark.parametrize(("cost", "label", "score"), [(100, "k3", 0.42), (10_000, "k5", 0.64)])
def test_at_a_variants_cost_it_is_the_reference(cost: int, label: str, score: float) -> None:
    row = _one(_points(("GCN", "g", 7, cost, [0.9, 0.9, 0.9]), *DENSE))
    assert (row["below"], row["above"], row["ratio"]) == (label, label, 1)
    assert row["mean"] == pytest.approx(0.9 - score)


def test_only_seeds_of_all_three_variants_count() -> None:
    short = _points(("GCN", "g", 7, 1000, [0.55, 0.56, 0.60]), ("kxk", "k3", 3, 100, [0.40, 0.42]), DENSE[1])
    row = _one(short)
    assert row["seeds"] == 2 and row["mean"] == pytest.approx((0.05 + 0.04) / 2)


def test_the_papers_own_numbers_at_equal_weights() -> None:
    rows = equal_cost.matches(equal_cost.points_of_paper(), equal_cost.PAPER)
    rows = rows[rows["cost"] == "head_parameters"].set_index(["label", "against"])
    seven = rows.loc[("GCN k=7", "kxk")]
    assert (seven["at"], seven["below"], seven["above"]) == (608_286, "kxk k=3", "kxk k=5")
    weight = math.log(608_286 / 387_072) / math.log(25 / 9)
    assert seven["mean"] == pytest.approx(0.728 - (1 - weight) * 0.698 - weight * 0.704)
    assert rows.loc[("GCN k=3", "kxk")]["below"] == "1x1" and seven["outcome"] == equal_cost.BETTER
    # The cheapest stack is the 3x3 convolution, and the narrowest of Table 4 costs more than any GCN.
    assert rows.loc[("GCN k=3", "stack")]["outcome"] == equal_cost.OUTSIDE
    assert (rows.xs("stack k=7 over m", level="against")["outcome"] == equal_cost.OUTSIDE).all()
    macs = equal_cost.matches(equal_cost.points_of_paper(), equal_cost.PAPER)
    assert set(macs[macs["cost"] == "head_macs"]["at"] / 256) == set(rows["at"])


def test_lines_over_k_exclude_narrow_and_refined_heads() -> None:
    points = equal_cost.points_of_paper()
    assert set(points[points["family"] == "stack"]["kernel_size"]) == {3, 5, 7, 9, 11}
    assert len(points[points["family"] == "stack"]) == 5
    assert set(points[points["family"] == "stack k=7 over m"]["value"]) == {0.713, 0.704, 0.688}
    assert not points["label"].str.contains("BR").any()


@pytest.mark.parametrize("variant", [Variant(dense(5)), Variant(gcn(7)), Variant(stack(7)), Variant(gcn(3), True)])
def test_head_costs_follow_from_their_shapes(variant: Variant) -> None:
    told = costs(variant, RESNET, 21, (512, 512))
    assert told["head_parameters"] == variant.head.parameters(2048, 21)
    assert told["head_macs"] == variant.head.parameters(2048, 21) * 16 * 16
    told = costs(variant, SHALLOW, 7, (64, 32))
    maps = ((8, 64 * 32), (16, 32 * 16), (16, 16 * 8), (16, 16 * 8))
    assert told["head_macs"] == sum(variant.head.parameters(channels, 7) * cells for channels, cells in maps)
    assert told["head_macs"] < told["macs"]


@pytest.mark.parametrize("variant", [None, Variant(gcn(5), refine=True)])
def test_reported_weights_match_the_built_network(variant: Variant | None) -> None:
    model = build(variant, SHALLOW, 7, 0)
    assert costs(variant, SHALLOW, 7, (64, 64))["parameters"] == sum(p.numel() for p in model.parameters())


def _curves(scores: dict[str, list[list[float]]], steps: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"label": label, "seed": seed, "data": "main", "head": "GCN", "kind": "score", "step": step, "value": value}
            for label, seeds in scores.items()
            for seed, values in enumerate(seeds)
            for step, value in zip(steps, values, strict=True)
        ]
    )


def test_the_ranking_settles_with_training_length() -> None:
    """a > b > c at the end, c > b > a halfway; the second seed ends as c > b > a."""
    scores = {"a": [[0.1, 0.5], [0.1, 0.3]], "b": [[0.2, 0.4], [0.2, 0.35]], "c": [[0.3, 0.3], [0.3, 0.36]]}
    found = equal_cost.lengths(_curves(scores, [50, 100])).set_index(["label", "share"])
    assert math.isnan(found.loc[("a", 0.25), "value"]) and math.isnan(found.loc[("a", 0.25), "tau"])
    assert found.loc[("a", 0.75), "value"] == pytest.approx((0.1 + 0.1 + 0.5 + 0.3) / 4)
    assert [found.loc[("b", share), "tau"] for share in (0.5, 1.0)] == pytest.approx([-1, 1])
    assert [found.loc[("b", share), "tau_seeds"] for share in (0.5, 1.0)] == pytest.approx([1, -1])


def test_batched_kendall_taus_match_scipy():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (9, 12)).astype(float)  # with ties
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 0], values[1:, 1] = 1.0, np.nan  # all tied; only one value
    found = equal_cost.kendall(values)
    for a, b in np.ndindex(found.shape):
        both = ~np.isnan(values[:, a]) & ~np.isnan(values[:, b])
        known = stats.kendalltau(values[both, a], values[both, b]).statistic if both.sum() > 1 else math.nan
        assert found[a, b] == pytest.approx(known, nan_ok=True)


@pytest.mark.slow
def test_the_report_shows_its_tables_comparisons(tmp_path: Path) -> None:
    """Fake scores depend on k only, and GCN has as many weights per k as kxk: at equal cost they are alike."""
    plan = fake_plan([tables.TABLES[name] for name in ("T1", "T2", "T3")], 3)
    folder = fake_folder(tmp_path / "fake", plan)
    document.build(folder, TIER, DEVIATIONS)
    told = json.loads((folder / "report.json").read_text())["matched"]
    rows = pd.read_csv(folder / "matched.csv")
    assert not told["same"] and [part["cost"] for part in told["tables"]] == ["weights", "multiply-adds"]
    for part, cost in zip(told["tables"], equal_cost.EQUAL, strict=True):
        for family in part["families"]:
            here = rows[(rows["source"] == "here") & (rows["cost"] == cost) & (rows["against"] == family["against"])]
            assert family["ours"]["compared"] == (here["outcome"] != "outside").sum()
            assert (family["against"] == "stack k=7 over m") == here.empty  # only the paper has it here
            for row in family["rows"] if len(here) else ():
                (match,) = here[here["label"] == row["label"]].itertuples()
                outside = match.outcome == "outside"
                assert row["between"].startswith("outside the range of") == outside
                assert row["gain"].split(" ")[0] == ("" if outside else f"{match.mean * 100:+z.1f}")
    measured = pd.read_csv(folder / "costs.csv").set_index("address").loc["T3/stack/7"]
    assert (measured["train_s"], measured["peak_memory_mb"], measured["steps"]) == (210, 521, 120)
