"""Looks at a study's results, and which claims get more seeds after each look (D149).

A plan says at which numbers of seeds it looks, how the looks share alpha and what the study may cost. At a look, every
open claim is tested with the seeds it has so far. A claim leaves the study when it is decided, when its trainings fail,
with its last seeds, when more seeds would hardly decide it, or when they cost more than is left. A claim that left
keeps the answer of its look, whatever its cells are trained for later.

All of this is a function of the plan and the scores: neither workers nor kills can change it. A plan without a sequence
has one look, at all of its seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from study.paper.claims import CLAIMS, PRIMARY, Claim
from study.spec.documents.plan import PlanFile
from study.statistics import answers, mechanisms, questions
from study.statistics.answers import DECIDED, SAME, Judgement
from study.statistics.claim_tests import BEYOND, HERE, Scores, Tested, rules_of
from study.statistics.levels import Levels

REACH = 0.1  # a claim with a smaller chance of a verdict at the last look is out of reach
DECIDED_THERE, NOT_TESTED, LAST, OUT_OF_REACH, OUT_OF_BUDGET = (
    "decided", "not tested", "open at the end", "out of reach", "out of budget",
)  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """The ``seeds`` in the order in which they are drawn, the numbers of seeds ``at`` which a look happens, the looks'
    ``shares`` of alpha, the ``budget``, and the ``work`` of trainings and evaluations by key, in tera multiply-adds."""

    seeds: tuple[int, ...]
    at: tuple[int, ...]
    shares: tuple[float, ...]
    budget: float = math.inf
    work: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The answer on a claim when it left: after which ``look`` (from 0), with which ``seeds``, why, and by question the
    judgement with the tested parts. ``chance`` is that of a verdict at the last look, as estimated then."""

    look: int
    seeds: tuple[int, ...]
    left: str
    judged: dict[str, Judgement]
    parts: dict[str, list[Tested]]
    chance: float = math.nan


@dataclass
class Look:
    """What a look saw: the number of ``seeds``, the claims ``open`` before it, those that left, with the reason, and
    the tera multiply-adds ``spent`` by then."""

    seeds: int
    open: list[str]
    left: dict[str, str]
    spent: float


@dataclass
class Course:
    """How a study went: ``answers`` by claim, and ``drawn``, the keys of the trainings and evaluations that it has
    called for. ``ended`` is False while results are still to come."""

    answers: dict[str, Answer] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    drawn: set[str] = field(default_factory=set)
    ended: bool = False


def of_plan(plan: PlanFile) -> Looks:
    """The sequence of a plan; without one, a single look at all of its seeds."""
    if (told := plan.get("sequence")) is None:
        seeds = sorted({int(seed) for cell in plan["cells"] for seed in cell["runs"]})
        return Looks(tuple(seeds), (len(seeds),), (1.0,))
    budget = math.inf if told["budget"] is None else told["budget"]
    return Looks(tuple(told["seeds"]), tuple(told["at"]), tuple(told["shares"]), budget, told["work"])


def first_seeds(plan: PlanFile) -> tuple[int, ...]:
    """The seeds of the first look."""
    looks = of_plan(plan)
    return looks.seeds[: looks.at[0]]


def first_keys(plan: PlanFile) -> set[str]:
    """The keys of the trainings and evaluations of the first look."""
    return keys_of(plan, (cell["address"] for cell in plan["cells"]), first_seeds(plan))


def follow(
    plan: PlanFile,
    collected: Scores,
    families: Sequence[Sequence[Claim]],
    ready: Callable[[str], bool] = lambda key: True,
    *,
    beyond: bool = True,
) -> Course:
    """Follow a study through its looks, as far as its results go. Each of the ``families`` of claims has its own alpha.
    ``ready`` says, for the key of a training or evaluation, whether it has ended, well or not. Without ``beyond``,
    claims are not judged beyond these images, which has no effect on the course."""
    return _Study(plan, collected, families, beyond).follow(ready)


def families(plan: PlanFile) -> list[list[Claim]]:
    """The families that a plan asks: the paper's claims, and the tier's mechanisms."""
    return [list(CLAIMS.values()), mechanisms.claims(plan)]


class _Study:
    def __init__(
        self, plan: PlanFile, collected: Scores, families: Sequence[Sequence[Claim]], beyond: bool = True
    ) -> None:
        self.beyond = beyond
        self.plan, self.collected, self.sequence = plan, collected, of_plan(plan)
        self.margins, self.cells = answers.margins_of(plan), {cell["address"]: cell for cell in plan["cells"]}
        self.claims: dict[str, Claim] = {}
        self.levels: list[dict[str, Levels]] = []
        self.family_of: dict[str, int] = {}
        for number, family in enumerate(families):
            members = questions.family(plan, family)
            self.claims |= {claim.id: claim for claim in family if claim.id in members}
            self.family_of |= dict.fromkeys(members, number)
            self.levels.append({question: Levels(members, PRIMARY) for question in (HERE, BEYOND)})
        self.course = Course()

    def follow(self, ready: Callable[[str], bool]) -> Course:
        course, sequence = self.course, self.sequence
        addresses = [address for address, cell in self.cells.items() if cell["runs"]]
        course.drawn = self._keys(addresses, 0)
        active = list(self.claims)
        for look in range(len(sequence.at)):
            if not all(map(ready, course.drawn)):
                return course
            if not active:
                break
            active = self._look(look, active)
        course.ended = True
        return course

    def _look(self, look: int, active: list[str]) -> list[str]:
        """Look at the open claims. Draws seeds for those that get more, and returns them."""
        sequence, last = self.sequence, look == len(self.sequence.at) - 1
        seeds = sequence.seeds[: sequence.at[look]]
        known, share = self.collected.of_seeds(seeds), sequence.shares[look]
        found = {name: self._tested(name, known, HERE, share) for name in active}
        judged = self._judged(found, HERE, look)
        left, chances = {}, dict.fromkeys(active, math.nan)
        for name in active:
            if not found[name][1]:
                left[name] = NOT_TESTED
            elif judged[name].verdict in DECIDED:
                left[name] = DECIDED_THERE
            elif last:
                left[name] = LAST
            else:
                chances[name] = self._chance(name, found[name][1], len(sequence.at) - 1)
                if chances[name] < REACH:
                    left[name] = OUT_OF_REACH
        going = [name for name in active if name not in left]
        promises = {name: self._chance(name, found[name][1], look + 1) for name in going}
        stays = self._afford(promises, look + 1)
        left |= dict.fromkeys((name for name in going if name not in stays), OUT_OF_BUDGET)
        beyond: dict[str, tuple[Judgement, list[Tested]]] = {name: (Judgement(), []) for name in left}
        if self.beyond:
            beyond = {name: self._tested(name, known, BEYOND, share) for name in left}
        judged_beyond = self._judged(beyond, BEYOND, look)
        for name, why in left.items():
            self.course.answers[name] = Answer(
                look,
                seeds,
                why,
                judged={HERE: judged[name], BEYOND: judged_beyond[name]},
                parts={HERE: found[name][1], BEYOND: beyond[name][1]},
                chance=chances[name],
            )
        spent = self._cost(self.course.drawn)
        self.course.looks.append(Look(len(seeds), list(active), left, spent))
        for name in stays:
            self.course.drawn |= self._keys(self._addresses(name), look + 1)
        return stays

    def _tested(self, name: str, known: Scores, question: str, share: float) -> tuple[Judgement, list[Tested]]:
        predicate = questions.predicate_of(self.claims[name], self.plan["scale"])
        return answers.tested(predicate, self.plan, known, question, share)

    def _judged(
        self, found: dict[str, tuple[Judgement, list[Tested]]], question: str, look: int
    ) -> dict[str, Judgement]:
        """The judgements of claims that were tested together. Decided claims pass their share of alpha on."""
        alpha, share, judged = rules_of(self.plan)["alpha"], self.sequence.shares[look], {}
        for family, by_question in enumerate(self.levels):
            levels = by_question[question]
            mine = {name: parts for name, (_, parts) in found.items() if self.family_of[name] == family}
            ps = {name: answers.p_of(parts, alpha) / share for name, parts in mine.items()}
            adjusted = levels.decided(ps, alpha)
            for name, parts in mine.items():
                untested = found[name][0]
                if not parts:
                    judged[name] = untested
                    continue
                # At its own share, without what others passed on: those may be wrong about "no difference" as well.
                same = min(1.0, answers.p_same(parts, self.margins) / share / levels.initial[name])
                kind = answers.kind_of(parts, adjusted[name], same, alpha)
                shown = same if kind == SAME else adjusted[name]
                first = levels.initial[name] * alpha
                at_end = first * self.sequence.shares[-1]
                judged[name] = answers.judged(parts, kind, shown, first * share, self.plan, needed_at=at_end)
        return judged

    def _chance(self, name: str, parts: list[Tested], look: int) -> float:
        levels, alpha = self.levels[self.family_of[name]][HERE], rules_of(self.plan)["alpha"]
        now, first = (alpha * self.sequence.shares[look] * one[name] for one in (levels.shares, levels.initial))
        return answers.chance(parts, self.margins, now, self.sequence.at[look], first)

    def _afford(self, promises: dict[str, float], look: int) -> list[str]:
        """The claims whose seeds at a look fit in the budget. Those that promise most verdicts for their cost come
        first."""
        drawn, left, stays = set(self.course.drawn), dict(promises), list[str]()
        rest = self.sequence.budget - self._cost(drawn)
        while left:
            costs = {name: self._cost(self._keys(self._addresses(name), look) - drawn) for name in left}
            name = min(left, key=lambda one: (-left[one] / costs[one] if costs[one] else -math.inf, one))
            del left[name]
            if costs[name] <= rest:
                rest -= costs[name]
                drawn |= self._keys(self._addresses(name), look)
                stays.append(name)
        return [name for name in promises if name in stays]

    def _addresses(self, name: str) -> tuple[str, ...]:
        predicate = questions.predicate_of(self.claims[name], self.plan["scale"])
        return predicate.addresses if predicate else ()

    def _keys(self, addresses: Iterable[str], look: int) -> set[str]:
        """The trainings and evaluations that cells need for the seeds up to a look."""
        return keys_of(self.plan, addresses, self.sequence.seeds[: self.sequence.at[look]])

    def _cost(self, keys: Iterable[str]) -> float:
        return math.fsum(self.sequence.work.get(key, 0.0) for key in keys)


def keys_of(plan: PlanFile, addresses: Iterable[str], seeds: Iterable[int]) -> set[str]:
    """The keys of the trainings (with those that they start from) and evaluations that cells need for these seeds."""
    cells = {cell["address"]: cell for cell in plan["cells"]}
    wanted, found = {str(seed) for seed in seeds}, set[str]()
    for address in addresses:
        for seed, key in cells[address]["runs"].items():
            if seed not in wanted or key in found:
                continue
            found.add(key)
            if key in plan["evaluations"]:
                found.add(key := plan["evaluations"][key]["training"])
            while (before := plan["trainings"][key]["after"]) is not None:
                found.add(key := before)
    return found
