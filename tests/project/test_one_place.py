"""Where does a new head, backbone, data set, table, metric, tier or variant go? One place, and nothing retrains.

Each is added to a copy of the project by one edit of one file; then the pipeline runs with all of them.
"""

from __future__ import annotations

import csv
import json
import re

import pytest

from tests import conftest
from tests.conftest import ROOT, Project

HEAD = '''def cross(k: int) -> Head:
    """A kx1 convolution plus a 1xk convolution."""
    return Head(((Conv((k, 1)),), (Conv((1, k)),)), "cross", k)


@"cross": cross, '''
BACKBONE = '''class OneConvolution(nn.Module):
    """A single 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.strides = {"res2": width}, {"res2": 2}
        self.conv = nn.Conv2d(3, width, 3, 2, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"res2": torch.relu(self.conv(images / 255))}


@
    "one_convolution": OneConvolution,'''
DATA = '''"""Noise, dark on one side of a line and bright on the other."""

from typing import Annotated

import numpy as np

from study.seeds import generator
from study.spec.checks import Block, whole


class Halves:
    classes = ("dark", "bright")
    splits = {"train": 6, "tune": 2, "val": 4}

    def __init__(self, size):
        self.size = (size, size)

    def files(self):
        return []

    def name(self, split, index):
        return f"halves-{split}-{index}"

    def read(self, split, index):
        random = generator("halves", split, index)
        labels = np.zeros(self.size, np.uint8)
        labels[:, random.integers(8, self.size[1] - 8) :] = 1
        noise = random.integers(0, 60, (*self.size, 3))
        return (noise + 150 * labels[..., None]).astype(np.uint8), labels


class Options(Block):
    size: Annotated[int, whole(16, 64)]


def open(options, root, cache):
    return Halves(options.size)
'''
TABLE = """        Table(
            "T99",
            "A table that the paper does not have",
            None,
            ("score",),
            ("one", "three"),
            (
                Cell("T99", "score", "one", Variant(dense(1)), "worst_class", 0.5),
                Cell("T99", "score", "three", Variant(gcn(3), refine=True), "miou", None),
            ),
        ),
        Table(
            "T1",
"""
METRIC = '''def worst_class(counts: np.ndarray) -> float:
    """IoU of the class that fares worst."""
    return min(score for score in class_iou(counts) if score == score)


@
    "worst_class": worst_class,'''
TIER = """@
  tiny:
    title: one convolution on halves
    judges: Nothing.
    meaningless: true
    seeds: [0]
    tables: [T1]
    data: {name: shapes, cue: shape, size: 32, panels: 1, train: 4, tune: 2, val: 2, lines: 0,
           noise: 1, mislabelled: 0, coarse_share: 0, coarse_px: 0}
    controls: {}
    network: {backbone: shallow, levels: [res2], frozen: false, output_stride: 1, options: {widths: [4], strides: [2]}}
    recipe: {optimizer: adamw, lr: 0.004, momentum: 0.9, weight_decay: 0.0, schedule: cosine, warmup: 0.1,
             steps: 3, batch: 2, flip: false, precision: fp32, validations: 2}
    band_px: 1
    samples: 2
    frequent: null
    extra: []"""
# what is new: (the one file, a pattern in it, its replacement, where @ is the match); a new file has no pattern
ADDITIONS = {
    "head": ("study/spec/heads.py", r"^HEADS\b.*\{", HEAD),
    "backbone": ("study/models/backbones.py", r"^BACKBONES\b.*\{$", BACKBONE),
    "data set": ("study/data/sets/halves.py", None, DATA),
    "table": ("study/paper/tables.py", r'^        Table\(\n            "T1",$', TABLE),
    "metric": ("study/metrics.py", r"^METRICS\b.*\{$", METRIC),
    "tier": ("params.yaml", r"^tiers:$", TIER),
}
# edits that change no result: (file, before, after)
POLISHES = {
    "docstring of the loop": ("study/training/loop.py", '"""Train from ``state.step``', '"""Go on from ``state.step``'),
    "docstring of a head": ("study/models/heads.py", "No bias, and no nonlinearity", "Linear, without bias"),
    "comment": ("study/models/decoder.py", "# Coarsest first", "# The coarsest level first"),
    "words of an error": ("study/models/decoder.py", "a level must be one of the", "levels must be among the"),
    "another error": ("study/training/loop.py", "optimizer must be sgd or adamw", "the optimizer must be sgd or adamw"),
    "plot": ("study/report/figures/families.py", "def save(", "COLOUR_OF_NOTHING = 1\n\n\ndef save("),
    "report": ("study/report/sections/tables.py", "MAX_COLUMNS, ", "MAX_COLUMNS_OF_NOTHING = 1\nMAX_COLUMNS, "),
    "report's words": ("study/report/templates/front.typ", None, "// other words"),
    "store": ("study/store/runs.py", "json.dumps(value, indent=1", "json.dumps(value, indent=2"),
    "intervals": ("study/statistics/intervals.py", "alpha: float = 0.05", "alpha: float = 0.1"),
    "tracker": ("study/tracking/mlflow_runs.py", "\nfrom __future__", "\nimport zlib\nfrom __future__"),
    "a metric's own arithmetic": ("study/metrics.py", "return _accuracy(total(counts)[INTERNAL])", "return 0.5"),
    "another head": ("study/spec/heads.py", '"stack", k)', '"stacked", k)'),
}
KEYS = """
import json
from study.config import tiers
from study.plan import planner
params, found = tiers.read(), {}
for name in params["tiers"]:
    chosen = tiers.load(params, name)
    facts = dict.fromkeys(chosen.settings, {"fingerprint": "f" * 64, "frequent": None})
    manifest = planner.build(chosen, facts, "cpu").manifest()
    for key, t in manifest["trainings"].items():
        found[key] = [name, t["label"], t["data"], t["seed"]]
print(json.dumps(found))
"""


def keys(project: Project) -> dict[str, list]:
    """Key -> [tier, label, data, seed] of every training of every tier, by a fresh Python."""
    return json.loads(project.python("-c", KEYS).stdout)


def edit(project: Project, file: str, before: str | None, after: str) -> None:
    path = project.folder / file
    if before is None:
        path.write_text(after)
        return
    text = path.read_text()
    assert before in text, f"{file} no longer has {before!r}: adapt this test"
    path.write_text(text.replace(before, after, 1))


def add(project: Project, what: str) -> None:
    file, pattern, after = ADDITIONS[what]
    if pattern is not None:
        found = re.search(pattern, (project.folder / file).read_text(), re.MULTILINE)
        assert found, f"{file} no longer has {pattern!r}: adapt this test"
        pattern, after = found[0], after.replace("@", found[0], 1)
    edit(project, file, pattern, after)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Project:
    """A copy of the project in which nothing is added, with the real params.yaml."""
    copy = Project(tmp_path_factory.mktemp("untouched"))
    (copy.folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return copy


@pytest.fixture(scope="module")
def existing(untouched) -> dict[str, list]:
    """The keys of all trainings before anything is added."""
    found = keys(untouched)
    assert {tier for tier, *_ in found.values()} >= {"shapes", "smoke", "camvid", "voc_subset"}
    assert keys(untouched) == found
    return found


@pytest.fixture
def project(untouched, tmp_path, monkeypatch) -> Project:
    """Another such copy, to edit."""
    monkeypatch.setattr(conftest, "ROOT", untouched.folder)
    copy = Project(tmp_path)
    (tmp_path / "params.yaml").write_text((untouched.folder / "params.yaml").read_text())
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("what", ADDITIONS)
def test_adding_one_thing_changes_no_existing_key(project, existing, what):
    add(project, what)
    found = keys(project)
    assert existing.items() <= found.items()
    assert {tier for tier, *_ in found.values()} - {tier for tier, *_ in existing.values()} == (
        {"tiny"} if what == "tier" else set()
    )


@pytest.mark.slow
def test_adding_a_variant_only_adds_its_trainings(project, existing):
    edit(project, "params.yaml", "extra: []", "extra: [{head: gcn, k: 31}]")
    found = keys(project)
    assert existing.items() <= found.items()
    assert sorted(found[key] for key in found.keys() - existing) == [
        ["shapes", "GCN k=31", "main", seed] for seed in range(40, 49)
    ]


@pytest.mark.slow
def test_adding_a_seed_only_adds_its_trainings(project, existing):
    edit(project, "params.yaml", "{start: 40, first: 5, most: 9,", "{start: 40, first: 5, most: 10,")
    found = keys(project)
    assert existing.items() <= found.items()
    assert {(tier, seed) for tier, _, _, seed in (found[key] for key in found.keys() - existing)} == {("shapes", 49)}


@pytest.mark.slow
def test_polishing_changes_no_key(project, existing):
    for polish in POLISHES.values():
        edit(project, *polish)
    if keys(project).keys() == existing.keys():
        return
    guilty = []  # find out which; a copy for each takes longer
    for what, (file, *_) in POLISHES.items():
        for other, _, _ in POLISHES.values():
            (project.folder / other).write_text((conftest.ROOT / other).read_text())
        edit(project, file, *POLISHES[what][1:])
        guilty += [what] if keys(project).keys() != existing.keys() else []
    assert not guilty


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("study/training/loop.py", "functional.cross_entropy(scores", "functional.cross_entropy(scores * 2"),
        ("study/training/loop.py", "0.999", "0.99"),
        ("study/models/heads.py", "std=1 /", "std=2 /"),
        ("study/models/decoder.py", "[0.25, 0.75, 0.75, 0.25]", "[0.5, 0.5, 0.5, 0.5]"),
        ("study/seeds.py", ">> 1", ">> 2"),
        ("study/spec/constants.py", "VOID = 255", "VOID = 254"),
        ("study/metrics.py", "matrix.sum(0) - hit", "matrix.sum(0)"),
        ("study/training/count.py", "align_corners=False", "align_corners=True"),
    ],
    ids=["loss", "optimizer", "head's initial weights", "deconvolution", "seeds", "void", "counting", "enlarging"],
)
def test_editing_what_every_training_does_changes_all_keys(project, existing, file, before, after):
    edit(project, file, before, after)
    found = keys(project)
    assert len(found) == len(existing)
    assert not found.keys() & existing.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "users"),
    [
        ("maps = block(maps)", "maps = block(maps) * 2", "shallow"),
        ('create_model("tf_efficientnet_lite0"', 'create_model("tf_efficientnet_lite1"', "efficientnet_lite0"),
        ("maps = net.maxpool(", "maps = (", "resnet"),
    ],
)
def test_editing_a_backbone_changes_only_its_trainings_keys(project, existing, before, after, users):
    edit(project, "study/models/backbones.py", before, after)
    using = {name for name, tier in project.params["tiers"].items() if tier["network"]["backbone"] == users}
    changed = {tuple(existing[key]) for key in existing.keys() - keys(project).keys()}
    assert changed == {tuple(training) for training in existing.values() if training[0] in using}


@pytest.mark.slow
def test_the_pipeline_runs_with_every_addition_at_once(project):
    for what in ADDITIONS:
        add(project, what)
    edit(project, "params.yaml", "tables: [T1]\n", "tables: [T99]\n")
    made = "{name: shapes, cue: shape, size: 32, panels: 1, train: 4, tune: 2, val: 2, lines: 0,"
    made += "\n           noise: 1, mislabelled: 0, coarse_share: 0, coarse_px: 0}"
    edit(project, "params.yaml", made, "{name: halves, size: 32}")
    edit(project, "params.yaml", "backbone: shallow", "backbone: one_convolution")
    edit(project, "params.yaml", "{widths: [4], strides: [2]}", "{width: 4}")
    edit(project, "params.yaml", "extra: []", "extra: [{head: cross, k: 3}]")
    edit(project, "params.yaml", "tier: shapes", "tier: tiny")
    edit(project, "params.yaml", "engine: ray", "engine: inline")
    project.stages("data", "plan", "ablate", "evaluate", "score", "report")

    reports = project.folder / "reports" / "tiny"
    plan = json.loads((reports / "plan.json").read_text())
    assert plan["tier"] == "tiny" and plan["data"]["main"]["name"] == "halves"
    assert plan["data"]["main"]["classes"] == ["dark", "bright"]
    assert [table["id"] for table in plan["tables"]] == ["T99", "X"]
    assert sorted(t["label"] for t in plan["trainings"].values()) == ["1x1", "GCN k=3 + BR", "cross k=3"]

    with (reports / "scores.csv").open() as file:
        rows = {(row["address"], row["metric"]): row for row in csv.DictReader(file)}
    for address, metric in [
        ("T99/score/one", "worst_class"), ("T99/score/three", "miou"), ("X/score/cross k=3", "miou"),
    ]:  # fmt: skip
        assert rows[address, metric]["status"] == "done"
        assert 0 <= float(rows[address, metric]["value"]) <= 1
    assert float(rows["T99/score/one", "worst_class"]["paper"]) == 0.5
    assert "one" in (reports / "tables" / "T99.csv").read_text()

    for key in plan["trainings"]:
        run = project.folder / "runs" / key
        spec = json.loads((run / "training.json").read_text())["spec"]
        assert spec["network"]["backbone"] == "one_convolution" and spec["data"]["name"] == "halves"
        assert (run / "DONE").is_file()
    assert '"cross"' in (project.folder / "runs" / "optuna" / "tiny.log").read_text()
    report = (reports / "report.json").read_text()
    assert "A table that the paper does not have" in report and "cross k=3" in report
    assert (reports / "report.pdf").read_bytes().startswith(b"%PDF")
