"""How often the verdicts on a whole family of claims are wrong, and how often they find what is there.

    python -m benchmarks.calibration                               # under an hour on two cores; call again to resume
    python -m benchmarks.calibration --simulations 200 --worlds normal ties
    python -m benchmarks.calibration --looks --truths null half    # only studies with looks

Simulates whole studies in worlds with a known truth (benchmarks.worlds) and judges every claim of a tier with
study.statistics.verdicts: from the scores of all trainings, and in fewer simulations from counts of images on disk. A
verdict is wrong if it is "supported" and a part of the claim does not truly hold, or "contradicted" and all parts do;
if the truth lies on a bound, both are wrong. Prints the share of studies with at least one wrong verdict, with its
exact one-sided 95 % bound; the share of true claims that are supported (found); and the share of false claims that are
contradicted.

A trend is supported if its line rises and no fall is significant. Not seeing a turn is no proof that there is none. So
"wrong" accepts a trend's "supported" if the line truly rises. "strict" counts it as wrong if any later mean is truly
below an earlier one; nothing is promised about that.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import worlds
from benchmarks.worlds import PHOTOGRAPHS, TRUTHS, WORLDS, Layout
from study.spec.documents.plan import PlanFile
from study.statistics import answers, claim_tests, sequence, verdicts
from study.statistics.claim_tests import BEYOND, HERE
from study.statistics.effects import Effect
from study.statistics.intervals import Spread, binomial
from study.store import code_digest

DESIGNS = ((3, 0), (5, 0), (5, 13))  # seeds of all claims, and the most for open claims (0: no more)
SIMULATIONS, PHOTOGRAPHED = 2000, 200
ALPHA = 0.05  # the promised rate
KEPT, BROKEN, TOO_FEW = ".", "!", "?"
MOST = 0.065  # the bound of a promised rate must be below this
RESULTS = Path("runs") / "calibration.jsonl"
ONLY_NORMAL = ("slightly bent", "past the margin")  # truths for which the other worlds show nothing new
OF_PHOTOGRAPHS = ("null", "paper")  # truths
GUESSED_S = {True: 1.0, False: 0.03}  # seconds of a simulation of photographs, and of scores


@dataclass(frozen=True)
class Block:
    """Simulations that are run and stored together."""

    world: str
    truth: str
    seeds: int
    simulations: int
    most: int = 0  # with looks

    @property
    def photographs(self) -> bool:
        return self.world in PHOTOGRAPHS

    def promised(self, question: str) -> bool:
        """Whether the study promises that at most alpha of such families have a wrong verdict."""
        if self.photographs:
            return question == HERE or PHOTOGRAPHS[self.world].promised
        return WORLDS[self.world].promised


@contextlib.contextmanager
def what_decides() -> Iterator[None]:
    """Skip what accompanies a verdict and takes most of the time: detectable effects, and the seeds that would decide.
    The first simulation of a block is judged with and without them, and the results must agree."""
    kept = Spread.detectable, Effect.seeds_for
    Spread.detectable = lambda self, alpha, power: math.nan  # type: ignore[method-assign]
    Effect.seeds_for = lambda self, effect, power=0.8, alpha=0.05: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Spread.detectable, Effect.seeds_for = kept  # type: ignore[method-assign]


class Tally:
    """Counts of the answers to one question."""

    def __init__(self, question: str) -> None:
        self.question, self.families, self.wrong, self.strict, self.trainings = question, 0, 0, 0, 0
        self.claims: dict[str, dict[str, int]] = {}

    def add(self, said: dict[str, str], truths: Stands, trainings: int) -> None:
        """Add one family: the verdicts on its claims, which of them truly hold, and how many trainings it took."""
        truth, lines, same = truths
        strict = {name: _wrong(kind, truth[name], same[name]) for name, kind in said.items()}
        wrong = {
            name: _wrong(kind, lines[name] if kind == answers.SUPPORTED else truth[name], same[name])
            for name, kind in said.items()
        }
        self.families += 1
        self.trainings += trainings
        self.wrong += any(wrong.values())
        self.strict += any(strict.values())
        for name, kind in said.items():
            counts = self.claims.setdefault(name, {})
            for what in (kind, *["wrong"] * wrong[name], *["strict"] * strict[name]):
                counts[what] = counts.get(what, 0) + 1
            if truth[name]:
                counts["true" if truth[name] > 0 else "false"] = (
                    counts.get("true" if truth[name] > 0 else "false", 0) + 1
                )
                if kind == (answers.SUPPORTED if truth[name] > 0 else answers.CONTRADICTED):
                    which = "found" if truth[name] > 0 else "refuted"
                    counts[which] = counts.get(which, 0) + 1

    def row(self) -> dict[str, Any]:
        return {"question": self.question, "families": self.families, "wrong": self.wrong, "strict": self.strict,
                "trainings": self.trainings, "claims": self.claims}  # fmt: skip


Stands = tuple[dict[str, int], dict[str, int], dict[str, int]]  # by claim: truth, truth of its line, no difference


def _wrong(kind: str, truth: int, same: int) -> bool:
    if kind == answers.SAME:
        return same < 1
    return (kind == answers.SUPPORTED and truth < 1) or (kind == answers.CONTRADICTED and truth > -1)


@functools.cache
def _layout(seeds: int, most: int) -> Layout:
    return worlds.layout(seeds, most)


def judged(plan: PlanFile, collected: claim_tests.Scores, of: Layout) -> dict[str, verdicts.Verdict]:
    return {row.claim: row for row in verdicts.judge_scores(plan, collected, of.claims)}


def followed(plan: PlanFile, collected: claim_tests.Scores, of: Layout) -> tuple[dict[str, verdicts.Verdict], int]:
    """The verdicts of a study, and how many trainings of its claims' cells it took."""
    course = sequence.follow(plan, collected, [of.claims])
    rows = verdicts.judge_scores(plan, collected, of.claims, course)
    asked = {key for seed in of.seeds for key in sequence.keys_of(plan, of.needed, [seed])}
    return {row.claim: row for row in rows}, len(course.drawn & asked & plan["trainings"].keys())


def stands(of: Layout, number: Any) -> Stands:
    """Which claims of a layout truly hold."""
    scale, margins = of.plan["scale"], answers.margins_of(of.plan)
    with_turns, lines = (worlds.standings(of.claims, scale, number, margins, line) for line in (False, True))
    return with_turns, lines, worlds.alike(of.claims, scale, number, margins)


def _check_what_decides(plan: PlanFile, collected: claim_tests.Scores, of: Layout) -> None:
    with what_decides():
        quick = judged(plan, collected, of)
    for name, row in judged(plan, collected, of).items():
        for full, short in ((row, quick[name]), (row.beyond, quick[name].beyond)):
            assert (full.verdict, full.p, full.adjusted) == (short.verdict, short.p, short.adjusted), name


def run(block: Block) -> dict[str, Any]:
    """Simulate a block. Returns its line of results."""
    began = time.monotonic()
    of = _layout(block.seeds, block.most)
    tallies = photographed(block, of) if block.photographs else [scored(block, of)]
    return dataclasses.asdict(block) | {"code": code(), "took_s": round(time.monotonic() - began, 1),
                                        "rows": [tally.row() for tally in tallies]}  # fmt: skip


def scored(block: Block, of: Layout) -> Tally:
    """Studies from the scores of their trainings."""
    world, truth, tally = WORLDS[block.world], TRUTHS[block.truth], Tally(HERE)
    means = dict(zip(map(tuple, of.addresses), of.means(truth) / 100, strict=True))
    number = worlds.numbers({a: float(mean) for cells, mean in means.items() for a in cells}, of.losses(truth))
    truths = stands(of, number)
    for one in range(block.simulations):
        collected = worlds.simulate(world, truth, of, one)
        if one == 0:
            _check_what_decides(of.plan, collected, of)
        with what_decides():
            rows, trainings = followed(of.plan, collected, of)
        tally.add({name: row.verdict for name, row in rows.items()}, truths, trainings)
    return tally


def photographed(block: Block, of: Layout) -> list[Tally]:
    """Studies from counts on disk, here and beyond. The verdicts here must be those from the scores alone."""
    world, truth = PHOTOGRAPHS[block.world], TRUTHS[block.truth]
    plan, here, beyond = worlds.grouped(of.plan, world), Tally(HERE), Tally(BEYOND)
    means = dict(zip(map(tuple, of.addresses), of.means(truth) / 100, strict=True))
    everywhere = worlds.numbers({a: float(mean) for cells, mean in means.items() for a in cells}, of.losses(truth))
    on_new = stands(of, everywhere)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        worlds.prepare(folder, of)
        for one in range(block.simulations):
            known, losses = worlds.photograph(world, truth, of, one, folder)
            collected = claim_tests.Collected(plan, [folder], {})
            if one == 0:
                _check_what_decides(plan, collected, of)
            with what_decides():
                rows, trainings = followed(plan, collected, of)
                scores = judged(plan, _scores_of(collected, of), of)
            said = {name: row.verdict for name, row in rows.items()}
            assert said == {name: row.verdict for name, row in scores.items()}, "counts and their scores must agree"
            here.add(said, stands(of, worlds.numbers(known, losses)), trainings)
            beyond.add({name: row.beyond.verdict for name, row in rows.items()}, on_new, trainings)
    return [here, beyond]


def _scores_of(collected: claim_tests.Collected, of: Layout) -> worlds.Simulated:
    def by_seed(address: str, measure: str) -> dict[int, float]:
        return dict(zip(of.seeds, map(float, collected.values(address, measure, of.seeds)), strict=True))

    known = {address: by_seed(address, claim_tests.SCORES) for address in of.needed}
    losses = {address: by_seed(address, claim_tests.LOSSES) for address in of.losses(TRUTHS["null"])}
    return worlds.Simulated(collected.plan, known, losses, {})


@functools.cache
def code() -> str:
    """A digest of the code that turns scores into verdicts, and of the worlds. Results of other code are not reused."""
    judges = code_digest.code_digest(("study.statistics.verdicts", ""), ("study.paper.claims", ""))
    return hashlib.sha256(judges.encode() + Path(worlds.__file__).read_bytes()).hexdigest()[:16]


def blocks(names: list[str], simulations: int) -> list[Block]:
    """All blocks to run, the most informative first."""
    photographed = max(1, round(simulations * PHOTOGRAPHED / SIMULATIONS))
    scored = [
        Block(world, truth, seeds, simulations, most)
        for truth in TRUTHS for world in WORLDS for seeds, most in DESIGNS
        if world in names and (truth not in ONLY_NORMAL or world == "normal")
    ]  # fmt: skip
    counted = [
        Block(world, truth, seeds, photographed, most)
        for truth in OF_PHOTOGRAPHS for world in PHOTOGRAPHS for seeds, most in DESIGNS if world in names
    ]  # fmt: skip
    first = [block for block in scored if block.truth == next(iter(TRUTHS))]
    return first + counted + [block for block in scored if block not in first]


def known(path: Path) -> dict[Block, dict[str, Any]]:
    """The stored results of this code."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):  # the last line of a run that was killed
            told = json.loads(line)
            if told["code"] == code():
                found[Block(**{field.name: told[field.name] for field in dataclasses.fields(Block)})] = told
    return found


def left_s(todo: list[Block], done: list[dict[str, Any]], workers: int) -> float:
    """Estimated seconds left, from the time that simulations of the same kind took."""
    took = dict(GUESSED_S)
    for kind in took:
        same = [told for told in done if (told["world"] in PHOTOGRAPHS) == kind]
        if number := sum(told["simulations"] for told in same):
            took[kind] = sum(told["took_s"] for told in same) / number
    needed = [block.simulations * took[block.photographs] for block in todo]
    return max([sum(needed) / workers, *needed], default=0.0)


def kept(row: dict[str, Any]) -> str:
    """Whether a promise is kept (its upper bound is below MOST) or broken (its lower bound is above alpha)."""
    wrong, families = row["wrong"], row["families"]
    if binomial(wrong, families, 0.05) < MOST:
        return KEPT
    return BROKEN if 1 - binomial(families - wrong, families, 0.05) > ALPHA else TOO_FEW


def lines_of(block: Block, told: dict[str, Any]) -> list[str]:
    """A block's lines of the table."""
    found = []
    for row in told["rows"]:
        families = row["families"]
        bound = binomial(row["wrong"], families, 0.05)
        mark = kept(row) if block.promised(row["question"]) else " "
        sums = {
            what: sum(claim.get(what, 0) for claim in row["claims"].values())
            for what in ("true", "found", "false", "refuted", answers.UNTESTED, answers.SAME)
        }
        asked = families * len(row["claims"])
        design = f"{block.seeds}-{block.most}" if block.most else str(block.seeds)

        def share(part: int, whole: int) -> str:
            return f"{100 * part / whole:6.1f}" if whole else "     -"

        found.append(
            f"{block.world:19} {block.truth:14} {design:>5}  {row['question']:8} {families:5} "
            f"{share(row['wrong'], families)} {100 * bound:6.1f} {mark}{share(row['strict'], families)}   "
            f"{share(sums['found'], sums['true'])} {share(sums['refuted'], sums['false'])} "
            f"{share(sums[answers.UNTESTED], asked)} {share(sums[answers.SAME], asked)} "
            f"{row.get('trainings', 0) / families:9.1f}"
        )
    return found


HEAD = (
    f"{'world':19} {'truth':14} seeds  question studies  wrong  bound   strict    found refuted untested   same "
    "trainings\n"
    "(per cent; promises: . kept, the bound is below 6.5; ! broken, the rate is above 5; ? too few studies to tell)"
)


def table(done: dict[Block, dict[str, Any]], asked: list[Block]) -> str:
    """The table of all finished blocks, and the number of promises kept."""
    known = [(block, done[block]) for block in asked if block in done]
    marks = [kept(row) for block, told in known for row in told["rows"] if block.promised(row["question"])]
    said = ", ".join(
        f"{marks.count(mark)} {what}" for mark, what in ((KEPT, "kept"), (BROKEN, "broken"), (TOO_FEW, "open"))
    )
    rows = [line for block, told in known for line in lines_of(block, told)]
    return "\n".join([HEAD, *rows, f"{len(marks)} promised rates: {said}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="per block; a tenth of it from counts")
    every = [*WORLDS, *PHOTOGRAPHS]
    parser.add_argument("--worlds", nargs="+", choices=every, default=every, metavar="WORLD", help=", ".join(every))
    parser.add_argument(
        "--truths", nargs="+", choices=TRUTHS, default=list(TRUTHS), metavar="TRUTH", help=", ".join(TRUTHS)
    )
    parser.add_argument("--looks", action="store_true", help="only the design with looks")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"JSON lines with earlier results ({RESULTS})")
    arguments = parser.parse_args()
    if arguments.simulations < 1 or arguments.workers < 1:
        parser.error("--simulations and --workers must be at least 1")
    asked, done = blocks(arguments.worlds, arguments.simulations), known(arguments.results)
    asked = [one for one in asked if one.truth in arguments.truths and (one.most or not arguments.looks)]
    todo = [block for block in asked if block not in done]
    print(f"{len(asked)} blocks, {len(asked) - len(todo)} of them known from {arguments.results}", flush=True)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # one thread a worker
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, context) as pool:
        running = {pool.submit(run, block): block for block in todo}
        try:
            for future in as_completed(running):
                block, told = running[future], future.result()
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(told) + "\n")
                done[block] = told
                rest = [one for one in todo if one not in done]
                minutes = left_s(rest, [done[one] for one in asked if one in done], arguments.workers) / 60
                print("\n".join(lines_of(block, told)), flush=True)
                print(f"  {len(asked) - len(rest)} of {len(asked)} blocks, about {minutes:.0f} min left", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SystemExit("stopped; call again to resume") from None
    print("\n" + table(done, asked))


if __name__ == "__main__":
    main()
