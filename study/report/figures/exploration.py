"""Figures of an exploration: score against cost with the front, its progress, score by kernel size, and what decides
it."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.report.figures.families import BLUE, GREEN, GREY, ORANGE, PINK, RC, RED, canvas
from study.report.figures.style import INK
from study.spec.documents.explored import Importance
from study.spec.heads import AFTER, HEADS

_PAPERS = {"dense": ("one kxk convolution", ORANGE), "gcn": ("GCN", BLUE), "stack": ("stack", GREEN)}
# Families that the paper does not have go by their own name.
FAMILIES = {family: _PAPERS.get(family, (family, PINK)) for family in HEADS}
COSTS = {"macs": (1e9, "G multiply-adds per image"), "parameters": (1e3, "thousand weights"),
         "memory": (2.0**20, "MiB of a training step, computed")}  # fmt: skip
FRONT = "Score against cost"
FRONT_CAPTION = (
    "Circles: every completed trial, by its score on the tune split in the search. Squares: the networks that were "
    "retrained with new seeds, by their score on val with its 95 % interval. Line: the front of the search. Filled "
    "circles have boundary refinement in all places, half-filled ones in some."
)
HISTORY = "Progress of the search"
HISTORY_CAPTION = (
    "Scores on the tune split in the order of the trials. Line: the best so far. Crosses: trials that stopped early or "
    "failed."
)
SLICES = "Score by kernel size at each level"
SLICES_CAPTION = (
    "Completed trials. Bars: means. The other levels, the rate and refinement differ from point to point, so this "
    "shows which sizes good networks have, not what a size does alone."
)
PARALLEL = "Networks side by side"
PARALLEL_CAPTION = "One line per completed trial, the darker the better. The rate is logarithmic."
SHARES = "What decides the score of a network"
SHARES_CAPTION = (
    "The share of each factor in the variance of the scores (fANOVA, main effects), with the 90 % interval over "
    "resampled trials. A sampler looks where scores are good, so the shares hold for the networks that it tried."
)


def _ended(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[(trials["state"] == "COMPLETE") & trials["score"].notna()]


def _families(trials: pd.DataFrame) -> list[str]:
    return [family for family in FAMILIES if family in set(trials["head"])]


@mpl.rc_context(RC)
def front(trials: pd.DataFrame, numbers: list[int], winners: pd.DataFrame, against: str, known: list[str]) -> Figure:
    """``trials`` are rows of explored.json, ``numbers`` those of the front. ``winners`` has the costs of each, and
    ``mean``, ``low`` and ``high`` on val (fractions). ``known`` are the possible places of refinement."""
    figure, axes = canvas(1, 1, 3.2)
    ax, ended = axes[0, 0], _ended(trials)
    unit, words = COSTS[against]
    for family in _families(ended):
        shown = ended[ended["head"] == family]
        places = shown["refine"].map(len)
        for some, style in ((0, "none"), (1, "left"), (2, "full")):  # in no place, in some, in all of them
            rows = shown[np.sign(places) + (places == len(known)) == some]
            ax.plot(rows[against] / unit, rows["score"] * 100, "o", ms=3, fillstyle=style, color=FAMILIES[family][1],
                    mfcalt="white", mew=0.8)  # fmt: skip
    line = ended[ended["number"].isin(numbers)].sort_values(against)
    ax.step(line[against] / unit, line["score"] * 100, where="post", color=INK, lw=0.8)
    half = np.vstack([winners["mean"] - winners["low"], winners["high"] - winners["mean"]]) * 100
    ax.errorbar(
        winners[against] / unit, winners["mean"] * 100, np.nan_to_num(half), fmt="s", color=RED, ms=4, capsize=2, lw=1
    )
    ax.set(xlabel=words, ylabel="mIoU (%)")
    handles: list[Any] = [
        Line2D([], [], color=colour, marker="o", ls="none", ms=4, label=name)
        for family, (name, colour) in FAMILIES.items() if family in set(ended["head"])
    ]  # fmt: skip
    handles += [Line2D([], [], color=INK, lw=0.8, label="front of the search"),
                Line2D([], [], color=RED, marker="s", ls="none", ms=4, label="retrained, on val")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


@mpl.rc_context(RC)
def history(trials: pd.DataFrame) -> Figure:
    """Scores by trial number."""
    figure, axes = canvas(1, 1, 2.4)
    ax, ended = axes[0, 0], _ended(trials)
    for family in _families(ended):
        rows = ended[ended["head"] == family]
        ax.plot(rows["number"], rows["score"] * 100, "o", ms=3, color=FAMILIES[family][1])
    others = trials[trials["state"] != "COMPLETE"]
    low = (ended["score"].min() if len(ended) else 0.0) * 100
    ax.plot(others["number"], (others["score"].astype(float) * 100).fillna(low), "x", ms=4, color=GREY)
    ax.step(ended["number"], ended["score"].cummax() * 100, where="post", color=INK, lw=0.8)
    ax.set(xlabel="trial", ylabel="tune mIoU (%)")
    return figure


@mpl.rc_context(RC)
def slices(trials: pd.DataFrame, levels: list[str]) -> Figure:
    """One panel per level: score by its kernel size, with means."""
    figure, axes = canvas(1, max(1, len(levels)), 2.4, sharey=True)
    ended = _ended(trials)
    for ax, level in zip(axes[0], levels, strict=False):
        sizes = sorted(set(ended[f"k {level}"]))
        places = {k: place for place, k in enumerate(sizes)}
        for family in _families(ended):
            rows = ended[ended["head"] == family]
            ax.plot([places[k] for k in rows[f"k {level}"]], rows["score"] * 100, "o", ms=3, color=FAMILIES[family][1])
        means = ended.groupby(f"k {level}")["score"].mean() * 100
        ax.plot([places[k] for k in means.index], means, "_", ms=14, color=INK)
        ax.set_xticks(range(len(sizes)), [str(k) for k in sizes])
        ax.set(title=level, xlabel="kernel size")
    axes[0, 0].set_ylabel("tune mIoU (%)")
    return figure


@mpl.rc_context(RC)
def parallel(trials: pd.DataFrame, levels: list[str], places: list[str]) -> Figure:
    """One line per trial across head, kernel sizes, refinement by place, rate and score."""
    figure, axes = canvas(1, 1, 2.8)
    ax, ended = axes[0, 0], _ended(trials).sort_values("score")
    columns: list[tuple[str, np.ndarray, list[tuple[float, str]]]] = []

    def add(name: str, values: Any, ticks: list[tuple[float, str]]) -> None:
        found = np.asarray(values, float)
        low, high = (min(t for t, _ in ticks), max(t for t, _ in ticks)) if ticks else (found.min(), found.max())
        wide = (high - low) or 1.0
        columns.append((name, (found - low) / wide, [((t - low) / wide, text) for t, text in ticks]))

    families = _families(ended)
    add("head", [families.index(f) for f in ended["head"]], [(i, FAMILIES[f][0]) for i, f in enumerate(families)])
    for level in levels:
        sizes = sorted(set(ended[f"k {level}"]))
        add(f"k, {level}", [sizes.index(k) for k in ended[f"k {level}"]], [(i, str(k)) for i, k in enumerate(sizes)])
    for one in places:
        add(f"BR\n{AFTER[one]}", [one in refine for refine in ended["refine"]], [(0, "no"), (1, "yes")])
    rates = np.log10(ended["lr"])
    add("rate", rates, [(end, f"{10**end:.2g}") for end in (rates.min(), rates.max())])
    score = ended["score"] * 100
    add("tune mIoU", score, [(end, f"{end:.0f} %") for end in (score.min(), score.max())])
    shades = mpl.colormaps["Blues"](np.linspace(0.15, 1, max(1, len(ended))))
    draw = np.random.default_rng(0).uniform(-0.02, 0.02, (len(ended), len(columns)))  # so that equal lines stay visible
    for place in range(len(ended)):
        ax.plot(range(len(columns)), [c[1][place] for c in columns] + draw[place], color=shades[place], lw=0.8)
    for place, (_, _, ticks) in enumerate(columns):
        for at, text in ticks:
            ax.annotate(
                text, (place, at), fontsize=6, xytext=(3, 0), textcoords="offset points", va="center", color=INK
            )
    ax.set_xticks(range(len(columns)), [name for name, _, _ in columns])
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return figure


@mpl.rc_context(RC)
def shares(found: list[Importance]) -> Figure:
    """The share of each factor, in per cent, with its interval."""
    rows = sorted(found, key=lambda row: row["share"])
    figure, axes = canvas(1, 1, 0.75 + 0.26 * len(rows))
    values = np.array([row["share"] for row in rows]) * 100
    half = [[100 * (row["share"] - row["low"]) for row in rows], [100 * (row["high"] - row["share"]) for row in rows]]
    axes[0, 0].barh([row["factor"] for row in rows], values, color=BLUE, height=0.6)
    axes[0, 0].errorbar(values, range(len(rows)), xerr=half, fmt="none", color=INK, lw=0.8, capsize=2)
    axes[0, 0].set(xlabel="share of the variance of the tune score (fANOVA, %)", xlim=(0, 105))
    axes[0, 0].grid(False, axis="y")
    return figure
