"""The whole procedure on studies with a known truth; `make bench` simulates thousands in more worlds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import calibration, worlds
from benchmarks.calibration import Block
from benchmarks.worlds import PHOTOGRAPHS, TRUTHS, WORLDS, Layout
from study.paper.claims import CLAIMS
from study.statistics import answers, claim_tests, effects, levels, sequence

STUDIES = 50
FAST = (("unequal", "null", 3),)


def most(studies: int) -> float:
    """At a rate of 5 %, more wrong families than this occur once in a thousand times."""
    return float(stats.binom.ppf(0.999, studies, 0.05))


def only(name: str, seeds: int = 5, most: int = 0) -> Layout:
    """The layout for a family of one claim."""
    found = worlds.layout(seeds, most)
    found.claims = [CLAIMS[name]]
    return found


PROMISED = [
    pytest.param(world, truth, seeds, marks=() if (world, truth, seeds) in FAST else pytest.mark.slow)
    for world in WORLDS if WORLDS[world].promised for truth in ("null", "half") for seeds in (3, 5)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("world", "truth", "seeds"), PROMISED)
def test_wrong_verdicts_stay_within_the_promised_rate(world: str, truth: str, seeds: int) -> None:
    tally = calibration.scored(Block(world, truth, seeds, STUDIES), worlds.layout(seeds))
    assert tally.families == STUDIES and tally.wrong <= most(STUDIES), tally.row()
    assert tally.strict == tally.wrong, "no trend turns back there"


def test_each_truth_makes_the_intended_claims_hold() -> None:
    of = worlds.layout(3)
    margins = answers.margins_of(of.plan)

    def stand(name: str, line: bool = False) -> dict[str, int]:
        means = dict(zip(map(tuple, of.addresses), of.means(TRUTHS[name]) / 100, strict=True))
        number = worlds.numbers({a: m for cells, m in means.items() for a in cells}, of.losses(TRUTHS[name]))
        return worlds.standings(of.claims, of.plan["scale"], number, margins, line)

    assert len(of.claims) == 21
    assert not any(found > 0 for found in stand("null").values())
    assert {name for name, found in stand("paper").items() if found < 1} == {"beats_stack_text"}
    assert sum(found < 1 for found in stand("half").values()) == 10
    turning = {"rises", "beats_kxk", "kxk_falls", "narrow_worse"}
    for name in ("bent", "slightly bent"):
        assert {claim for claim, found in stand(name).items() if found < 0} == turning
        assert min(stand(name, line=True).values()) == 1


@pytest.mark.parametrize("world", WORLDS)
def test_a_training_has_one_score_everywhere(world: str) -> None:
    of = worlds.layout(3)
    found = worlds.simulate(WORLDS[world], TRUTHS["paper"], of, 7)
    one = ("T1/score/7", "T2/GCN/7", "T3/GCN/7", "T4/score/2048 (GCN)")
    two = ("T3/stack/7", "T4/score/2048")
    for same in (one, two, ("T1/score/15", "T5/GCN/overall")):
        assert len({json.dumps(found.known[address]) for address in same}) == 1
        assert len({tuple(found.lost[address]) for address in same}) == 1
    again = worlds.simulate(WORLDS[world], TRUTHS["paper"], of, 7)
    assert (again.known, again.losses, again.lost) == (found.known, found.losses, found.lost)
    assert again.known != worlds.simulate(WORLDS[world], TRUTHS["paper"], of, 8).known


@pytest.mark.slow
def test_scores_lie_around_the_truth() -> None:
    of = worlds.layout(5)
    for name, world in WORLDS.items():
        found = [worlds.simulate(world, TRUTHS["paper"], of, number).known for number in range(200)]
        scores = np.array([[100 * np.mean(list(one[a[0]].values())) for a in of.addresses] for one in found])
        away = scores.mean(0) - of.means(TRUTHS["paper"])
        if name == "collapse caught":  # its truth is that of the settled trainings
            away = away[np.abs(away) < 2]
        error = scores.std(0, ddof=1)[: len(away)].max() / np.sqrt(200)
        assert np.abs(away).max() < 5 * error, name


@pytest.mark.slow
@pytest.mark.parametrize("world", PHOTOGRAPHS)
def test_counts_pass_through_the_studys_files(world: str) -> None:
    """Each simulation asserts that counts and their scores agree."""
    here, beyond = calibration.photographed(Block(world, "paper", 3, 2), worlds.layout(3))
    assert here.families == beyond.families == 2
    kinds = {kind for counts in beyond.claims.values() for kind in counts}
    assert answers.UNDECIDED in kinds and set(beyond.claims["kxk_hard"]) == {answers.UNTESTED, "true"}


@pytest.mark.slow
def test_calibration_exposes_unknown_image_groups() -> None:
    *_, beyond = calibration.photographed(Block("neighbours unknown", "null", 5, 4), worlds.layout(5))
    assert beyond.wrong >= 3  # at a rate of 5 %, once in two thousand times


# ------------------------------------------------------------------------------------------------------ planted faults
@pytest.mark.slow
def test_calibration_exposes_an_uncorrected_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.Levels, "adjusted", lambda self, ps: dict(ps))
    tally = calibration.scored(Block("normal", "null", 3, STUDIES), worlds.layout(3))
    assert tally.wrong > most(STUDIES)


@pytest.mark.slow
def test_calibration_exposes_looks_without_alpha_spending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "REACH", 0.0)  # so that none leaves before its last look
    block, peeking = Block("normal", "null", 5, 600, 13), only("kxk_hard", 5, 13)
    assert calibration.scored(block, only("kxk_hard", 5, 13)).wrong <= most(600)
    peeking.plan["sequence"]["shares"] = [1.0] * len(peeking.plan["sequence"]["at"])
    assert calibration.scored(block, peeking).wrong > most(600)


@pytest.mark.slow
def test_calibration_exposes_an_uncorrected_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block("normal", "null", 5, 300)
    assert calibration.scored(block, only("stages")).wrong <= most(300)
    monkeypatch.setattr(answers, "_p_fails", lambda parts: min(part.fails for part in parts))
    assert calibration.scored(block, only("stages")).wrong > most(300)


@pytest.mark.slow
def test_calibration_exposes_a_trend_judged_by_slope_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block("normal", "bent", 5, STUDIES)
    assert calibration.scored(block, only("rises")).strict <= most(STUDIES)
    monkeypatch.setattr(effects, "drop", lambda items, pair: (1.0, None, (0, 0)))
    assert calibration.scored(block, only("rises")).strict > most(STUDIES)


@pytest.mark.slow
def test_calibration_exposes_keeping_unsettled_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hides a real effect: it shifts the mean over seeds and makes it less certain."""
    block = Block("collapse caught", "half", 5, STUDIES)

    def of_one(name: str) -> dict[str, int]:
        return calibration.scored(block, only(name)).claims[name]

    told = of_one("stages")
    assert told[answers.UNTESTED] > 0 and told["found"] + told[answers.UNTESTED] == STUDIES
    monkeypatch.setattr(worlds.Simulated, "troubles", claim_tests.Scores.troubles)
    assert 0 < of_one("stages")["found"] < STUDIES


# ------------------------------------------------------------------------------------------------------ the command
@pytest.mark.slow
def test_calibration_resumes_with_identical_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "kept.jsonl"
    monkeypatch.setattr(calibration, "TRUTHS", {"null": TRUTHS["null"]})
    monkeypatch.setattr("sys.argv", ["calibration", "--simulations", "2", "--worlds", "normal", "--results", str(path),
                                     "--workers", "2"])  # fmt: skip
    calibration.main()
    first = capsys.readouterr().out
    assert "3 blocks, 0 of them known" in first
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["seeds"], line["most"]) for line in kept} == set(calibration.DESIGNS)
    for line in kept:
        block = Block(line["world"], line["truth"], line["seeds"], line["simulations"], line["most"])
        assert calibration.run(block)["rows"] == line["rows"]
    path.write_text(path.read_text() + '{"world": "nor')  # killed while writing
    calibration.main()
    again = capsys.readouterr().out
    assert "3 of them known" in again and again.splitlines()[-3:] == first.splitlines()[-3:]
    stale = path.read_text().replace(calibration.code(), "another")
    path.write_text(stale)
    assert calibration.known(path) == {}


def test_the_time_left_follows_measured_blocks() -> None:
    done = [{"world": "normal", "simulations": 100, "took_s": 10.0}]
    todo = [Block("ties", "null", 3, 200), Block("ties", "null", 5, 200)]
    assert calibration.left_s(todo, done, 2) == pytest.approx(20)
    assert calibration.left_s(todo[:1], done, 2) == pytest.approx(20), "a block is not shared"
    assert calibration.left_s([], done, 2) == 0
    assert calibration.left_s([Block("images", "null", 3, 10)], done, 1) == pytest.approx(10)


def test_promises_are_kept_broken_or_open() -> None:
    said = {(wrong, families): calibration.kept({"wrong": wrong, "families": families}) for wrong, families in (
        (100, 2000), (130, 2000), (0, 10), (3, 60), (60, 1000),
    )}  # fmt: skip
    assert list(said.values()) == [".", "!", "?", "?", "?"]
    row = {
        "question": "here",
        "wrong": 1,
        "strict": 2,
        "families": 60,
        "trainings": 600,
        "claims": {"it": {"true": 60, "found": 30}},
    }
    block = Block("normal", "paper", 3, 60)
    text = calibration.table({block: {"rows": [row]}}, [block, Block("ties", "paper", 3, 60)])
    assert "1.7" in text and "50.0" in text and text.endswith("1 promised rates: 0 kept, 0 broken, 1 open.")
