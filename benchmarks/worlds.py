"""Worlds with a known truth, for benchmarks.calibration: the true scores of trainings, and how they vary.

A *truth* gives the mean score of every cell of a plan, a *world* how trainings (and images) vary around it. Equal
trainings are one: a training that is in three tables has one score in all of them. Scores are points of per cent
everywhere, except those that are handed on, which are fractions.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from study.config import tiers
from study.config.schema import Seeds
from study.paper import tables
from study.paper.audit import sources
from study.paper.claims import CLAIMS, Claim
from study.paper.predicates import LOSSES, Margins, Part, Terms
from study.plan import planner
from study.seeds import generator
from study.spec.documents.data import Facts, Groups
from study.spec.documents.plan import Asked, PlanFile, trained
from study.statistics import answers, claim_tests, questions

# A tier that judges mechanisms, with every table that such a tier can have.
JUDGED = {
    "scale": "mechanism", "meaningless": False, "mechanisms": {}, "not_asked": {"resnet_gcn": "It cannot hold here."}
}  # fmt: skip
EACH = 4  # seeds that a look adds
FIRST_SEED = 3  # results of 0 to 2 were known before the claims took this form
EQUAL = 70.0  # points, if all is equal
OF_TRAINING = 0.8  # share of a score's variance that all scores of one training share
FOURTH = 4  # one training in four is odd
COLLAPSES = 0.2  # of the seeds of the odd ones
ALIKE = 1e-9  # a true contrast this near to its bound lies on it


@dataclass(frozen=True)
class Truth:
    """True means: the paper's printed numbers except for ``changed`` (points by address; a training has one score, so
    its other cells change too), or all equal if ``flat``, with ``gcn`` more points for GCN's cells. ``losses`` are nats
    by address, ``spread`` the standard deviation of a training's score in points."""

    name: str
    what: str
    spread: float
    flat: bool = False
    gcn: float = 0.0
    changed: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)


def _row(row: str, columns: Iterable[int | str], points: Iterable[float]) -> dict[str, float]:
    return {f"{row}/{column}": value for column, value in zip(columns, points, strict=True)}


def _bent(by: float) -> dict[str, float]:
    """Trends that go the right way as a whole, but turn back by this many points."""
    rises = (69, 72, 73, 74, 75, 75 - by / 4, 75 - by / 2, 75 - by)
    found = _row("T1/score", ("base", *range(3, 16, 2)), rises)
    found |= _row("T2/conv", (3, 5, 7, 9), (69.5, 72, 70, 70 + by / 2))
    return found | _row("T4/score", ("2048", "1024", "210"), (72, 70, 70 + by / 2))


_APART = {"T2/conv/5": 0.1, "T2/conv/9": 0.2}
TRUTHS = {
    truth.name: truth
    for truth in (
        Truth("null", "all cells are equal", 0.3, flat=True),
        Truth("paper", "the paper's numbers", 0.3, losses=_APART),
        Truth("bent", "trends rise and then fall by two points", 0.3, changed=_bent(2), losses=_APART),
        Truth("half", "half of the claims do not hold, most by nothing at all", 0.1, changed={
            "T2/conv/3": 70.1, "T2/conv/5": 70.1, "T4/score/1024": 71.3, "T4/score/210": 71.3,
            "T5/GCN+BR/boundary": 100 - 28.5 / 1.03,
            "T5/GCN+BR/internal": 95.0, "T5/GCN+BR/overall": 74.5, "T6/seg, baseline (1x1 head)/ResNet50-GCN": 65.7,
            "T7/Stage-3-MS/GCN + BR": 80.3, "T9/Stage-2-MS-CRF/GCN + BR": 77.2,
        }),
        Truth("past the margin", "GCN is above all others by a hair more than the margin", 0.1, flat=True, gcn=0.5001),
        Truth("slightly bent", "trends rise and then fall by half a point", 0.3, changed=_bent(0.5), losses=_APART),
    )
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """How trainings vary around the truth, in standard deviations of a training's score.

    ``skewed`` is the share of trainings whose scores have a long tail below, ``odd`` the factor by which every fourth
    varies more, ``common`` the part shared by all cells of a seed, ``step`` the rounding of scores. Every fourth
    collapses by ``depth`` points in one seed of five; the rule for settled trainings does or does not catch it
    (``caught``). ``lost``: one seed of one training is missing, and leaves its claims untested or is left out.
    """

    name: str
    what: str
    promised: bool = True
    skewed: float = 0.0
    odd: float = 1.0
    common: float = 0.0
    step: float = 0.0
    depth: float = 0.0
    caught: bool = True
    lost: str = ""


UNTESTED, LEFT_OUT = "untested", "left out"
WORLDS = {
    world.name: world
    for world in (
        World("normal", "seeds are normal"),
        World("skewed", "seeds have a long tail below", skewed=1.0),
        World("unequal", "every fourth training varies four times as much", odd=4.0),
        World("common", "seeds move all cells together, three times as much as one alone", common=3.0),
        World("ties", "scores have only a few values", step=1.5),
        World("collapse caught", "every fourth training collapses in one seed of five, which the settled rule sees",
              depth=20),
        World("failed", "one training fails, and its claims are untested", lost=UNTESTED),
        World("left out", "one training's seed is missing, and left out of its claims", lost=LEFT_OUT),
        World("half skewed", "every other training has a long tail below", promised=False, skewed=0.5),
        World("collapse missed", "every fourth training ends 8 points lower in one seed of five, and nothing shows it",
              promised=False, depth=8, caught=False),
    )
}  # fmt: skip


class Layout:
    """A plan's cells by their trainings. ``scored`` are the (training, metric) pairs that some claim is about,
    ``addresses`` the cells of each."""

    def __init__(self, made: PlanFile) -> None:
        self.plan = made
        self.claims = [CLAIMS[name] for name in questions.family(made)]
        predicates = [questions.predicate_of(claim, made["scale"]) for claim in self.claims]
        self.needed = {address for predicate in predicates if predicate for address in predicate.addresses}
        found: dict[tuple[str, str], list[str]] = {}
        for cell in made["cells"]:
            if cell["address"] in self.needed:
                found.setdefault((cell["runs"][str(FIRST_SEED)], cell["metric"]), []).append(cell["address"])
        self.addresses = list(found.values())
        keys = [trained(made, key) for key, _ in found]
        self.trainings = list(dict.fromkeys(keys))
        self.training_of = np.array([self.trainings.index(key) for key in keys])

    @property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for cell in self.plan["cells"] for seed in cell["runs"]})

    def means(self, truth: Truth) -> np.ndarray:
        """The true mean of each scored pair, in points."""
        if truth.flat:
            heads = {cell["address"]: cell["head"] for cell in self.plan["cells"]}
            return np.array([EQUAL + truth.gcn * (heads[cells[0]] == "GCN") for cells in self.addresses])
        found = []
        for addresses in self.addresses:
            printed = float(sources.printed(tables.TABLES, addresses[0]))
            (value,) = {truth.changed[a] for a in addresses if a in truth.changed} or {printed}
            found.append(value)
        return np.array(found)

    def losses(self, truth: Truth) -> dict[str, float]:
        """True final losses of the cells whose losses some claim is about, in nats."""
        return {address: truth.losses.get(address, 0.1) for address in _APART}


def _tier() -> tiers.Tier:
    params = tiers.read()
    block: Any = params["tiers"]["smoke"]
    return tiers.load({**params, "tiers": {**params["tiers"], "smoke": block | JUDGED}}, "smoke")  # type: ignore[typeddict-item]


def layout(seeds: int, most: int = 0, draws: int = 200) -> Layout:
    """The plan of the tier with this many seeds, as if all of its libraries were installed. If it may have up to
    ``most`` seeds, it has looks at EACH more, and no budget."""
    every = tuple(range(FIRST_SEED, FIRST_SEED + max(seeds, most)))
    chosen = dataclasses.replace(_tier(), seeds=every, not_applicable={})
    facts = {name: cast(Facts, {"fingerprint": "f" * 64, "classes": ["a", "b"]}) for name in chosen.settings}
    made = planner.build(chosen, facts, "cpu").manifest()
    made["verdicts"] = {**claim_tests.rules_of(made), "draws": draws}
    if most:
        looks = Seeds(start=FIRST_SEED, first=seeds, most=most, each=EACH)
        work = dict.fromkeys((*made["trainings"], *made["evaluations"]), 1.0)
        made["sequence"] = planner.looks(looks, work)
    return Layout(made)


# ------------------------------------------------------------------------------------------------ what truly holds
def standing(part: Part, number: Callable[[str, str], float], margins: Margins, line: bool = False) -> int:
    """1 if a part truly holds, -1 if it truly fails, 0 if the truth lies on a bound, where neither may be said.
    ``number`` gives the true value of a cell in a measure. ``line``: only the line of a trend counts."""

    def value(terms: Terms) -> float:
        return sum(float(weight) * number(address, part.measure) for weight, address in terms)

    falls = [value(after) - value(before) for before, after in itertools.combinations(part.order, 2)]
    if not line and any(fall < -ALIKE for fall in falls):
        return -1
    low, high = claim_tests.bounds_of(part, margins)
    effect = value(part.terms)
    inside = min(effect - low if low is not None else np.inf, high - effect if high is not None else np.inf)
    return 0 if abs(inside) < ALIKE else 1 if inside > 0 else -1


def standings(
    claims: Iterable[Claim], scale: str, number: Callable[[str, str], float], margins: Margins, line: bool = False
) -> dict[str, int]:
    """``standing`` of each claim: the worst of its parts."""
    found = {}
    for claim in claims:
        predicate = questions.predicate_of(claim, scale)
        assert predicate is not None
        found[claim.id] = min(standing(part, number, margins, line) for part in predicate.parts)
    return found


def alike(claims: Iterable[Claim], scale: str, number: Callable[[str, str], float], margins: Margins) -> dict[str, int]:
    """For each claim, 1 if the true effect of one of its parts is smaller than the margin, -1 if not, 0 if the truth
    lies on the margin."""
    found = {}
    for claim in claims:
        predicate = questions.predicate_of(claim, scale)
        assert predicate is not None
        stands = [-1]
        for part in predicate.parts:
            if answers.one_sided(part):
                effect = sum(float(weight) * number(address, part.measure) for weight, address in part.terms)
                inside = answers.margin_of(part, margins) - abs(effect)
                stands.append(0 if abs(inside) < ALIKE else 1 if inside > 0 else -1)
        found[claim.id] = max(stands)
    return found


def numbers(known: Mapping[str, float], losses: Mapping[str, float]) -> Callable[[str, str], float]:
    """Values by address and measure: of ``known`` scores (fractions), and of losses."""

    def number(address: str, measure: str) -> float:
        if measure == LOSSES:
            return losses[address]
        score = np.array(known[address])
        return float(claim_tests.logarithm_of_errors(score)) if measure == claim_tests.ERRORS else float(score)

    return number


# ------------------------------------------------------------------------------------------------ scores of trainings
class Simulated(claim_tests.Scores):
    """Scores, and losses by address and seed, with lost trainings: ``lost`` are seeds by address, which leave a claim
    untested as in study.statistics.claim_tests.Collected."""

    def __init__(
        self, made: Asked, known: Mapping[str, Mapping[int, float]], losses: dict[str, dict[int, float]],
        lost: Mapping[str, set[int]],
    ) -> None:  # fmt: skip
        super().__init__(made, known)
        self.losses, self.lost = losses, lost

    def troubles(self, addresses: Iterable[str]) -> list[str]:
        lost = ((address, seed) for address in addresses for seed in self.lost.get(address, ()) if self._kept(seed))
        return [f"{address}, seed {seed} (simulated)" for address, seed in lost]

    def unknown(self, measure: str, question: str) -> str:
        return "" if question == claim_tests.HERE else super().unknown(measure, question)

    def values(self, address: str, measure: str, seeds: claim_tests.Seeds) -> np.ndarray:
        if measure == LOSSES:
            return np.array([self.losses[address][seed] for seed in seeds])
        return super().values(address, measure, seeds)


def simulate(world: World, truth: Truth, of: Layout, number: int) -> Simulated:
    """One study: the scores of every training."""
    seeds = of.seeds
    draw = generator("calibration", world.name, truth.name, len(seeds), number)
    trained, scored, n = len(of.trainings), len(of.addresses), len(seeds)
    skewed = np.arange(trained) % 2 < 2 * world.skewed
    odd = np.arange(trained) % FOURTH == FOURTH - 1

    def noise(tail: np.ndarray) -> np.ndarray:
        shape = (len(tail), n)
        return np.where(tail[:, None], 1 - draw.exponential(size=shape), draw.normal(size=shape))

    mine = of.training_of
    together, alone = noise(skewed)[mine], noise(skewed[mine])
    varied = np.sqrt(OF_TRAINING) * together + np.sqrt(1 - OF_TRAINING) * alone
    varied *= np.where(odd, world.odd, 1.0)[mine, None]
    points = of.means(truth)[:, None] + truth.spread * (varied + world.common * draw.normal(size=n))
    fallen = (draw.random((trained, n)) < COLLAPSES) & odd[:, None] & (world.depth > 0)
    points = points - world.depth * fallen[mine]
    if not world.caught:  # the true mean is that of all trainings, as the fallen ones cannot be recognised
        points = points + world.depth * COLLAPSES * odd[mine, None]
    if world.step:
        step = world.step * truth.spread
        points = np.round(points / step) * step
    gone = np.zeros((trained, n), bool)
    if world.lost:
        gone[draw.integers(trained), draw.integers(n)] = True
    losses = {
        address: dict(zip(seeds, mean + 0.05 * draw.normal(size=n), strict=True))
        for address, mean in of.losses(truth).items()
    }
    known: dict[str, dict[int, float]] = {}
    lost: dict[str, set[int]] = {}
    for place in range(scored):
        training = mine[place]
        for address in of.addresses[place]:
            known[address] = {
                seed: float(points[place, at]) / 100 for at, seed in enumerate(seeds) if not gone[training, at]
            }
            untested = (fallen & world.caught | gone & (world.lost == UNTESTED))[training]
            lost[address] = {seed for at, seed in enumerate(seeds) if untested[at]}
    return Simulated(of.plan, known, losses, lost)


# ------------------------------------------------------------------------------------------------ counts of images
IMAGES, GROUP = 60, 20
PIXELS = np.array([200_000.0, 800_000.0])  # of an image, near boundaries and inside
REGIONS = {"boundary_accuracy": 71.5, "internal_accuracy": 95.0}  # points, if all cells are equal
BETWEEN, WITHIN, HARD = 1.5, 0.3, 2.0  # points by (training, image) for all seeds, for one, and by image for all
INSIDE = 0.3  # share of an image's effect on a score that shows inside objects


@dataclass(frozen=True)
class Photographs:
    """How images vary: they are ``alike`` (a correlation) within groups of GROUP, and the plan may know the groups."""

    name: str
    what: str
    alike: float
    known: bool
    promised: bool


PHOTOGRAPHS = {
    world.name: world
    for world in (
        Photographs("images", "images are independent", 0.0, False, True),
        Photographs("neighbours", "images of one group are alike, and the groups are known", 0.9, True, True),
        Photographs("neighbours unknown", "images of one group are alike, and the groups are not known", 0.9, False,
                    False),
    )
}  # fmt: skip


def grouped(made: PlanFile, world: Photographs) -> PlanFile:
    """The plan, with the groups of its images if they are known."""
    if not world.known:
        return made
    of = [image // GROUP for image in range(IMAGES)]
    groups: dict[str, Groups] = {"val": {"names": [str(group) for group in range(IMAGES // GROUP)], "of": of}}
    return {**made, "data": {name: {**found, "groups": groups} for name, found in made["data"].items()}}


def photograph(
    world: Photographs, truth: Truth, of: Layout, number: int, folder: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Write the counts of one study to the folder of each training and evaluation. Returns the true scores of the cells
    on these very images, and their true losses. There is one class, and false positives bring the IoU to the score."""
    seeds, n = of.seeds, len(of.seeds)
    draw = generator("calibration", world.name, truth.name, n, number)
    cells = {address: cell for cell in of.plan["cells"] if (address := cell["address"]) in of.needed}
    counted: dict[str, dict[str, float]] = {}  # by key of the first seed, its metrics' means
    for addresses, mean in zip(of.addresses, of.means(truth), strict=True):
        cell = cells[addresses[0]]
        fixed = REGIONS.get(cell["metric"], mean) if truth.flat else mean
        counted.setdefault(cell["runs"][str(seeds[0])], {})[cell["metric"]] = float(fixed)
    shape = (len(counted), IMAGES // GROUP)
    shift = np.sqrt(world.alike) * np.repeat(draw.normal(size=shape), GROUP, axis=1)
    shift = BETWEEN * (shift + np.sqrt(1 - world.alike) * draw.normal(size=shift.shape)) + HARD * draw.normal(
        size=IMAGES
    )
    known: dict[str, float] = {}
    for (key, wanted), images in zip(counted.items(), shift, strict=True):
        own = [cell for cell in cells.values() if cell["runs"][str(seeds[0])] == key]
        varied = images + truth.spread * draw.normal(size=(n, 1)) + WITHIN * draw.normal(size=(n, IMAGES))
        for seed, one in zip(seeds, varied, strict=True):
            counts = np.round(_counts(wanted, one)).astype(np.int64)
            np.savez(folder / own[0]["runs"][str(seed)] / "counts.npz", counts=counts)
        known |= {cell["address"]: _score(_counts(wanted, images), cell["metric"]) for cell in own}
    losses = of.losses(truth)
    for address, mean in losses.items():
        for seed in seeds:
            write_curve(folder / cells[address]["runs"][str(seed)], of.plan, mean + 0.05 * draw.normal())
    return known, losses


def prepare(folder: Path, of: Layout) -> None:
    """Write what all studies share: trainings that settled, recorded the questions, and make errors on the tune
    split."""
    asked = json.dumps({"labels": {"questions": questions.digests(of.plan)}})
    wrong = _counts({}, np.zeros(IMAGES)).astype(np.int64)
    for key in (*of.plan["trainings"], *of.plan["evaluations"]):
        (folder / key).mkdir()
        (folder / key / "training.json").write_text(asked, encoding="utf-8")
        for name in ("counts.npz", "tune.npz"):
            np.savez(folder / key / name, counts=wrong)
        if key in of.plan["trainings"]:
            write_curve(folder / key, of.plan, 0.1)


def write_curve(folder: Path, made: Mapping[str, Any], loss: float) -> None:
    """Write a learning curve that ends at a loss and settled."""
    steps = made["trainings"][folder.name]["steps"]
    curve = {"loss": [[steps // 2, 0.2], [steps, loss]], "score": [[steps, 0.6]]}
    (folder / "curve.json").write_text(json.dumps(curve), encoding="utf-8")


def _counts(wanted: Mapping[str, float], shift: np.ndarray) -> np.ndarray:
    """Counts (images, 2, 1, 3), not rounded, whose scores are the wanted ones (points) plus a shift per image."""
    share = {"boundary_accuracy": 95.0, "internal_accuracy": 95.0, "miou": EQUAL} | dict(wanted)
    accuracy = np.stack([share["boundary_accuracy"] + shift, share["internal_accuracy"] + INSIDE * shift], axis=1)
    hits = PIXELS * np.clip(accuracy, 1, 99.9) / 100
    wrong = 100 * hits.sum(1) / np.clip(share["miou"] + shift, 1, 90) - PIXELS.sum()  # tp / (tp + fn + fp) is the score
    return np.stack([hits, np.stack([wrong, 0 * wrong], axis=1), PIXELS - hits], axis=-1)[:, :, None]


def _score(counts: np.ndarray, metric: str) -> float:
    tp, fp, fn = np.moveaxis(counts.sum(0)[:, 0], -1, 0)
    if metric == "miou":
        return float(tp.sum() / (tp + fp + fn).sum())
    region = 0 if metric == "boundary_accuracy" else 1
    return float(tp[region] / (tp + fn)[region])
