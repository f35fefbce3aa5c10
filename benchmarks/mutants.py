"""Plant known faults, one at a time, in a copy of the project. The named tests must fail by their assertion with each
fault, and pass before and after. ``python -m benchmarks.mutants [NAME ...]`` never edits the checkout itself. With
``--suite`` the whole fast suite must pass before the first fault and after the last one.

A fault in code replaces a text. A fault in a report (stale, edited) is planted in the folder of a small tier that is
run first; tests/commands/test_verify.py uses that folder instead of making its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv", "runs", "data", "tmp")  # at the top: study/data is code
CACHES = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
MODELS, METRICS, SEEDS = "tests/models/test_networks.py::", "tests/test_metrics.py::", "tests/test_seeds.py::"
PAIRING = "tests/training/test_pairing.py::"
AS_MADE = "tests/commands/test_verify.py::test_a_report_as_it_was_made_verifies"
REPORT = "reports/smoke/"  # of the project that is run for the faults in a report
MAKE = "import sys, pathlib; from tests.commands.test_verify import make; make(pathlib.Path(sys.argv[1]))"


class Mutant(NamedTuple):
    """A fault: ``old``, which occurs once in ``file``, becomes ``new``; each of ``tests`` (pytest's node ids) must find
    it. In a file of a report, ``old`` is a regular expression whose first match is replaced."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def in_report(self) -> bool:
        return self.file.startswith(REPORT)


MUTANTS = (
    Mutant(
        "padding on the wrong axis of one GCN branch", "study/models/heads.py",
        "padding = (kernel[0] // 2, kernel[1] // 2)",
        "padding = (kernel[0] // 2, kernel[1] // 2)[:: -1 if chain is head.chains[-1] else 1]",
        (MODELS + "test_gcn_is_the_sum_of_two_separable_convolutions[7]",),
    ),
    Mutant(
        "a convolution shared between the repeats of a stack", "study/models/heads.py",
        "modules.append(Convolution(inputs, outputs, kernel, padding=padding, bias=False))",
        'modules.append(self.__dict__.setdefault("made", {}).setdefault((inputs, outputs, kernel), Convolution(\n'
        "                    inputs, outputs, kernel, padding=padding, bias=False)))",
        (MODELS + "test_a_head_has_the_calculated_number_of_weights[stack k=7]",),
    ),
    Mutant(
        "a boundary refinement shared between its places", "study/models/decoder.py",
        "self.refinements[name] = BoundaryRefinement(classes)",
        "self.refinements[name] = next(iter(self.refinements.values()), None) or BoundaryRefinement(classes)",
        (MODELS + "test_a_resnet_has_the_structure_of_fig_2a",),
    ),
    Mutant(
        "a block of ResNet-GCN shared between repeats", "study/models/backbones.py",
        "blocks[place] = GlobalBlock(",
        "blocks[place] = blocks[1] if place > 1 else GlobalBlock(",
        ("tests/models/test_backbones.py::test_repeated_blocks_share_nothing[ResNetGCN]",),
    ),
    Mutant(
        "bias added", "study/models/heads.py", "padding=padding, bias=False)", "padding=padding, bias=True)",
        (MODELS + "test_heads_are_linear_without_bias[GCN]",
         MODELS + "test_a_head_has_the_calculated_number_of_weights[GCN k=15]"),
    ),
    Mutant(
        "BR without its identity", "study/models/boundary_refinement.py",
        "return scores + self.second(", "return self.second(",
        (MODELS + "test_refinement_starts_as_the_identity[gcn]",),
    ),
    Mutant(
        "void counted in scores", "study/metrics.py",
        "    places[labels == void] = 2 * size\n", "    places[labels == void] = 0\n",
        (METRICS + "test_void_pixels_are_neither_hits_nor_misses",),
    ),
    Mutant(
        "a deconvolution with its rows exchanged", "study/models/decoder.py",
        "_MET = torch.tensor([[3, 1, 4], [4, 2, 0]])", "_MET = torch.tensor([[1, 3, 4], [4, 0, 2]])",
        (MODELS + "test_the_decoder_computes_what_fig_2a_draws",),
    ),
    Mutant(
        "a mechanism that may show anywhere", "study/statistics/mechanisms.py",
        'return Predicate((gain_in(one, one["shows"]), _hardly(one)))',
        'return Predicate((gain_in(one, one["shows"]),))',
        ("tests/statistics/test_mechanisms.py::test_a_quarter_of_the_gain_may_remain",),
    ),
    Mutant(
        "a study that looks and does not pay for it", "study/plan/planner.py",
        "shares = [(at - before) / seeds.most for before, at in itertools.pairwise((0, *seeds.at))]",
        "shares = [1.0 for before, at in itertools.pairwise((0, *seeds.at))]",
        ("tests/statistics/test_sequence.py::test_looks_share_alpha_by_their_seeds",),
    ),
    Mutant(
        "a claim that is judged by seeds drawn after it had left", "study/statistics/sequence.py",
        "known, share = self.collected.of_seeds(seeds), sequence.shares[look]",
        "known, share = self.collected, sequence.shares[look]",
        ("tests/statistics/test_sequence.py::test_later_scores_do_not_change_earlier_answers",),
    ),
    Mutant(
        "a level that no difference passes on", "study/statistics/sequence.py",
        "adjusted = levels.decided(ps, alpha)",
        "adjusted = levels.decided({n: min(p, answers.p_same(mine[n], self.margins)) for n, p in ps.items()}, alpha)",
        ("tests/statistics/test_sequence.py::test_no_difference_passes_nothing_on",),
    ),
    Mutant(
        "void counted in the loss", "study/training/loop.py",
        "functional.cross_entropy(scores, labels.long(), ",
        "functional.cross_entropy(scores, labels.long() % VOID, ",
        (MODELS + "test_void_pixels_have_no_part_in_the_loss",),
    ),
    Mutant(
        "mean of per-image IoU", "study/metrics.py",
        "    scores = class_iou(counts)\n",
        "    found = [[s for s in one if s == s] for one in zip(*map(class_iou, counts), strict=True)]\n"
        "    scores = [sum(one) / len(one) if one else float('nan') for one in found]\n",
        (METRICS + "test_dataset_scores_are_not_means_of_image_scores",),
    ),
    Mutant(
        "boundary band from the prediction", "study/training/count.py",
        "                found.append(image_counts(label, prediction, near, source.classes))\n",
        "                from study.data.boundaries import boundary_band\n\n"
        "                near = boundary_band(prediction, source.training.band_px)\n"
        "                found.append(image_counts(label, prediction, near, source.classes))\n",
        (METRICS + "test_the_band_follows_the_truth_not_the_prediction",),
    ),
    Mutant(
        "seeds that do not reach the order", "study/seeds.py",
        'order = generator(seed, "order", epoch)', 'order = generator(0, "order", epoch)',
        (SEEDS + "test_the_order_of_the_images_follows_the_seed",),
    ),
    Mutant(
        "seeds that do not reach the source", "study/training/batches.py",
        "recipe, seed = self.training.recipe, self.training.seed", "recipe, seed = self.training.recipe, 0",
        (SEEDS + "test_seeds_change_the_images_but_variants_do_not",),
    ),
    Mutant(
        "the image flipped and not the mask", "study/training/batches.py",
        "            labels[flips] = labels[flips, :, ::-1]\n", "",
        (PAIRING + "test_labels_match_their_pixels[1-cached-whole-0]",),
    ),
    Mutant(
        "mirrored labels beside unmirrored features", "study/training/batches.py",
        "            if flips.any():\n", "            if False:\n",
        (PAIRING + "test_labels_match_their_features[4-0]",),
    ),
    Mutant(
        "features of the image under the name of its mirror image", "study/training/batches.py",
        "images[:, :, ::-1] if mirrored else images", "images",
        (PAIRING + "test_labels_match_their_features[4-0]",),
    ),
    Mutant(
        "a mask cropped at the corner of another image", "study/training/batches.py",
        "labels = _cropped(labels, recipe.crop, corners)",
        "labels = _cropped(labels, recipe.crop, None if corners is None else corners[::-1])",
        (PAIRING + "test_labels_match_their_pixels[1-cached-cropped-0]",),
    ),
    Mutant(
        "seeds that do not reach the crops", "study/training/batches.py",
        'generator(seed, "crop", step)', 'generator(0, "crop", step)',
        (PAIRING + "test_crops_follow_the_seed_and_reach_every_corner",),
    ),
    Mutant(
        "seeds that do not reach the flips", "study/training/batches.py",
        'generator(seed, "flip", step)', 'generator(0, "flip", step)',
        (PAIRING + "test_flips_follow_the_seed_and_the_recipe",),
    ),
    Mutant(
        "coarse labels picked half a cell off", "study/training/batches.py",
        "labels[:, stride // 2 :: stride, stride // 2 :: stride]", "labels[:, ::stride, ::stride]",
        (PAIRING + "test_labels_match_their_pixels[4-cached-whole-0]",
         PAIRING + "test_labels_match_their_features[4-0]"),
    ),
    Mutant(
        "momentum ignored", "study/training/loop.py",
        "torch.optim.SGD(weights, recipe.lr, recipe.momentum, ", "torch.optim.SGD(weights, recipe.lr, 0.0, ",
        (PAIRING + "test_three_steps_follow_the_recipe[sgd]",),
    ),
    Mutant(
        "weight decay ignored", "study/training/loop.py",
        "(recipe.momentum, 0.999), weight_decay=decay", "(recipe.momentum, 0.999), weight_decay=0.0",
        (PAIRING + "test_three_steps_follow_the_recipe[adamw]",),
    ),
    Mutant(
        "contradiction not corrected for the number of parts", "study/statistics/answers.py",
        "len(parts) * min(part.fails for part in parts)", "min(part.fails for part in parts)",
        ("tests/statistics/test_verdicts.py::test_contradictions_are_corrected_for_the_number_of_parts",),
    ),
    Mutant(
        "two printed numbers swapped", "study/paper/tables.py",
        '(71.5, 95.0, 74.5), "GCN+BR": (73.4, 95.1, 74.7)',
        '(71.5, 95.1, 74.5), "GCN+BR": (73.4, 95.0, 74.7)',
        ("tests/paper/test_printed.py::test_every_printed_number_is_in_its_cell",),
    ),
    # A result that was collected after the report: the PDF still has the old numbers.
    Mutant("a stale report", REPORT + "provenance.json", r'"commit": "', '"commit": "0', (AS_MADE,)),
    Mutant(
        "an edited score", REPORT + "scores.csv", r"(?m)^(T5/GCN/overall,.*?,miou,0),[^,]+,", r"\1,0.987,", (AS_MADE,)
    ),
)  # fmt: skip


def plant(mutant: Mutant, tree: Path) -> None:
    """Put the fault into a tree. Raises ValueError if its place is missing or, in code, not unique."""
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    if mutant.in_report:
        changed, times = re.subn(mutant.old, mutant.new, text, count=1)
    else:
        changed, times = text.replace(mutant.old, mutant.new), text.count(mutant.old)
    if times != 1 or changed == text:
        raise ValueError(f"the place of {mutant.name!r} must occur once in {mutant.file}, got {times} times; fix it")
    path.write_text(changed, encoding="utf-8")


def run(tests: Sequence[str], tree: Path, project: Path | None) -> dict[str, str]:
    """Run tests in a tree. Returns by test ``passed``, ``assertion`` (it failed by one), or how else it ended."""
    report = tree / "junit.xml"
    report.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STUDY_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"STUDY_TEST_PROJECT": str(project)} if project is not None else {}
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml", str(report), *tests]
    ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    found = dict.fromkeys(tests, f"not run, status {ended.returncode}")
    for case in ElementTree.parse(report).iter("testcase") if report.is_file() else ():
        name = f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"
        found[name] = _outcome(case)
    return found


def _outcome(case: ElementTree.Element) -> str:
    failure = case.find("failure")
    if failure is not None:
        message = failure.get("message") or ""
        # pytest leaves out the name of the error if an assertion has no message of its own.
        return "assertion" if re.match(r"assert\b|AssertionError", message) else f"failed: {message[:60]}"
    return next((kind for kind in ("error", "skipped") if case.find(kind) is not None), "passed")


def copied(target: Path) -> Path:
    """A copy of the project's tree, without results and environments."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name in CACHES or (Path(folder) == ROOT and name in LEFT_OUT)}

    shutil.copytree(ROOT, target, ignore=left_out, symlinks=True)
    for folder in (target / "reports").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    return target


def _project(tree: Path, folder: Path) -> Path:
    """A small tier with its report, made by the tree's own code."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], cwd=tree, env=environment, check=True)
    return folder


def _suite(tree: Path) -> bool:
    """Whether the whole fast suite passes in a tree."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "-m", "not slow"]
    ended = subprocess.run(
        command, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True
    )
    print(f"the fast suite: {(ended.stdout.strip().splitlines() or ['no output'])[-1]}", flush=True)
    return not ended.returncode


def measure(mutants: Sequence[Mutant], suite: bool = False) -> list[tuple[Mutant, bool, str]]:
    """For each mutant: whether all of its tests found it and passed before and after, and what happened. With
    ``suite``, the fast suite must also pass before and after; otherwise no mutant counts as found."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = copied(Path(temporary) / "tree")
        project = _project(tree, Path(temporary) / "project") if any(m.in_report for m in mutants) else None
        tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        whole = _suite(tree) if suite else True
        before, during = run(tests, tree, project), []
        for mutant in mutants:
            place = project if mutant.in_report and project is not None else tree
            kept = (place / mutant.file).read_bytes()
            plant(mutant, place)
            outcomes = run(mutant.tests, tree, project)
            (place / mutant.file).write_bytes(kept)
            during.append(outcomes)
        after = run(tests, tree, project)
        whole = (_suite(tree) if suite else True) and whole
    found = []
    for mutant, outcomes in zip(mutants, during, strict=True):
        told = [(before[test], outcomes[test], after[test]) for test in mutant.tests]
        killed = whole and all(one == ("passed", "assertion", "passed") for one in told)
        found.append((mutant, killed, "; ".join(" / ".join(one) for one in dict.fromkeys(told))))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants whose names contain one of these words (default: all)")
    parser.add_argument("--suite", action="store_true", help="run the fast suite before and after too")
    arguments = parser.parse_args()
    names = arguments.names
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    found = measure(chosen, arguments.suite)
    print(f"{'fault':<52} {'':<9} before / with the fault / after; test")
    for mutant, killed, told in found:
        print(f"{mutant.name:<52} {'killed' if killed else 'SURVIVES':<9} {told}; {mutant.tests[0]}")
    left = sum(not killed for _, killed, _ in found)
    print(f"{len(found) - left} of {len(found)} faults were found by their tests")
    return 1 if left or not found else 0


if __name__ == "__main__":
    sys.exit(main())
