"""plan.json: cells, trainings and evaluations with their keys, and everything derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from study.spec.documents.data import Facts
from study.spec.documents.tier import TierBlock
from study.spec.typed import Json, closed


@closed
class Labels(TypedDict):
    """A variant's labels in tables, plots and trackers. ``width`` is a stack's m as a share of the input's channels."""

    label: str
    head: str
    kernel_size: int
    refine: bool
    width: float | None


@closed
class Submitted(TypedDict):
    """The score of a submission from a benchmark's server, in per cent."""

    percent: float
    link: str


@closed
class PlannedTable(TypedDict):
    """A table of the paper, or of variants beyond it. ``submitted`` is the score from a benchmark's server."""

    id: str
    title: str
    page: int | None
    rows: list[str]
    columns: list[str]
    note: str
    data: str
    submitted: Submitted | None


@closed
class PlannedCell(Labels):
    """A cell with the keys of its trainings (or evaluations) by seed. ``paper`` is the printed value, a fraction or a
    count; ``parameters`` is counted from the head's specification."""

    address: str
    table: str
    row: str
    column: str
    metric: str
    paper: float | None
    parameters: int | None
    data: str
    inference: str
    not_applicable: str | None
    runs: dict[str, str]


@closed
class PlannedTraining(Labels):
    """A training: its recipe in short, its ``cost`` (a rank), the key ``after`` which it starts, and the digests of the
    questions that it answers."""

    seed: int
    data: str
    steps: int
    lr: float
    optimizer: str
    batch: int
    backbone: str
    cost: int
    after: str | None
    questions: dict[str, str]


@closed
class PlannedEvaluation(TypedDict):
    """A training scored with another inference method, given by its name in the tier."""

    label: str
    seed: int
    data: str
    training: str
    inference: str


@closed
class PlannedRecipe(TypedDict):
    """spec.training.Recipe as JSON."""

    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    steps: int
    batch: int
    flip: bool
    crop: list[int] | None
    precision: str
    validations: int
    class_weights: NotRequired[dict[str, float] | str | None]
    head_rate: NotRequired[float]
    fused: NotRequired[bool]
    deterministic: NotRequired[bool]


@closed
class PlannedSetting(TypedDict):
    """The values of a setting, kept so that a later change can be reported by its key in params.yaml."""

    data: dict[str, Json]
    network: dict[str, Json]
    recipe: PlannedRecipe
    after: str | None
    band_px: int


@closed
class PlannedData(Facts):
    """The facts of a setting's data, with the setting's role in the study."""

    role: str
    title: str
    after: str | None


@closed
class SettlingRule(TypedDict):
    """statistics.settling.Settling as JSON."""

    peak: float
    end: float
    fall: float


@closed
class Rules(TypedDict):
    """Rules for deciding claims: level, margins, bootstrap draws, and when a training counts as settled (D114)."""

    alpha: float
    margin_points: float
    margin_ratio: float
    error_floor_points: float
    draws: int
    settled: SettlingRule


@closed
class PlannedSide(TypedDict):
    """One side of a mechanism: a setting, and the addresses of two cells there."""

    data: str
    better: str
    worse: str


@closed
class PlannedMechanism(TypedDict):
    """A contrast that should appear in one setting and hardly in another, if the paper's ``claim`` is right (D146).
    ``remains`` is the largest share of the gain that may remain in the other."""

    says: str
    claim: str
    metric: str
    remains: float
    shows: PlannedSide
    absent: PlannedSide


@closed
class PlannedSequence(TypedDict):
    """The looks of a study at its results and its costs.

    It looks ``at`` these numbers of ``seeds``, spending these ``shares`` of alpha. In tera multiply-adds: ``budget`` is
    the limit (None: no limit), ``work`` the cost of each training and evaluation by key.
    """

    seeds: list[int]
    at: list[int]
    shares: list[float]
    budget: float | None
    work: dict[str, float]


@closed
class Asked(TypedDict):
    """The part of a plan that determines the questions of its claims."""

    tier: str
    scale: str
    verdicts: Rules | None
    not_asked: dict[str, str]
    mechanisms: NotRequired[dict[str, PlannedMechanism]]
    sequence: NotRequired[PlannedSequence]
    judged_by: NotRequired[str]
    tables: list[PlannedTable]
    cells: list[PlannedCell]
    evaluations: dict[str, PlannedEvaluation]


@closed
class PlanFile(Asked):
    """The plan of a tier, its manifest. ``identities`` maps each key to the parts that it is the digest of."""

    version: Literal[1]
    title: str
    judges: str
    block: TierBlock
    meaningless: bool
    identities: dict[str, dict[str, Json]]
    settings: dict[str, PlannedSetting]
    inference: dict[str, dict[str, Json]]
    data: dict[str, PlannedData]
    metrics: dict[str, str]
    questions: dict[str, str]
    wording: str
    trainings: dict[str, PlannedTraining]


@closed
class Probe(TypedDict):
    """How receptive fields are measured (Fig. 3); the fields of study.inference.receptive_field.Probe."""

    occluder_px: int
    stride_px: int
    share: float
    mass: float
    times: float


def labels_of(found: Labels) -> dict[str, str | int | bool | float | None]:
    """Only the labels of a record that has other keys too."""
    return {"label": found["label"], "head": found["head"], "kernel_size": found["kernel_size"],
            "refine": found["refine"], "width": found["width"]}  # fmt: skip


@closed
class DrawnFile(TypedDict):
    """drawn.json: the keys of the trainings and evaluations that a study with looks has called for (D149)."""

    version: Literal[1]
    keys: list[str]


def restricted(plan: PlanFile, keys: Iterable[str]) -> PlanFile:
    """A plan with only the trainings and evaluations in ``keys``."""
    kept = set(keys)
    if kept >= plan["trainings"].keys() | plan["evaluations"].keys():
        return plan
    found = plan.copy()
    found["cells"] = [
        {**cell, "runs": {seed: key for seed, key in cell["runs"].items() if key in kept}} for cell in plan["cells"]
    ]
    found["trainings"] = {key: training for key, training in plan["trainings"].items() if key in kept}
    found["evaluations"] = {key: asked for key, asked in plan["evaluations"].items() if key in kept}
    return found


def trained(plan: Asked, key: str) -> str:
    """The key of a run's training: the run's own key, or for an evaluation the key of the training it scores."""
    asked = plan["evaluations"]
    return asked[key]["training"] if key in asked else key
