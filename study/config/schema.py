"""The schema of params.yaml: every key with its kind, its range and its unit.

A class is a block, a field is a key, and keys with a default are optional. The options of a data set are declared in
its module. Rules that involve the paper's cells are checked in study.config.tiers. Upper bounds are so large that a
value above one can only be a slip.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from study.paper.claims import CLAIMS
from study.paper.tables import TABLES
from study.spec import heads, training
from study.spec.cells import SERVED
from study.spec.checks import (
    LARGEST,
    OPEN,
    Block,
    Broken,
    Json,
    Label,
    Loose,
    PathText,
    Text,
    YesNo,
    above,
    by_name,
    choice,
    different,
    each,
    either,
    either_block,
    listed,
    matching,
    number,
    places_of,
    rule,
    share,
    shown,
    sides,
    stack_width,
    whole,
)
from study.spec.constants import COSTS, DATA, LEAST_DRAWS, MAIN, MECHANISM, NOTHING, PAPER
from study.spec.heads import HEADS, PLACES, PerClass
from study.spec.jobs import GpuStep
from study.spec.training import DECONVOLUTIONS
from study.spec.words import DAY_S
from study.store import code_digest

CLASSIFY, SEGMENT = "classify", "segment"  # tasks
SERVERS = ("voc", "cityscapes")  # formats of benchmark_format.FORMATS, each with the name of its data set
SEARCHED = ("lr", "weight_decay", "momentum", "warmup")  # parts of a recipe that the paper leaves open or barely names
COMPARED = (
    "miou",
    *(f"{region}_{what}" for region in ("boundary", "internal") for what in ("accuracy", "object_accuracy")),
)
AROUND = ("root", "stream", "fetch")  # keys of a data block that change no pixel: where the data is, how it is obtained
WIDEST = 100_000  # channels of a stack: its weights can still be counted, even if they do not fit in memory
WIDEST_PX = 32_768  # longest side of an image, a crop or a kernel
PARTS = {"/".join(cell.address.split("/")[:end]) for t in TABLES.values() for cell in t.cells for end in range(1, 4)}


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


Seed = Annotated[int, whole(0)]
Share = Annotated[float, number(0, 1)]


class Seeds(Block):
    """Seeds by need (D149). Every training gets ``first`` seeds, counted from ``start``. Then ``each`` more at a time
    are drawn for open claims, up to ``most`` in all. ``budget`` bounds the whole study, in tera multiply-adds."""

    start: Seed
    first: Annotated[int, whole(2, 1000, "be a whole number from 2 up (one seed does not show how seeds vary)")]
    most: Annotated[int, whole(2, 10_000)]
    each: Annotated[int, whole(1, 1000)] = 4
    budget: Annotated[float | None, above(0, 1e18)] = None

    def check(self) -> None:
        if self.most < self.first:
            raise Broken(
                f"be at least first ({self.first})", shown(self.most), "write more, or a plain list of seeds", "most"
            )  # fmt: skip

    @property
    def at(self) -> tuple[int, ...]:
        """The numbers of seeds at the looks."""
        return (*range(self.first, self.most, self.each), self.most)

    @property
    def all(self) -> tuple[int, ...]:
        """All seeds that may be drawn, in order."""
        return tuple(range(self.start, self.start + self.most))


def _listed_seeds(value: Any) -> tuple[int, ...]:
    if not listed(value, lambda _: True):
        raise Broken("be a list, or a mapping of start, first and most", shown(value), "write it in brackets")
    if not (value and listed(value, _is_seed) and different(value)):
        raise Broken("be different whole numbers from 0 up", shown(value), "write e.g. [0, 1, 2]")
    return tuple(value)


TierName = Annotated[
    str,
    matching(
        "[A-Za-z][A-Za-z0-9_-]{0,99}",
        "be of letters, digits, '_' and '-', starting with a letter (folders, commands and DVC use it; YAML reads 2024 "
        "as a number)",
        "rename it in params.yaml, such as t2024",
    ),
    rule(
        lambda name: name.lower() not in {"yes", "no", "on", "off", "true", "false", "null"},
        "not be a word that YAML reads as another value", "rename it in params.yaml",
    ),
]  # fmt: skip


class Gpu(Block):
    """How a training step runs on a GPU (D152)."""

    look_every: Annotated[int, whole(1, 1_000_000)] = 20  # steps between copies of the loss from the device
    copy_ahead: YesNo = True  # copy batches beside the work
    capture: YesNo = True  # record the step once and replay it
    count: YesNo = True  # count predictions on the device

    def made(self) -> GpuStep:
        return GpuStep(**dict(self))


class Execution(Block):
    """How trainings are executed. Except for the device, nothing here changes a result beyond rounding."""

    engine: Annotated[str, choice("ray", "inline")]
    address: (
        Annotated[str, matching(r"[!-~]{1,500}", "be text without spaces", "write host:port or null")] | None
    )  # address of Ray
    workers: Annotated[int | str, either("auto", whole(1, 10_000), "be auto or a whole number from 1 to 10,000")]
    device: Annotated[str, choice("auto", "cpu", "cuda")]
    gpus_per_training: Annotated[float | str, either("auto", number(0.01, 64), "be auto or a number from 0.01 to 64")]
    processes_per_training: Annotated[int, whole(1, 1024)]
    checkpoint_s: Annotated[float, number(0, DAY_S)]  # seconds between checkpoints; 0: after each step
    retries: Annotated[int, whole(0, 1000)]
    hung_s: Annotated[float, number(1, 7 * DAY_S)]
    loaders: Annotated[int | str, either("auto", whole(0, 1024), "be auto or a whole number from 0 to 1,024")]
    gpu: Gpu = Gpu()

    def check(self) -> None:
        gpus = self.gpus_per_training
        if not isinstance(gpus, str) and gpus > 1 and gpus != int(gpus):
            raise Broken(
                "be a share of one GPU or a whole number of them", shown(gpus), "write e.g. 0.5, 1 or 2",
                "gpus_per_training",
            )  # fmt: skip


class Tracking(Block):
    """Where MLflow's view of the trainings is kept."""

    server: Text | None = None
    artifacts: PathText | None = None  # or an address such as s3://...
    name: Label | None = None


class Head(Block):
    """A head, such as ``{head: stack, k: 7, width: 1/2}``; ``width: 10K`` means ten channels per class."""

    head: Annotated[str, choice(*HEADS)]
    k: Annotated[
        int,
        whole(
            1, WIDEST_PX - 1, "be a positive odd whole number (Sec. 3.1: an even kernel shifts the map)",
            "take one of 1, 3, 5, 7 ...",
        ),
    ]  # in cells of the head's map  # fmt: skip
    width: Annotated[Fraction | PerClass, stack_width(WIDEST)] | None = None  # of a stack's inner maps

    def check(self) -> None:
        if self.width is not None and self.head != "stack":
            raise Broken("be used with head: stack only", f"head: {self.head}", "drop it", "width")
        self.made()

    def made(self) -> heads.Head:
        """The head. Raises InputError for an invalid size."""
        return HEADS[self.head](self.k, **({} if self.width is None else {"width": self.width}))


class Variant(Head):
    """A variant, such as ``{head: gcn, k: 15, refine: true, at: {res2: {head: dense, k: 1}}}``. ``refine: [head, sum]``
    means boundary refinement in these places only."""

    refine: Annotated[Any, places_of(PLACES)] = False
    at: dict[Label, Head] = {}  # noqa: RUF012

    def variant(self) -> heads.Variant:
        return heads.Variant(
            self.made(), self.refine, tuple((level, self.at[level].made()) for level in sorted(self.at))
        )


def _data_sets() -> list[str]:
    return sorted(p.stem for p in (code_digest.ROOT / "study" / "data" / "sets").glob("[a-z]*.py"))


class Data(Block, extra="allow"):
    """A data set by the name of its module. The other keys are the module's ``Options``."""

    name: Text
    root: PathText | None = None
    stream: YesNo | None = None
    fetch: YesNo | None = None

    def check(self) -> None:
        if self.name not in _data_sets():
            raise Broken(f"be one of {', '.join(_data_sets())}", shown(self.name), "rename it", "name")

    def made(self) -> training.Data:
        return training.Data(self.name, training.freeze(self.model_extra or {}))


class Shallow(Block):
    """Options of the backbone ``shallow``: a value per level, from res2 up."""

    widths: Annotated[tuple[Annotated[int, whole(1, WIDEST)], ...], rule(bool, "name a level", "write e.g. [24, 48]")]
    strides: tuple[Annotated[int, whole(1, 1024)], ...]

    def check(self) -> None:
        if len(self.widths) != len(self.strides):
            raise Broken("have one entry per width", shown(list(self.strides)), "give each level both", "strides")
        if any(after % before for before, after in zip(self.strides, self.strides[1:], strict=False)):
            raise Broken(
                "each be a multiple of the one before", shown(list(self.strides)), "write e.g. [2, 4, 4]", "strides"
            )


Join = Annotated[str, choice("sum", "concat")]


class ShallowGcn(Shallow):
    gcn: dict[
        Label,
        Annotated[tuple[int, int], sides(WIDEST, "be [k, channels], two whole numbers from 1 up", "write [15, 14]")],
    ]
    join: Join


class Resnet(Block):
    depth: Annotated[int, choice(50, 101, 152)]
    weights: PathText | None  # imagenet, a file, or null for random weights
    frozen_norm: YesNo
    dilated: YesNo = False  # stride 8 to the end, for plain FCNs


class ResnetGcn(Block):
    join: Join
    weights: PathText | None
    frozen_norm: YesNo


class EfficientnetLite0(Block):
    weights: PathText | None


class Timm(Block):
    model: Text
    weights: PathText | None
    frozen_norm: YesNo


# A user's own backbone needs no entry here: its arguments are its options.
BACKBONES: dict[str, type[Block]] = {
    "shallow": Shallow,
    "shallow_gcn": ShallowGcn,
    "resnet": Resnet,
    "resnet_gcn": ResnetGcn,
    "efficientnet_lite0": EfficientnetLite0,
    "timm": Timm,
}


class Network(Block):
    """A backbone and the levels that have heads."""

    backbone: Text
    levels: Annotated[
        tuple[Label, ...],
        rule(bool, "name at least one level", "write e.g. [res4, res5]", "none"),
        rule(different, "be different levels", "drop the second of two equal ones"),
    ]
    frozen: YesNo
    output_stride: Annotated[int, whole(1, 1024)]  # px
    options: dict[str, Loose]
    fixed: dict[Label, Head] = {}  # noqa: RUF012
    deconvolution: Annotated[str, choice(*DECONVOLUTIONS)] = DECONVOLUTIONS[0]

    def check(self) -> None:
        try:
            code_digest.entry("study.models.backbones", "BACKBONES", self.backbone)
        except KeyError:
            raise Broken(
                "be an entry of BACKBONES in study/models/backbones.py", shown(self.backbone),
                "rename it or add the entry", "backbone",
            ) from None  # fmt: skip

    def made(self) -> training.Network:
        fixed = tuple((level, self.fixed[level].made()) for level in sorted(self.fixed))
        return training.Network(
            self.backbone,
            self.levels,
            training.freeze(self.options),
            frozen=self.frozen,
            output_stride=self.output_stride,
            fixed=fixed,
            deconvolution=self.deconvolution,
        )


class Recipe(Block):
    """How to train."""

    optimizer: Annotated[str, choice("sgd", "adamw")]
    lr: Annotated[float, above(0, 1e38)]  # the range of 32-bit floats
    momentum: Share
    weight_decay: Share
    schedule: Annotated[str, choice("constant", "cosine", "poly")]
    warmup: Share  # share of the steps
    steps: Annotated[int, whole(1, 100_000_000)]
    batch: Annotated[int, whole(1, 65_536)]  # images
    flip: YesNo
    precision: Annotated[str, choice("fp32", "bf16", "auto")]
    validations: Annotated[int, whole(1, 100_000)]
    crop: Annotated[tuple[int, int], sides(WIDEST_PX)] | None = None  # px
    class_weights: (
        Annotated[
            dict[str, float] | str,
            either(
                "inverse",
                by_name(above(0, 1_000_000)),
                "be inverse or positive numbers by class, such as {roof: 2.0}",
            ),
        ]
        | None
    ) = None
    head_rate: Annotated[float, above(0, 1_000_000)] = 1.0  # times the rate, for all but the backbone
    fused: YesNo | None = None  # default: for adamw
    deterministic: YesNo = True

    def made(self) -> training.Recipe:
        weights = self.class_weights
        named = training.freeze(weights) if isinstance(weights, dict) else weights
        fused = self.optimizer == "adamw" if self.fused is None else self.fused
        return training.Recipe(**dict(self) | {"class_weights": named, "fused": fused})


class Crf(Block):
    """A dense CRF. Standard deviations are in px and grey levels of 0..255 (``_rgb``); weights have no unit."""

    iterations: Annotated[int, whole(1, 1000)]
    smooth_px: Annotated[float, above(0, 10_000)]
    smooth_weight: Annotated[float, above(0, 10_000)]
    bilateral_px: Annotated[float, above(0, 10_000)]
    bilateral_rgb: Annotated[float, above(0, 10_000)]
    bilateral_weight: Annotated[float, above(0, 10_000)]


class Inference(Block):
    """An inference method. With ``optional``, the cells of a CRF are left out if its library is missing."""

    scales: Annotated[
        tuple[Annotated[float, above(0, 16)], ...],
        rule(bool, "name at least one scale of the input", "write e.g. [0.75, 1]", "none"),
    ] = (1,)
    flip: YesNo = False
    crop: Annotated[tuple[int, int], sides(WIDEST_PX)] | None = None  # px
    crops: Annotated[
        tuple[int, int], sides(1000, "be two whole numbers from 1 up (down, across)", "write [1, 4]")
    ] = (1, 1)  # fmt: skip
    crf: Crf | None = None
    optional: YesNo = False

    def made(self) -> training.Inference:
        crf = training.Crf(**dict(self.crf)) if self.crf else None
        return training.Inference(tuple(map(float, self.scales)), self.flip, self.crop, self.crops, crf)


class Control(Block):
    """A second setting that tests the tier's own, given as changes to it; used by ``variants`` or by mechanisms."""

    title: Text
    data: dict[str, Loose] = {}  # noqa: RUF012
    network: dict[str, Loose] = {}  # noqa: RUF012
    recipe: dict[str, Loose] = {}  # noqa: RUF012
    variants: tuple[Variant, ...] = ()


class Mechanism(Block):
    """A contrast of two variants that should appear in the setting ``shows`` and hardly in ``absent``, if the paper is
    right (D146). ``better`` and ``worse`` are trained in both; ``claim`` names the claim of the paper behind it."""

    says: Text
    claim: Annotated[str, choice(*CLAIMS)]
    better: Variant
    worse: Variant
    shows: Label
    absent: Label
    metric: Annotated[str, choice(*COMPARED)] = "miou"
    inference: Label | None = None  # the tier's inference method for better
    remains: Annotated[float, number(0, 1)] = 0.25  # largest share of the gain that may remain in absent

    def check(self) -> None:
        if self.shows == self.absent:
            raise Broken("differ from the setting in shows", shown(self.absent), "name the control", "absent")


class Setting(Block):
    """Another setting, given as changes to the tier's own. Each block is checked after the changes are merged."""

    title: Text = ""
    data: dict[str, Loose] = {}  # noqa: RUF012
    network: dict[str, Loose] = {}  # noqa: RUF012
    recipe: dict[str, Loose] = {}  # noqa: RUF012
    after: Label | None = None
    task: Annotated[str, choice(SEGMENT, CLASSIFY)] = SEGMENT


class Receptive(Block):
    """How valid receptive fields are measured (Fig. 3; D47). Lengths are in px of the original input; on the enlarged
    input they are ``enlarge`` times as long. ``share`` is the share of all change that is lit, ``mass`` the share of
    the gradient in its square."""

    occluder_px: Annotated[int, whole(1, WIDEST_PX), rule(lambda px: bool(px % 2), "be odd (it has a middle)", "add 1")]
    stride_px: Annotated[int, whole(1, WIDEST_PX)]
    enlarge: Annotated[float, number(1, 16)]
    share: Annotated[float, above(0, 1)]
    mass: Annotated[float, above(0, 1)]
    images: Annotated[int, whole(1, 10_000)]


class Submission(Block):
    """The predictions that `make submission` writes for the test images of a benchmark, in its ``format``. They come
    from the training of ``cell`` with ``seed``, with the cell's inference method."""

    cell: Annotated[
        str,
        matching(
            ".{1,200}", "be the address of a segmentation that the tier trains", "take one such as T5/GCN/overall"
        ),
    ]
    format: Annotated[str, choice(*SERVERS)]
    seed: Seed


class Submitted(Block):
    """The mean IoU, in per cent, of our submission on a benchmark's server, and the page that shows it."""

    percent: Annotated[float, number(0, 100)]
    link: Annotated[
        str,
        matching(
            r"https?://[^\s/]\S*", "be the http(s) address of the server's page with the score", "copy it from there"
        ),
    ]


class Settling(Block):
    """When a training counts as settled (D114; see study.statistics.settling)."""

    peak: Annotated[float, above(0, 1000)]
    end: Annotated[float, above(0, 1000)]
    fall: Share


class Rules(Block):
    """The rules for verdicts (D81).

    ``alpha`` applies to intervals and to each family of claims. A difference below ``margin_points`` (percentage
    points), or below the ratio of errors ``margin_ratio`` (above 1), counts as none. Below an error of
    ``error_floor_points`` on the tune split, a ratio of errors is not judged (D113). ``draws`` is the number of
    bootstrap draws; ``settled`` decides which trainings count.
    """

    alpha: Annotated[float, number(0, 0.5)]
    margin_points: Annotated[float, above(0, 100)]
    margin_ratio: Annotated[float, above(1, 10)]
    error_floor_points: Annotated[float, above(0, 100)]
    draws: Annotated[int, whole(LEAST_DRAWS, 1_000_000)]
    settled: Settling


class Frequent(Block):
    """Frequent classes are in at least ``min_images`` training images and on at least the share ``min_pixels`` of the
    labelled training pixels."""

    min_images: Annotated[int, whole(0)]
    min_pixels: Share


class Tuning(Block):
    """The search for each variant's best values on the tune split (D93); see study.config.search_space."""

    settings: tuple[Label, ...] = (MAIN,)
    search: Annotated[
        dict[
            Annotated[str, choice(*SEARCHED)],
            Annotated[
                tuple[Annotated[float, number(0, 1e38)], ...],
                rule(bool, "name values", "write e.g. [0.004, 0.008]", "none"),
                rule(different, "be different values", "drop the second of two equal ones"),
            ],
        ],
        rule(bool, "name at least one part of the recipe", "write e.g. lr: [0.004, 0.008]", "nothing"),
    ]
    seeds: tuple[Seed, ...]
    rungs: Annotated[
        tuple[Share, ...],
        rule(
            lambda rungs: list(rungs) == sorted({share for share in rungs if 0 < share < 1}),
            "be rising shares of the steps between 0 and 1", "write e.g. [0.25, 0.5]",
        ),
    ]  # fmt: skip
    keep: Share
    factorial: tuple[Annotated[int, whole(1, WIDEST_PX - 1)], ...]

    def check(self) -> None:
        for name, values in self.search.items():
            wrong = [value for value in values if not (value > 0 if name == "lr" else value <= 1)]
            if wrong:
                must = "be a positive number, above 0" if name == "lr" else "be a number from 0 to 1"
                raise Broken(must, shown(wrong[0]), "write one", f"search.{name}")
        for k in self.factorial:
            heads.gcn(k)  # raises InputError for an invalid kernel size


def _sizes(value: Any) -> tuple[int, ...]:
    def odd(size: Any) -> bool:
        return type(size) is int and 0 < size < WIDEST_PX and size % 2 == 1

    if value and listed(value, odd) and different(value):
        return tuple(value)
    raise Broken(
        "be different odd kernel sizes (Sec. 3.1: an even one shifts the map)", shown(value), "write e.g. [1, 3, 7, 15]"
    )


def _switch(value: Any) -> tuple[bool, ...]:
    if value and listed(value, lambda item: isinstance(item, bool)) and different(value):
        return tuple(value)
    raise Broken("name true, false or both", shown(value), "write [false, true]")


class Space(Block):
    """The networks that an exploration chooses from: one head family for all levels, a kernel size per level, the width
    of stacks, boundary refinement in all places or place by place, and a learning rate between the two in ``lr``.
    ``k`` may be a mapping by level, ``refine`` a mapping by place."""

    head: Annotated[
        tuple[Annotated[str, choice(*HEADS)], ...],
        rule(lambda heads: bool(heads) and different(heads), "be different head families", "write e.g. [dense, gcn]"),
    ]
    k: Annotated[Any, each(_sizes)]
    width: Annotated[
        tuple[Annotated[Any, stack_width(WIDEST)], ...], rule(bool, "name widths", "write e.g. [1/2, 1]", "none")
    ] = (Fraction(1),)
    refine: Annotated[Any, each(_switch, PLACES)] = (False, True)
    lr: Annotated[
        tuple[Annotated[float, above(0, 1e3)], ...],
        rule(
            lambda ends: len(ends) == 2 and ends[0] <= ends[1], "be the least and the greatest rate",
            "write e.g. [0.001, 0.02]",
        ),
    ]  # fmt: skip

    def check(self) -> None:
        sizes = self.k.values() if isinstance(self.k, dict) else [self.k]
        if "stack" in self.head and max(map(max, sizes)) < 3:
            raise Broken("have a size from 3 up for stacks", shown(self.k), "add 3, 5 ...", "k")

    def sizes(self, level: str) -> tuple[int, ...]:
        """The kernel sizes that a level may have."""
        every: tuple[int, ...] = self.k[level] if isinstance(self.k, dict) else self.k
        return every

    @property
    def places(self) -> dict[str, tuple[bool, ...]] | None:
        """The choices of boundary refinement for each place; None if all places share one choice."""
        return self.refine if isinstance(self.refine, dict) else None


class Chosen(Block):
    """A sampler or a pruner of Optuna by ``name``; the other keys are its arguments."""

    model_config = OPEN

    name: Annotated[str, matching(r"[A-Za-z]\w*", "be the name of a class of Optuna", "write e.g. TPESampler")]

    @property
    def arguments(self) -> dict[str, Json]:
        return dict(self.model_extra or {})


class Winners(Block):
    """How the networks that an exploration found are tested: they are trained with these ``seeds``, which no search has
    used, and scored on val. Besides the front, these include the best network under each bound in ``macs`` (giga
    multiply-adds per image). ``most`` limits their number. With ``controls``, the best network is also trained with
    other kernel sizes at its finer levels, and with one size at all levels."""

    seeds: Annotated[
        tuple[Seed, ...], rule(lambda s: bool(s) and different(s), "be different seeds", "write e.g. [400, 401, 402]")
    ]
    macs: tuple[Annotated[float, above(0, 1e9)], ...] = ()
    most: Annotated[int, whole(1, 100)] = 8
    controls: YesNo = True


class Explore(Block):
    """A search for the best network, which the paper did not make (D150).

    ``objective`` is one of: ``pareto``, the score on the tune split against the cost ``against``; ``score``, the score
    under the bounds ``under``; ``cost``, the cost ``against`` above the score ``least``.
    """

    space: Space
    objective: Annotated[str, choice("pareto", "score", "cost")] = "pareto"
    against: Annotated[str, choice(*COSTS)] = "macs"
    under: dict[Annotated[str, choice(*COSTS)], Annotated[float, above(0, 1e12)]] = {}  # noqa: RUF012
    least: Share | None = None
    sampler: Chosen = Chosen(name="TPESampler")
    pruner: Chosen | None = None
    rungs: tuple[Share, ...] = ()
    # Of all trials, in tera multiply-adds; once it is reached, no trial starts.
    cost: Annotated[float | None, above(0, 1e18)] = None
    seed: Seed
    winners: Winners

    def check(self) -> None:
        if self.pruner is not None and self.objective == "pareto":
            raise Broken(
                "be left out with objective: pareto (no pruner of Optuna handles two objectives)",
                shown(self.pruner.name), "remove it, or write objective: score", "pruner",
            )  # fmt: skip
        if (self.pruner is None) != (not self.rungs):
            raise Broken(
                "be the shares of the steps at which the pruner decides, and empty without a pruner", shown(self.rungs),
                "write e.g. [0.25, 0.5] with a pruner", "rungs",
            )  # fmt: skip
        if list(self.rungs) != sorted({share for share in self.rungs if 0 < share < 1}):
            raise Broken(
                "be rising shares of the steps between 0 and 1", shown(self.rungs), "write e.g. [0.25, 0.5]", "rungs"
            )
        if (self.least is None) == (self.objective == "cost"):
            raise Broken(
                "be given if and only if the objective is cost", shown(self.least),
                "write the least score, such as 0.6" if self.least is None else "remove it", "least",
            )  # fmt: skip
        if self.seed in self.winners.seeds:
            raise Broken(
                "be seeds that the search does not use (or a lucky seed would look like a better network)",
                shown(self.winners.seeds), "write others", "winners.seeds",
            )  # fmt: skip


class Tier(Block):
    """One block below ``tiers:``."""

    title: Text
    judges: Text
    meaningless: YesNo = False
    scale: Annotated[str, choice(PAPER, DATA, MECHANISM, NOTHING)] = NOTHING
    verdicts: Rules | None = None
    not_asked: dict[str, Text] = {}  # claims that the tier's design cannot test, each with the reason  # noqa: RUF012
    tuning: Tuning | None = None
    explore: Explore | None = None
    notes: tuple[Text, ...] = ()
    seeds: Annotated[Any, either_block(Seeds, _listed_seeds, list[int])]  # a plain list, or Seeds
    judged_by: Annotated[str, choice("miou", "miou_frequent")] = "miou"  # the mean that claims about mean IoU use
    tables: Annotated[
        tuple[Annotated[str, choice(*TABLES)], ...],
        rule(different, "be different tables", "drop the second of two equal ones"),
    ]
    data: Data
    controls: dict[Label, Control] = {}  # noqa: RUF012
    mechanisms: dict[Label, Mechanism] = {}  # noqa: RUF012
    network: Network
    recipe: Recipe
    settings: dict[Label, Setting] = {}  # noqa: RUF012
    inference: dict[Label, Inference] = {}  # noqa: RUF012
    not_applicable: dict[str, Text] = {}  # reason by table, or by part such as T7/Stage-1  # noqa: RUF012
    receptive: Receptive | None = None
    submission: Submission | None = None
    submitted: dict[str, Submitted] = {}  # noqa: RUF012
    band_px: Annotated[int, whole(1, 1000)]
    samples: Annotated[int, whole(1, 1000)]  # pictures
    frequent: Frequent | None = None
    extra: tuple[Variant, ...] = ()

    def check(self) -> None:
        if self.scale != NOTHING and self.meaningless:
            raise Broken(
                f"be {NOTHING} if the numbers are meaningless (they can judge no claim)", shown(self.scale),
                "set it, or meaningless to false", "scale",
            )  # fmt: skip
        if self.scale != NOTHING and self.verdicts is None:
            raise Broken(
                f"be given for a tier that may judge claims (scale: {self.scale})", "none",
                "write them as the tier shapes does", "verdicts",
            )  # fmt: skip
        for part in self.not_applicable:
            if part not in PARTS:
                raise Broken(
                    "name tables of the paper, or parts of them", shown(part), "write e.g. T7 or T7/Stage-1",
                    "not_applicable",
                )  # fmt: skip
        served = [name for name in self.tables if all(cell.metric in SERVED for cell in TABLES[name].cells)]
        for table in self.submitted:
            if table not in served:
                raise Broken(
                    f"name tables of the tier whose scores a server gives ({', '.join(served) or 'none'})",
                    shown(table), "remove it", "submitted",
                )  # fmt: skip
        if isinstance(self.seeds, Seeds) and self.scale == NOTHING:
            raise Broken(
                "be a plain list in a tier that judges no claim (seeds are added for open claims only)",
                "a mapping", f"write e.g. [{self.seeds.start}]", "seeds",
            )  # fmt: skip
        if self.judged_by == "miou_frequent" and self.frequent is None:
            raise Broken(
                "be miou if no rule says which classes are frequent", shown(self.judged_by),
                "write the rule, frequent: {min_images: ..., min_pixels: ...}, or remove judged_by", "judged_by",
            )  # fmt: skip
        if self.explore is not None:
            explored = {level for level in self.network.levels if level not in self.network.fixed}
            named = self.explore.space.k
            if isinstance(named, dict) and named.keys() != explored:
                raise Broken(
                    f"have the levels of the tier's heads, {', '.join(sorted(explored))}", shown(sorted(named)),
                    "rename, add or drop levels", "explore.space.k",
                )  # fmt: skip
            used = set(self.seeds.all if isinstance(self.seeds, Seeds) else self.seeds)
            if used & {self.explore.seed, *self.explore.winners.seeds}:
                raise Broken(
                    "have seeds that no reported number uses", f"{shown(sorted(used))} for the tables",
                    f"write others, such as {max(used) + 200}", "explore",
                )  # fmt: skip
        self._check_settings()
        if self.tuning:
            self._check_tuning(self.tuning)

    def _check_settings(self) -> None:
        after = dict.fromkeys((MAIN, *self.controls)) | {name: s.after for name, s in self.settings.items()}
        for name in (*self.controls, *self.settings):
            taken = (
                "a control" if name in self.settings and name in self.controls else "the tier" if name == MAIN else ""
            )
            if taken:
                kind = "settings" if name in self.settings else "controls"
                raise Broken("have a name of its own", f"one that {taken} has", "rename it", f"{kind}.{name}")
        for name in self.settings:
            seen = [name]
            while (at := after[seen[-1]]) is not None:
                if at not in after or at in seen:
                    free = ", ".join(other for other in after if other not in seen)
                    raise Broken(
                        "name a setting of the tier that comes before it", shown(at),
                        f"take one of {free} or leave it out",
                        f"settings.{seen[-1]}.after",
                    )  # fmt: skip
                seen.append(at)

    def _check_tuning(self, tuning: Tuning) -> None:
        free = [MAIN, *self.controls, *(n for n, s in self.settings.items() if s.after is None and s.task == SEGMENT)]
        for name in tuning.settings:
            if name not in free:
                raise Broken(f"be one of {', '.join(free)}", shown(name), "rename it", "tuning.settings")
        reported = self.seeds.all if isinstance(self.seeds, Seeds) else self.seeds
        if not tuning.seeds or set(tuning.seeds) & set(reported):
            raise Broken(
                "be seeds that no reported number uses (or a variant could be chosen for its luck with one)",
                f"{list(tuning.seeds)} next to {shown(reported)}", f"write e.g. [{max(reported) + 100}]",
                "tuning.seeds",
            )  # fmt: skip


class Params(Block):
    """The whole of params.yaml."""

    tier: TierName
    tune: YesNo = False  # whether to search each variant's best values
    explore: Annotated[int, whole(0, 1_000_000)] = 0  # trials of the exploration of the chosen tier
    execution: Execution
    tracking: Tracking | None = None
    tiers: dict[str, Tier]  # by TierName
