"""The files that stages hand on, as declared types: keys and kinds of values, with the version of each format.

They stay plain JSON values, which every process can take over; ``read`` checks a file when it is read, and mypy each
key that the code asks for. A file of another version is refused: what is in it was made by other code anyway.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeVar, get_args, get_type_hints

from typing_extensions import TypedDict  # pydantic wants this one on Python 3.11

from study.spec.checks import Json, closed, fits
from study.spec.errors import InputError

Kind = TypeVar("Kind")
AGAIN = "run `make repro` of its tier, which makes it again"


class Labels(TypedDict):
    """What tables, plots and trackers call a variant. ``width`` is a stack's m as a share of the input's channels."""

    label: str
    head: str
    kernel_size: int
    refine: bool
    width: float | None


# --- params.yaml ---
TierBlock = dict[str, Json]


class Params(TypedDict):
    """The content of params.yaml, checked, with every tier in full."""

    tier: str
    tune: NotRequired[bool]
    execution: dict[str, Json]
    tracking: NotRequired[dict[str, Json] | None]
    tiers: dict[str, TierBlock]


# --- data.json: facts of each setting's data ---


@closed
class Groups(TypedDict):
    """Images that belong together: ``of`` has of each image of a split its group's index into ``names``."""

    names: list[str]
    of: list[int]


@closed
class Precision(TypedDict):
    """What a probe of the device found: seconds a step in either precision, and the faster one (D58)."""

    precision: str
    device: str
    fp32_s: float
    bf16_s: float


class Read(TypedDict):
    """What reading a data set found. ``images_with`` and ``pixels`` are per class, of the training split; ``size`` is
    (height, width) in px; ``listed`` counts what official lists hold; ``longest`` is the side in px to which larger
    images are made smaller (D123); ``colours`` are red, green and blue of classes, by name, where the data set has any
    (D130)."""

    task: str
    classes: list[str]
    splits: dict[str, int]
    size: list[int]
    fingerprint: str
    images_with: list[int]
    pixels: list[int]
    listed: dict[str, int]
    notes: list[str]
    longest: NotRequired[int | None]
    colours: NotRequired[dict[str, list[int]]]


@closed
class Facts(Read):
    """A prepared data set. ``frequent`` are the classes of the second mean (D04)."""

    name: str
    groups: dict[str, Groups] | None
    streamed: bool
    frequent: NotRequired[list[int] | None]
    precision: NotRequired[Precision]


# --- tier.json and plan.json ---


@closed
class TierFile(TypedDict):
    """A tier in full: its block of params.yaml, with what it takes from another."""

    version: Literal[1]
    tier: str
    block: TierBlock


@closed
class Submitted(TypedDict):
    """What a benchmark's server gave to a submission, in per cent."""

    percent: float
    link: str


@closed
class PlannedTable(TypedDict):
    """A table of the paper, or one of variants beyond it. ``submitted`` is what a benchmark's server gave."""

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
    """A cell with the keys of its trainings (or evaluations) by seed. ``paper`` is the printed value: a fraction or a
    count; ``parameters`` what the head's specification counts."""

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
    """A training: its recipe in short, ``cost`` (a rank), the key ``after`` which it starts, and the digests of the
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
    """A training asked in another way, by the name of the tier's inference."""

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


@closed
class PlannedSetting(TypedDict):
    """What a setting says of its trainings, so that a later change can be named by its key in params.yaml."""

    data: dict[str, Json]
    network: dict[str, Json]
    recipe: PlannedRecipe
    after: str | None
    band_px: int


@closed
class PlannedData(Facts):
    """The facts of a setting's data, with the setting's part in the study."""

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
    """When a claim is decided: level, margins, draws of the bootstrap, and when a training settled (D114)."""

    alpha: float
    margin_points: float
    margin_ratio: float
    error_floor_points: float
    draws: int
    settled: SettlingRule


class Asked(TypedDict):
    """The part of a plan on which the questions hang that its claims ask."""

    tier: str
    scale: str
    verdicts: Rules | None
    not_asked: dict[str, str]
    tables: list[PlannedTable]
    cells: list[PlannedCell]
    evaluations: dict[str, PlannedEvaluation]


@closed
class PlanFile(Asked):
    """The plan of a tier, its manifest. ``identities`` has of each key the parts that it is the digest of."""

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


class Probe(TypedDict):
    """How receptive fields are looked at (Fig. 3), as study.inference.receptive_field.Probe has it."""

    occluder_px: int
    stride_px: int
    share: float
    mass: float
    times: float


# --- examined/anatomy.json and examined/costs.json ---
# A convolution: channels in and out, and in blocks whether it is normalised.
Convolution = TypedDict(
    "Convolution",
    {"kernel": list[int], "in": int, "out": int, "norm": NotRequired[bool], "relu": NotRequired[bool]},
)


@closed
class BackboneStage(TypedDict):
    """A level of a backbone: its map's channels, size (height, width) and stride."""

    name: str
    channels: int
    size: list[int]
    stride: int


@closed
class DecoderStep(TypedDict):
    """An operation of the decoder (head, refine, add, up) and its map."""

    op: str
    name: str
    level: str | None
    size: list[int]
    channels: int


@closed
class Deconvolution(TypedDict):
    """Kernel, stride and channels of the deconvolutions."""

    kernel: int
    stride: int
    channels: int


@closed
class Description(TypedDict):
    """A segmentation network on one image (models.anatomy.describe); ``heads`` are chains of convolutions by level."""

    input: list[int]
    classes: int
    stages: list[BackboneStage]
    levels: list[str]
    steps: list[DecoderStep]
    heads: dict[str, list[list[Convolution]]]
    refinement: list[Convolution] | None
    deconvolution: Deconvolution | None
    parameters: dict[str, int]
    macs: dict[str, int]


@closed
class ResidualBlock(TypedDict):
    """A block of Fig. 5: the convolutions of its branches, how they are joined, and those after."""

    title: str
    branches: list[list[Convolution]]
    join: str | None
    after: list[Convolution]
    skip: str
    relu: bool


@closed
class Reading(TypedDict):
    """A network of Table 11 as one may read it: sides of maps (px), multiply-adds, weights."""

    sides: dict[str, int]
    macs: int
    macs_by_part: dict[str, int]
    parameters: int


@closed
class Field(TypedDict):
    """Theoretical receptive field and stride of a level, in px."""

    px: int
    stride: int


@closed
class AnatomyFile(TypedDict):
    """What the networks are: the paper's, with and without GCN, and the tier's own."""

    paper: Description
    paper_local: Description
    tier: Description
    receptive: dict[str, Field]
    blocks: list[ResidualBlock]
    table11: dict[str, Reading]


@closed
class Costs(TypedDict):
    """Weights and multiply-adds on one image, of a network and of its heads (D97)."""

    parameters: int
    macs: int
    head_parameters: int
    head_macs: int


CostsFile = dict[str, dict[str, Costs]]  # setting -> label -> costs


class NetworksFile(TypedDict):
    """Both of them, as the store remembers them."""

    anatomy: AnatomyFile
    costs: CostsFile


# --- in the run store ---


class Progress(TypedDict):
    """What a worker told last: steps done of all, seconds so far, who it is and when it told."""

    step: int
    steps: int
    seconds: float
    host: str
    pid: int
    time: float
    loss: NotRequired[float | None]
    score: NotRequired[float | None]


class Result(TypedDict):
    """What a run wrote of itself at its end; of an evaluation only seconds and commit."""

    seconds: dict[str, float]
    commit: NotRequired[str]
    parameters: NotRequired[int]
    head_parameters: NotRequired[int]
    peak_memory_mb: NotRequired[float]
    peak_gpu_memory_mb: NotRequired[float | None]
    gpu_memory_mb: NotRequired[float | None]


class HeadlineModel(TypedDict):
    """A model beside a report: its cell and training, and the digests of its file and of its card."""

    label: str
    seed: int
    data: str
    cell: str
    training: str
    sha256: str
    card: str


# --- weights/<cell>.safetensors: what its metadata say ---


@closed
class ModelConvolution(TypedDict):
    """spec.heads.Conv as JSON; ``width`` as in params.yaml, such as 1/2 or 10K."""

    kernel: list[int]
    width: str | None


@closed
class ModelHead(TypedDict):
    """spec.heads.Head as JSON."""

    chains: list[list[ModelConvolution]]
    family: str
    kernel_size: int


@closed
class ModelVariant(TypedDict):
    """spec.heads.Variant as JSON."""

    head: ModelHead
    refine: bool
    at: dict[str, ModelHead]


@closed
class ModelNetwork(TypedDict):
    """spec.training.Network as JSON. ``mean`` and ``std`` are those of its pixels, in 0..255, by channel."""

    backbone: str
    levels: list[str]
    options: dict[str, Json]
    frozen: bool
    output_stride: int
    fixed: dict[str, ModelHead]
    deconvolution: str
    mean: list[float]
    std: list[float]


@closed
class ModelData(TypedDict):
    """What a model was trained on and how images reach it: padded to ``size`` (height, width) px, made smaller to a
    ``longest`` side first, grey of more than 8 bits scaled from ``range``. ``images`` are numbers by split."""

    name: str
    fingerprint: str
    images: dict[str, int]
    size: list[int]
    longest: int | None
    range: list[int] | None


@closed
class ModelScore(TypedDict):
    """A metric on val: ``value`` of this network, mean and 95 % interval over the ``seeds`` of its cell (fractions)."""

    metric: str
    value: float
    mean: float
    low: float | None
    high: float | None
    seeds: int


class ModelOrigin(TypedDict):
    """Where a model comes from: tier, setting, cell, training (a key) and the commit and torch that trained it."""

    paper: str
    licence: str
    tier: str
    title: str
    judges: str
    meaningless: bool
    scale: str
    cell: str
    label: str
    setting: str
    training: str
    seed: int
    commit: str
    torch: str
    recipe: PlannedRecipe
    scores: list[ModelScore]


@closed
class ModelFile(ModelOrigin):
    """All that a model is beside its tensors (D140). ``colours`` are red, green and blue by class;
    ``parameters`` counts the weights, those of a frozen backbone too; ``sha256`` is the digest of all."""

    version: Literal[1]
    project: Literal["large-kernel-study"]
    variant: ModelVariant
    network: ModelNetwork
    classes: list[str]
    colours: list[list[int]]
    void: int
    data: ModelData
    parameters: int
    sha256: str


class Driver(TypedDict):
    """A driver at work: since when, by the store's clock, and the name of its files."""

    tier: str
    host: str
    pid: int
    since: float
    name: NotRequired[str]


# --- tuning/search.json ---


@closed
class Trial(Labels):
    """A candidate of the search: searched values, keys by seed, scores (fractions, on the tune split) by step, the step
    at which it was dropped, why it failed, whether it is trained whole and whether it is its variant's best."""

    setting: str
    values: dict[str, float]
    keys: dict[str, str]
    scores: dict[str, float]
    dropped: int | None
    failed: str
    whole: bool
    best: bool


@closed
class SearchFile(TypedDict):
    """The search of the stage tune; ``on`` is false where none was asked for."""

    version: Literal[1]
    on: bool
    trials: list[Trial]


# --- verdicts.json ---


class JudgementRow(TypedDict):
    """statistics.verdicts.Judgement as JSON."""

    verdict: str
    reason: str
    part: str
    unit: str
    estimate: float | None
    points: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    mde: float | None
    needed: int | None


@closed
class VerdictRow(JudgementRow):
    """statistics.verdicts.Verdict as JSON."""

    claim: str
    says: str
    on: str
    where: str
    printed: str
    wording: str
    parts: int
    bounds: list[float | None]
    paper: float | None
    seeds: int
    beyond: JudgementRow
    exploratory: str
    former: JudgementRow | None


@closed
class TrainsRow(TypedDict):
    """How many seeds of a variant settled, why others did not, and the most that the rate of failures could be."""

    data: str
    label: str
    reasons: list[str]
    settled: int
    seeds: int
    most_failures: float


@closed
class VerdictsFile(TypedDict):
    """The verdicts on all claims; ``family`` are those that are corrected together, ``tuned`` the verdicts with each
    variant at its best values (None without a search)."""

    version: Literal[1]
    questions: dict[str, str]
    wording: str
    scale: str
    family: list[str]
    rows: list[VerdictRow]
    trains: list[TrainsRow]
    tuned: list[VerdictRow] | None


# --- results/ablate.json ---


class Executed(TypedDict):
    """Where and how trainings were executed, for how long, and how many were."""

    engine: str
    workers: int
    device: str
    wall_s: float
    trained: int
    hardware: dict[str, Json]


# --- provenance.json ---


@closed
class Page(TypedDict):
    """A page of the tracker."""

    name: str
    link: str


@closed
class RanRun(TypedDict):
    """A training or an evaluation: seconds by part, digests of its counts, the commit that ran it."""

    status: str
    seconds: NotRequired[dict[str, float]]
    sha256: NotRequired[str]
    tune_sha256: NotRequired[str]
    commit: NotRequired[str]
    mlflow: NotRequired[Page | None]


@closed
class Numbers(TypedDict):
    """How many were planned and what became of them."""

    planned: int
    done: int
    failed: int
    executed: NotRequired[int]


class Ran(TypedDict):
    """What ran, where and on what; ``data`` are fingerprints by setting, ``seconds`` sums over trainings."""

    tier: str
    commit: str
    dirty: bool
    lacking: str
    versions: dict[str, str]
    hardware: dict[str, Json]
    seconds: dict[str, float]
    workers: int
    engine: str
    trainings: Numbers
    evaluations: Numbers
    data: dict[str, str]
    runs: dict[str, RanRun]


@closed
class ProvenanceFile(Ran):
    """The provenance of a report; ``tuned`` that of the trainings at each variant's best."""

    version: Literal[1]
    tuned: NotRequired[Ran]


# --- audit.json, and what the report says of deviations ---


class AuditRow(TypedDict):
    """A number of the paper recomputed; ``verdict`` says whether it fits."""

    group: str
    what: str
    where: str
    printed: str
    recomputed: str
    verdict: str
    note: str


class Deviation(TypedDict):
    """An item of the protocol: what the paper says (None: silent) and where, what is done here, and its effect."""

    id: str
    what: str
    status: str
    paper: str | None
    place: str
    here: str
    decisions: list[str]
    effect: str


# --- costs.csv ---


@closed
class CostRow(TypedDict):
    """A trained cell: its score (fractions, 95 % interval) and what its network costs. ``macs`` are multiply-adds on
    one image; ``train_s`` seconds and ``peak_memory_mb`` MiB, means over seeds."""

    address: str
    label: str
    metric: str
    data: str
    head: str
    kernel_size: int
    refine: bool
    width: float | None
    mean: float
    low: float
    high: float
    seeds: int
    head_macs: int
    head_parameters: int
    macs: int
    parameters: int
    train_s: float
    peak_memory_mb: float
    steps: int
    version: Literal[1]


# --- per_class.csv and confusion/index.json ---
# A class of a variant: its IoU (fractions, 95 % interval over seeds), how many seeds have one, and in how many images
# and on how many pixels of the training split the class is. ``inference`` is the name of another way in which its
# trainings were asked. A word of Python is a column.
ClassRow = TypedDict(
    "ClassRow",
    {"setting": str, "variant": str, "inference": str, "class": str, "mean": float, "low": float, "high": float,
     "seeds": int, "images_with": int, "pixels": int, "version": Literal[1]},
)  # fmt: skip


@closed
class Confusion(TypedDict):
    """A file of confusion/: the cell and the training whose val predictions it counts."""

    cell: str
    training: str
    label: str
    seed: int
    data: str


def size_of(facts: Read) -> tuple[int, int]:
    """(height, width) of a data set's images in px."""
    height, width = facts["size"]
    return height, width


def labels_of(found: Labels) -> dict[str, str | int | bool | float | None]:
    """The labels alone of what has them among others."""
    return {"label": found["label"], "head": found["head"], "kernel_size": found["kernel_size"],
            "refine": found["refine"], "width": found["width"]}  # fmt: skip


def trained(plan: Asked, key: str) -> str:
    """The key of a run's training: its own, or of an evaluation that of what it asks."""
    asked = plan["evaluations"]
    return asked[key]["training"] if key in asked else key


def columns_of(kind: type) -> list[str]:
    """The columns of a table of such rows, in the order of their declaration."""
    return list(get_type_hints(kind))


def version_of(kind: type) -> int:
    """The version of a file's format."""
    (version,) = get_args(get_type_hints(kind)["version"])
    return int(version)


def read(path: Path, kind: type[Kind]) -> Kind:
    """A JSON file as ``kind``. Raises InputError where it is missing, damaged, or of another version or kind."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must be there and whole, got {error}; {AGAIN}") from error
    if "version" in getattr(kind, "__annotations__", {}):
        got = found.get("version") if isinstance(found, dict) else None
        if got != version_of(kind):
            raise InputError(
                f"{path} must be of version {version_of(kind)} of its format, got {'none' if got is None else got} (it "
                f"was written by another version of the code); {AGAIN}"
            )
    if wrong := fits(kind, found):
        raise InputError(f"{path} must be as the code writes it, got {wrong}; {AGAIN}")
    return found  # type: ignore[no-any-return]
