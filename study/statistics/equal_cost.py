"""Is it only more parameters? Scores at equal cost and after a share of the training, ours and the paper's (D97, D98).

Pure functions of a plan, the tidy frame, the collected results and the costs of networks. Scores are fractions.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.paper.labels import labels
from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES, TABLES
from study.spec.documents.networks import CostsFile
from study.spec.documents.plan import PlanFile, labels_of, trained
from study.spec.documents.reading import columns_of, read, version_of
from study.spec.documents.tables import CostRow
from study.statistics import results
from study.statistics.intervals import half_width

EQUAL = ("head_parameters", "head_macs")  # costs at which heads are compared
GCN = "GCN"
RIVALS = {"1x1": "kxk", "kxk": "kxk", "stack": "stack"}  # 1x1 is the kxk convolution with k = 1
HERE, PAPER = "here", "paper"
BETTER, WORSE, UNDECIDED, OUTSIDE = "better", "worse", "undecided", "outside"
COUNTED_CELLS = 16 * 16  # of res-5 at 512x512 (Fig. 2A)
SHARES = (0.25, 0.5, 0.75, 1.0)
_TEXTS = ("address", "label", "metric", "data", "head")
POINTS = ["family", "label", "kernel_size", "seed", "value", *EQUAL]
MATCHES = [
    "source", "cost", "label", "kernel_size", "at", "against", "below", "above", "span", "mean", "low", "high", "seeds",
    "outcome", "nearest", "ratio", "nearest_mean",
]  # fmt: skip


def tables(folder: Path, plan: PlanFile, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables costs, matched and lengths of a tier's ``folder``, from its results/ and examined/costs.json."""
    counted = read(folder / "examined" / "costs.json", CostsFile)
    points = points_of(plan, frame, counted)
    return {
        "costs": costs(plan, results.summary(frame), folder / "results", counted),
        "matched": pd.concat([matches(points, HERE), matches(points_of_paper(), PAPER)], ignore_index=True),
        "lengths": lengths(results.curves(plan, folder / "results")),
    }


def costs(plan: PlanFile, summary: pd.DataFrame, collected: Path, counted: CostsFile) -> pd.DataFrame:
    """One row per trained cell: its score with the 95 % interval, and what its network costs. ``macs`` are
    multiply-adds on one image. ``train_s`` (seconds) and ``peak_memory_mb`` (MiB, of the GPU where one trained) are
    measured means over seeds. If a training starts from another, they cover the last stage only."""
    scores = summary.set_index(["address", "metric"])
    rows = []
    for cell in plan["cells"]:
        if not cell["runs"]:
            continue
        keys = [trained(plan, key) for key in cell["runs"].values()]
        training, told = plan["trainings"][keys[0]], [_measured(collected / key) for key in keys]
        score = scores.loc[(cell["address"], cell["metric"])]
        rows.append(
            {"address": cell["address"], "metric": cell["metric"], "data": cell["data"]}
            | labels_of(cell)
            | {name: score[name] for name in ("mean", "low", "high", "seeds")}
            | counted[training["data"]][training["label"]]
            | {name: _mean([one[name] for one in told if name in one]) for name in ("train_s", "peak_memory_mb")}
            | {"steps": training["steps"], "version": version_of(CostRow)}
        )
    return pd.DataFrame(rows, columns=columns_of(CostRow))


def read_costs(path: Path) -> pd.DataFrame:
    """The rows of a costs.csv. Raises InputError if it is missing or has another version."""
    return results.declared(path, CostRow, _TEXTS)


def _measured(run: Path) -> dict[str, float]:
    path = run / "result.json"
    if not path.is_file():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))
    memory = told["peak_gpu_memory_mb"] or told["peak_memory_mb"]
    return {"train_s": told["seconds"]["train"], "peak_memory_mb": memory}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def points_of(plan: PlanFile, frame: pd.DataFrame, counted: CostsFile) -> pd.DataFrame:
    """One row (POINTS) per family, variant and seed of the main setting's trainings that differ only in their head."""
    cells = {cell["address"]: cell for cell in plan["cells"] if cell["data"] == "main" and not cell["inference"]}
    rows = []
    for row in frame[frame["metric"] == "miou"].dropna(subset=["value", "seed"]).itertuples():
        if (cell := cells.get(row.address)) is not None:
            cost = counted["main"][plan["trainings"][row.run]["label"]]
            equal = {"head_parameters": cost["head_parameters"], "head_macs": cost["head_macs"]}
            rows.append(labels_of(cell) | {"seed": int(row.seed), "value": row.value} | equal)
    return _families(rows)


def points_of_paper() -> pd.DataFrame:
    """The same rows for the printed scores of Tables 1 to 4, with the weights of the head on res-5 as Tables 2 and 4
    count them. Where the paper prints no count (Table 3), the same arithmetic gives it."""
    rows = []
    for cell in itertools.chain.from_iterable(TABLES[name].cells for name in ("T1", "T2", "T3", "T4")):
        if cell.metric == "miou" and cell.variant is not None and cell.paper is not None:
            weights = cell.variant.head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES)
            cost = {"head_parameters": weights, "head_macs": weights * COUNTED_CELLS}
            rows.append(labels_of(labels(cell.variant)) | {"seed": 0, "value": cell.paper} | cost)
    return _families(rows)


def _families(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """``rows`` by family. Narrowed stacks of one k form a family over their width m, which includes the full stack."""
    plain = [row for row in rows if not row["refine"] and "(" not in row["label"] and row["head"] in (GCN, *RIVALS)]
    narrowed = {row["kernel_size"] for row in plain if row["width"] not in (None, 1)}
    found = []
    for row in plain:
        if row["width"] in (None, 1):
            found.append(row | {"family": RIVALS.get(row["head"], GCN)})
        if row["head"] == "stack" and row["kernel_size"] in narrowed:
            found.append(row | {"family": f"stack k={row['kernel_size']} over m"})
    return pd.DataFrame(found, columns=POINTS).drop_duplicates(["family", "label", "seed"])


def matches(points: pd.DataFrame, source: str) -> pd.DataFrame:
    """Compare GCN with every other family at equal cost: one row (MATCHES) per cost, k of GCN and family.

    A family's score at GCN's cost is interpolated linearly in log(cost) between its variants ``below`` and ``above``,
    whose costs differ by the factor ``span``. Each seed is interpolated on its own, so ``mean``, GCN's gain, averages
    paired differences, and ``low`` and ``high`` bound its 95 % t interval over seeds. ``outcome`` follows that
    interval; for the paper, with one training each, it follows the sign. Outside the range of a family's costs nothing
    is compared, and ``below`` and ``above`` are its cheapest and dearest variants. ``nearest`` is the variant of the
    nearest cost, ``ratio`` its cost over GCN's, and ``nearest_mean`` GCN's gain over it.
    """
    values = points.drop_duplicates(["label", "seed"]).pivot(index="seed", columns="label", values="value")
    ours, others = points[points["family"] == GCN], points[points["family"] != GCN]
    rows = []
    for cost, against in itertools.product(EQUAL, others["family"].unique()):
        known = others[others["family"] == against].drop_duplicates("label").set_index("label")[cost].sort_values()
        for gcn in ours.drop_duplicates("label").sort_values("kernel_size").to_dict("records"):
            found = _gain(values, gcn["label"], gcn[cost], known)
            named = {"source": source, "cost": cost, "label": gcn["label"], "kernel_size": gcn["kernel_size"]}
            rows.append(named | {"at": gcn[cost], "against": against} | found)
    found = pd.DataFrame(rows, columns=MATCHES)
    if source == PAPER:
        inside = found["outcome"] != OUTSIDE
        found.loc[inside, "outcome"] = np.select([found["mean"] > 0, found["mean"] < 0], [BETTER, WORSE], UNDECIDED)[
            inside
        ]
    return found


def _gain(values: pd.DataFrame, label: str, at: float, known: pd.Series) -> dict[str, Any]:
    """One comparison of ``matches``. ``values`` is (seeds x labels), ``known`` the costs of the other family,
    ascending."""
    nearest = str(np.log(known / at).abs().idxmin())
    found: dict[str, Any] = {
        "nearest": nearest, "ratio": known[nearest] / at,
        "nearest_mean": float((values[label] - values[nearest]).mean()),
    }  # fmt: skip
    if not known.iloc[0] <= at <= known.iloc[-1]:
        nothing = {"mean": math.nan, "low": math.nan, "high": math.nan, "seeds": 0, "outcome": OUTSIDE}
        return (
            found
            | {"below": known.index[0], "above": known.index[-1], "span": known.iloc[-1] / known.iloc[0]}
            | nothing
        )
    below, above = known[known <= at].index[-1], known[known >= at].index[0]
    span = known[above] / known[below]
    weight = math.log(at / known[below]) / math.log(span) if span > 1 else 0.0
    gains = (values[label] - (1 - weight) * values[below] - weight * values[above]).dropna()
    n, mean = len(gains), float(gains.mean())
    half = half_width(gains.to_numpy())
    outcome = BETTER if mean - half > 0 else WORSE if mean + half < 0 else UNDECIDED
    return found | {"below": below, "above": above, "span": span, "mean": mean, "low": mean - half, "high": mean + half,
                    "seeds": n, "outcome": outcome}  # fmt: skip


def lengths(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean score on the tune split of each main variant after each of SHARES of its steps: one row per variant and
    share.

    Scores are interpolated in steps between validations; there is none before the first. ``tau`` is Kendall's tau
    between the order of all variants then and their order at the end (the same in all rows of a share). ``tau_seeds``
    is the mean tau between the orders of two seeds then: what chance alone leaves of an order.
    """
    names = ["label", "share", "value", "tau", "tau_seeds"]
    scored = curves[(curves["kind"] == "score") & (curves["data"] == "main") & (curves["head"] != "classifier")]
    rows = []
    for (label, seed), points in scored.sort_values("step").groupby(["label", "seed"], sort=False):
        steps, last = points["step"].to_numpy(), points["step"].max()
        for share in SHARES:
            value = float(np.interp(share * last, steps, points["value"], left=math.nan))
            rows.append({"label": label, "seed": seed, "share": share, "value": value})
    if not rows:
        return pd.DataFrame(columns=names)
    every = pd.DataFrame(rows)
    means = every.groupby(["label", "share"], sort=False, as_index=False)["value"].mean()
    wide = means.pivot(index="label", columns="share", values="value")
    taus = dict(zip(SHARES, kendall(wide[list(SHARES)].to_numpy())[:, -1], strict=True))
    between = {}
    for share, then in every.groupby("share"):
        found = kendall(then.pivot(index="label", columns="seed", values="value").to_numpy())
        pairs = found[np.triu_indices_from(found, 1)]
        between[share] = _mean([tau for tau in pairs if not math.isnan(tau)])
    return means.assign(tau=means["share"].map(taus), tau_seeds=means["share"].map(between))[names]


def kendall(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (columns, columns) between the columns of ``values`` (rows, columns), over rows that both have;
    nan if there are fewer than two of these, or all tie. All pairs are computed at once, since hundreds of seeds make
    70,000."""
    one, other = np.triu_indices(len(values), 1)
    signs = np.sign(values[one] - values[other]).T  # (columns, pairs of rows)
    there = ~np.isnan(signs)
    signs = np.where(there, signs, 0.0)
    untied = (signs**2) @ there.T.astype(float)  # untied pairs of a column that the other column has as well
    with np.errstate(invalid="ignore"):
        return signs @ signs.T / np.sqrt(untied * untied.T)
