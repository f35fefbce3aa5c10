"""The paper's protocol item by item, and what a tier does instead: where it departs, and where the paper is silent.

What the paper says is in our own words, with the numbers of study.paper.quotes. What is done here is read from the
tier, so a changed params.yaml changes the rows. Uses the standard library and the tier only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from study.config.tiers import Setting, Tier
from study.paper.quotes import QUOTES
from study.paper.tables import LEVELS
from study.spec.cells import Cell
from study.spec.constants import MAIN
from study.spec.documents.tables import Deviation

SAME, DEPARTS, SILENT = "same", "departs", "paper is silent"
NAMES = {MAIN: "ablations"}  # names of settings for readers

T6 = ("T6 ResNet50", "T6 ResNet50-GCN")
PRETRAINED = ("T6 ResNet50 pretraining", "T6 ResNet50-GCN pretraining")
STAGES = ("T7 Stage-1", "T7 Stage-2", "T7 Stage-3")
STREETS = ("T9 Stage-1", "T9 Stage-2")
VOC = (MAIN, *T6, *STAGES)  # settings that the paper trains on VOC 2012
SEGMENTATION = (*VOC, *STREETS)

BATCH, MOMENTUM, DECAY = QUOTES["recipe"].numbers
PAD_COCO, PAD = QUOTES["padded"].numbers
CROP = QUOTES["cityscapes_crop"].numbers[0]
CROPS, CROPS_PX = QUOTES["cityscapes_crops"].numbers
BAND = QUOTES["band"].numbers[0]
K4, WIDTH4, _ = QUOTES["gcn_res4"].numbers
K5, WIDTH5, _ = QUOTES["gcn_res5"].numbers
GCN_BLOCKS = f"res4 ({K4}, {WIDTH4}), res5 ({K5}, {WIDTH5})"


@dataclass(frozen=True)
class Item:
    """One item of the protocol. ``says`` is what the paper says about it at ``place``, None if it is silent; ``paper``
    is the same in the form of ``here``. ``decisions`` are numbers of reports/decisions.md.

    ``here`` reads our value from a Setting, once for each setting named in ``about`` that the tier trains, or from the
    Tier if ``about`` is empty. None means that the item does not apply there.
    """

    id: str
    what: str
    says: str | None
    place: str
    paper: Any
    about: tuple[str, ...]
    here: Callable[[Any], Any]
    decisions: tuple[str, ...]
    effect: str


def _silent(
    id: str, what: str, about: tuple[str, ...], here: Callable[[Any], Any], decisions: tuple[str, ...], effect: str
) -> Item:
    """An item on which the paper is silent."""
    return Item(id, what, says=None, place="", paper=None, about=about, here=here, decisions=decisions, effect=effect)


# --------------------------------------------------------------------------------------------- values read from a tier
def _option(setting: Setting, name: str) -> Any:
    return dict(setting.data.options).get(name)


def _data(*options: str) -> Callable[[Setting], str]:
    """The data set's name, with those of the options that are set."""

    def told(setting: Setting) -> str:
        found = {name: value for name in options if (value := _option(setting, name)) and not isinstance(value, tuple)}
        return ", ".join([setting.data.name, *(f"{name.replace('_', ' ')} {_text(v)}" for name, v in found.items())])

    return told


def _input(setting: Setting) -> Any:
    """(height, width) of training images, cropped or padded; None if every image has its own size."""
    side, panels = _option(setting, "size"), _option(setting, "panels") or 1
    own = (side, side * panels) if side else None
    return setting.recipe.crop or _option(setting, "pad_train") or _option(setting, "pad") or own


def _backbone(setting: Setting) -> tuple[Any, ...]:
    network = setting.network
    inside = dict(network.options)
    own = tuple(inside[name] for name in ("depth", "model") if name in inside)
    return (network.backbone, *own) + (("frozen",) if network.frozen else ())


def _from(before: str) -> str:
    return f"those of {before}"


def _weights(setting: Setting) -> str:
    if setting.after is not None:
        return _from(setting.after)
    weights = dict(setting.network.options).get("weights")
    return f"weights of {weights}" if weights else "random weights"


def _gcn_blocks(setting: Setting) -> str:
    network = setting.network
    inside = dict(network.options).get("gcn", ())
    found = ", ".join(f"{level} ({', '.join(map(str, block))})" for level, block in inside)
    # ResNet-GCN's own blocks are those of Table 11; a tier cannot change them.
    return f"{network.backbone}: {GCN_BLOCKS if network.backbone == 'resnet_gcn' else found or 'none'}"


def _norm(setting: Setting) -> str:
    if setting.network.frozen:
        return "fixed running statistics, as the backbone is frozen"
    fixed = dict(setting.network.options).get("frozen_norm")
    return "fixed running statistics, trained scales and shifts" if fixed else "statistics of the batch"


def _varied(setting: Setting) -> str:
    fixed = dict(setting.network.fixed)
    free = [level for level in setting.network.levels if level not in fixed]
    text = f"the variant's head at {', '.join(free) or 'no level'}, with one k"
    return text + (f"; fixed at {', '.join(fixed)}" if fixed else "")


def _schedule(setting: Setting) -> str:
    recipe = setting.recipe
    return recipe.schedule + (f", warm-up {100 * recipe.warmup:g} % of the steps" if recipe.warmup else "")


def _pretraining(setting: Setting) -> str:
    recipe = setting.recipe
    return (
        f"{recipe.optimizer}, {recipe.steps:,} steps of {recipe.batch} images, rate {recipe.lr:g} ({recipe.schedule}), "
        f"decay {recipe.weight_decay:g}"
    )


def _seeds(tier: Tier) -> str:
    if tier.by_need is None:
        return f"{len(tier.seeds)} (seed {', '.join(map(str, tier.seeds))})"
    first, most = tier.by_need.first, tier.by_need.most
    return f"{first} (seed {tier.seeds[0]} and up), and up to {most} for open claims"


def _loss(setting: Setting) -> str:
    weights = setting.recipe.class_weights
    named = weights if isinstance(weights, str) or weights is None else ", ".join(f"{n} {w:g}" for n, w in weights)
    return "cross-entropy, averaged over labelled pixels; void is left out" + (
        f"; class weights: {named}" if named else ""
    )


def _padding(setting: Setting) -> str | None:
    longest = _option(setting, "longest")
    smaller = f"; larger images are shrunk to a longest side of {longest} px, and scored at their own size"
    padded = "ImageNet's mean colour, labelled void, at the right and bottom" + (smaller if longest else "")
    return padded if _option(setting, "pad") else None


def _always(text: str) -> Callable[[Any], str]:
    """A value that is the same in every tier."""
    return lambda _: text


def _asked(tier: Tier) -> list[Cell]:
    """The tier's cells that are trained here."""
    return [cell for cell in tier.cells if cell.trained and tier.reason(cell) is None]


def _inferences(read: Callable[[Any], Any]) -> Callable[[Tier], str | None]:
    """What ``read`` finds in the inferences that cells of the tier use: each value once, None if there is none."""

    def told(tier: Tier) -> str | None:
        names = dict.fromkeys(cell.inference for cell in _asked(tier) if cell.inference)
        found = (read(tier.inference[name]) for name in names)
        return "; ".join(dict.fromkeys(text for text in found if text is not None)) or None

    return told


def _scales(how: Any) -> str | None:
    return _text(how.scales) if len(how.scales) > 1 else None


def _mirrored(how: Any) -> str | None:
    return ("with" if how.flip else "without") + " mirror images" if len(how.scales) > 1 else None


def _crops(how: Any) -> str | None:
    if how.crop is None:
        return None
    return f"{how.crops[0] * how.crops[1]} crops of {how.crop[0]}x{how.crop[1]}"


def _crf(how: Any) -> str | None:
    crf = how.crf
    return None if crf is None else (
        f"{crf.iterations} iterations; smoothing {crf.smooth_px:g} px, weight {crf.smooth_weight:g}; bilateral "
        f"{crf.bilateral_px:g} px, {crf.bilateral_rgb:g} grey levels, weight {crf.bilateral_weight:g}"
    )  # fmt: skip


def _near_boundaries(here: Callable[[Tier], Any]) -> Callable[[Tier], Any]:
    """``here`` if the tier measures accuracy near boundaries."""
    return lambda tier: here(tier) if any(cell.metric.startswith("boundary") for cell in _asked(tier)) else None


def _score(table: str) -> Callable[[Tier], str | None]:
    def told(tier: Tier) -> str | None:
        return None if table not in tier.tables else "scored" if table in tier.submitted else "not submitted"

    return told


def _means(tier: Tier) -> str:
    if tier.frequent is None:
        return "mean IoU"
    images, pixels = tier.frequent
    return (
        f"mean IoU twice: over all classes, and over those in at least {images} training images and on "
        f"{100 * pixels:g} % of the labelled pixels"
    )


def _head(table: str) -> Callable[[Tier], str | None]:
    def told(tier: Tier) -> str | None:
        refined = (cell.variant for cell in _asked(tier) if cell.table == table)
        return next((f"k = {v.head.kernel_size}" for v in refined if v is not None and v.refine), None)

    return told


def _receptive(tier: Tier) -> str | None:
    how = tier.receptive
    return None if how is None else (
        f"a sliding square of {how.occluder_px} px every {how.stride_px} px; the smallest area with "
        f"{100 * how.share:g} % of all change; enlarged {how.enlarge:g} times"
    )  # fmt: skip


def _submits(tier: Tier) -> str | None:
    found = tier.submission
    return None if found is None else f"{found.cell}, trained without val, seed {found.seed}"


# ------------------------------------------------------------------------------------------------------ the protocol
OTHER_IMAGES = "Scores are not comparable with the paper's; only the order of variants and their differences are."
ITEMS: tuple[Item, ...] = (
    # Images
    Item("data", "Training images of the ablations", says="VOC 2012 train with SBD, 10,582 images", place="Sec. 4.1",
         paper="voc, train sbd", about=(MAIN,), here=_data("train"), decisions=("D14", "D20", "D50"),
         effect=OTHER_IMAGES),
    Item("scored", "Images on which the ablations are scored", says="VOC 2012 val, 1449 images",
         place="Sec. 4.1", paper="val of voc", about=(MAIN,), here=lambda s: f"val of {s.data.name}",
         decisions=("D12", "D20"), effect=OTHER_IMAGES),
    Item("tune", "Images set apart for tuning", says="none: all are trained on", place="Sec. 4.1", paper=0,
         about=SEGMENTATION, here=lambda s: _option(s, "tune") or 0, decisions=("D03",),
         effect="Settings are chosen without looking at val. If these images are taken from the training images, "
         "fewer are left to train on."),
    Item("input", "Height and width of training images", says="padded to 512x512", place="Sec. 4.1, 4.2",
         paper=(PAD, PAD), about=tuple(name for name in VOC if name != "T7 Stage-1"), here=_input,
         decisions=("D13", "D20", "D33"),
         effect="A given k covers a different share of the coarsest map, so gains saturate at a different k."),
    Item("input_coco", "Height and width in Stage-1 of Table 7", says="padded to 640x640", place="Sec. 4.2",
         paper=(PAD_COCO, PAD_COCO), about=("T7 Stage-1",), here=_input, decisions=("D43", "D51"),
         effect="Object sizes differ less between the stages than in the paper."),
    Item("input_streets", "Height and width of training crops, Table 9", says="random crops of 800x800",
         place="Sec. 4.3", paper=(CROP, CROP), about=STREETS, here=_input, decisions=("D43", "D53"),
         effect="Unlike in the paper, k = 25 is not the side of the last map."),
    Item("normalised", "Normalisation of images", says="mean subtraction", place="Sec. 4", paper="mean",
         about=(MAIN, *STAGES, *STREETS), here=lambda s: "mean and standard deviation", decisions=("D48",),
         effect="Backbones with ImageNet's weights expect both; for the first convolution only the scale changes."),
    _silent("padding", "Padding and shrinking of images", about=SEGMENTATION, here=_padding,
            decisions=("D13", "D123"), effect="Padding: hardly any, as void is neither trained on nor scored. "
            "Shrinking: fine parts are lost, for all variants alike."),
    Item("flip", "Mirror images in training", says="flipped horizontally, among others", place="Sec. 4", paper=True,
         about=SEGMENTATION, here=lambda s: s.recipe.flip, decisions=("D22", "D34"),
         effect="Less augmentation, so large heads may overfit sooner."),
    # The network
    Item("backbone", "Backbone", says="ResNet-152, trained with the rest", place="Sec. 4", paper=("resnet", 152),
         about=(MAIN, *STAGES, *STREETS), here=_backbone, decisions=("D10", "D30", "D31"),
         effect="Scores are lower; a backbone that sees less around a pixel leaves more for large kernels to gain."),
    Item("resnet50", "Backbone of Table 6, plain", says="ResNet-50", place="Table 6", paper=("resnet", 50),
         about=T6[:1], here=_backbone, decisions=("D41",),
         effect="A shallow net sees so little that GCN blocks gain far more over it than in the paper."),
    Item("resnet50_gcn", "Backbone of Table 6, with GCN blocks: k, width",
         says=f"ResNet50-GCN; res-4: k = {K4}, {WIDTH4}; res-5: k = {K5}, {WIDTH5}", place="Table 11",
         paper=f"resnet_gcn: {GCN_BLOCKS}", about=T6[1:], here=_gcn_blocks, decisions=("D40", "D41"),
         effect="Kernels as large as the map raise the gain under the 1x1 head."),
    _silent("join", "How the two branches of a GCN block of the backbone join", about=("T6 ResNet50-GCN",),
            here=lambda s: dict(s.network.options).get("join"), decisions=("D40",),
            effect="Little: the numbers of weights differ by less than a tenth."),
    Item("weights", "Weights that training starts from", says="pretrained on ImageNet", place="Sec. 4",
         paper="weights of imagenet", about=(MAIN, *STAGES[:1]), here=_weights, decisions=("D10", "D30", "D60"),
         effect="Without pretraining, features are weaker and training is longer; differences between heads can be "
         "larger."),
    _silent("stride", "Position of the stride in a ResNet bottleneck", about=(MAIN,),
            here=lambda s: "in the 3x3 convolution (torchvision)" if s.network.backbone == "resnet" else None,
            decisions=("D60",), effect="A few tenths of a point in favour of ours, for all variants alike."),
    _silent("features", "Storage of a frozen backbone's features", about=(MAIN,),
            here=lambda s: "float16, each channel standardised" if s.network.frozen else None, decisions=("D31", "D32"),
            effect="The gap between heads depends less on the learning rate."),
    _silent("norm", "Batch normalisation of the backbone", about=SEGMENTATION, here=_norm,
            decisions=("D10", "D31", "D48"),
            effect="Statistics of a small batch add noise, fixed ones do not; the same for all variants."),
    Item("levels", "Levels that have heads", says="res-2 to res-5, four heads", place="Fig. 2A", paper=LEVELS,
         about=SEGMENTATION, here=lambda s: s.network.levels, decisions=("D21", "D33"),
         effect="Less detail at object boundaries, fewer weights and BRs. The coarsest level, where k matters most, "
         "remains."),
    _silent("varied", "Which heads the ablations replace, and k by level", about=(MAIN,), here=_varied,
            decisions=("D02",),
            effect="Replacing all heads makes differences between variants larger than replacing the one on res-5."),
    Item("output_stride", "Stride at which deconvolution ends", says="1: a score map as large as the input",
         place="Fig. 2A", paper=1, about=SEGMENTATION, here=lambda s: s.network.output_stride,
         decisions=("D15", "D33"), effect="Boundaries are coarser, so BR can gain less."),
    _silent("deconvolution", "Deconvolutions: kernel, initial weights, learned or fixed", about=SEGMENTATION,
            here=lambda s: (
                f"kernel 4, initially bilinear, {'learned' if s.network.deconvolution == 'learned' else 'fixed'}"
            ), decisions=("D09",), effect="Little; the same for all variants."),
    _silent("start", "Initial weights of heads and BR", about=SEGMENTATION,
            here=_always("heads keep the variance of their input; BR starts as the identity"), decisions=("D07", "D08"),
            effect="All variants start with scores of the same scale, which spares wide kernels a bad start."),
    _silent("bias", "Biases and normalisation in heads", about=SEGMENTATION,
            here=_always("none in heads; biases in BR"), decisions=("D05", "D06", "D08"),
            effect="Hardly any: deconvolutions give each class its bias."),
    # Training
    Item("optimizer", "Optimizer", says="SGD", place="Sec. 4", paper="sgd", about=SEGMENTATION,
         here=lambda s: s.recipe.optimizer, decisions=("D22", "D34"),
         effect="Faster in short trainings and less sensitive to the rate; the order of close variants may change."),
    Item("momentum", "Momentum (AdamW: its first beta)", says="0.99", place="Sec. 4", paper=MOMENTUM,
         about=SEGMENTATION, here=lambda s: s.recipe.momentum, decisions=("D22", "D34"),
         effect="A shorter memory of gradients, so smaller steps at the same rate."),
    Item("decay", "Weight decay", says="0.0005", place="Sec. 4", paper=DECAY, about=SEGMENTATION,
         here=lambda s: s.recipe.weight_decay, decisions=("D22", "D34"),
         effect="Little in short trainings; in AdamW it is decoupled from the gradient."),
    Item("batch", "Images per batch", says="1", place="Sec. 4", paper=BATCH, about=SEGMENTATION,
         here=lambda s: s.recipe.batch, decisions=("D22", "D34"),
         effect="Each step has less noise, which allows higher rates and fewer steps."),
    _silent("lr", "Learning rate", about=SEGMENTATION, here=lambda s: s.recipe.lr,
            decisions=("D22", "D34", "D61", "D62"),
            effect="One rate for all variants favours those that it suits; gaps between heads change with it."),
    _silent("schedule", "Schedule of the learning rate", about=SEGMENTATION, here=_schedule,
            decisions=("D22", "D34", "D61"),
            effect="Final weights score higher than at a fixed rate, for all variants alike."),
    _silent("steps", "Length of training in steps", about=SEGMENTATION, here=lambda s: s.recipe.steps,
            decisions=("D22", "D34", "D43", "D62"),
            effect="If training stops early, part of a gap is speed of learning."),
    _silent("loss", "Loss, and void pixels", about=SEGMENTATION,
            here=_loss, decisions=("D11", "D124"),
            effect="It only sets the scale of the learning rate."),
    _silent("precision", "Precision of arithmetic in training", about=SEGMENTATION, here=lambda s: s.recipe.precision,
            decisions=("D58",), effect="Below the spread of seeds."),
    _silent("seeds", "Trainings per variant", about=(),
            here=_seeds, decisions=("D17", "D18", "D72", "D149"),
            effect="Intervals can be given; the paper's single trainings have none, so small gaps there may be "
            "chance."),
    # Stages
    Item("stage1", "Data of Table 7's Stage-1", says="COCO, SBD and VOC, 109,892 images", place="Sec. 4.2",
         paper="coco, voc sbd", about=STAGES[:1], here=_data("train", "mislabelled", "voc"), decisions=("D43", "D51"),
         effect="A larger, noisier set adds a different amount here than COCO does."),
    _silent("coco", "COCO's split, and the labels of its other classes and crowds", about=STAGES[:1],
            here=lambda s: (
                f"{_text(_option(s, 'train'))}; others {_option(s, 'others')}, crowds {_option(s, 'crowd')}"
                if s.data.name == "coco" else None
            ), decisions=("D51", "D52"),
            effect="Little: the number of images identifies the split."),
    Item("stage2", "Data of Table 7's Stage-2", says="SBD and VOC, 10,582 images", place="Sec. 4.2",
         paper="voc, train sbd", about=STAGES[1:2], here=_data("train"), decisions=("D14", "D43", "D50"),
         effect=OTHER_IMAGES),
    Item("stage3", "Data of Table 7's Stage-3", says="VOC alone", place="Sec. 4.2", paper="voc, train train",
         about=STAGES[2:], here=_data("train"), decisions=("D43", "D50"),
         effect="Fewer, cleaner images can add less here than VOC's masks do."),
    Item("before2", "What Stage-2 of Table 7 starts from", says="the weights of Stage-1", place="Sec. 4.2",
         paper=_from(STAGES[0]), about=STAGES[1:2], here=_weights, decisions=("D42", "D43"),
         effect="No gain from COCO: Stage-2 scores lower, and its gaps are those of Table 1."),
    Item("before3", "What Stage-3 of Table 7 starts from", says="the weights of Stage-2", place="Sec. 4.2",
         paper=_from(STAGES[1]), about=STAGES[2:], here=_weights, decisions=("D42", "D43"),
         effect="Stage-3 has seen fewer images."),
    Item("streets1", "Data of Table 9's Stage-1", says="Cityscapes, coarse and fine, 22,973 images", place="Sec. 4.3",
         paper="cityscapes, train coarse+fine", about=STREETS[:1], here=_data("train", "coarse_share", "coarse_px"),
         decisions=("D43", "D53"), effect=OTHER_IMAGES),
    Item("streets2", "Data of Table 9's Stage-2", says="Cityscapes, fine alone, 2975 images", place="Sec. 4.3",
         paper="cityscapes, train fine", about=STREETS[1:], here=_data("train"), decisions=("D43", "D53"),
         effect=OTHER_IMAGES),
    Item("before9", "What Stage-2 of Table 9 starts from", says="the weights of Stage-1", place="Sec. 4.3",
         paper=_from(STREETS[0]), about=STREETS[1:], here=_weights, decisions=("D42", "D43"),
         effect="Stage-2 has seen fewer images."),
    _silent("streets_start", "What Stage-1 of Table 9 starts from", about=STREETS[:1], here=_weights,
            decisions=("D43", "D62"), effect="A start from VOC or COCO would raise both stages."),
    Item("imagenet", "Data of Table 6's pretraining", says="ImageNet 2015, without details", place="Table 6",
         paper="imagenet", about=PRETRAINED, here=_data("cue"), decisions=("D41", "D63"),
         effect="Errors are those of another task; compare only their order."),
    _silent("pretraining", "Recipe of Table 6's pretraining", about=PRETRAINED, here=_pretraining,
            decisions=("D41", "D63"), effect="Both networks have the same recipe, so it does not explain their gap."),
    _silent("head_t6", "k of the head in Table 6", about=(), here=_head("T6"), decisions=("D40",),
            effect="Little between 11 and 15 (Table 1)."),
    # Evaluation
    Item("mean", "Score", says="mean IoU", place="Sec. 4", paper="mean IoU", about=(), here=_means, decisions=("D04",),
         effect="Rare classes rise and fall with a few images; the mean over frequent ones is steadier."),
    Item("band", "Width of the boundary band, in px", says="7", place="Table 5", paper=BAND, about=(),
         here=_near_boundaries(lambda t: t.band_px), decisions=("D12",),
         effect="A narrower band is harder: its accuracy is lower and includes more of the annotation's own error."),
    _silent("distance", "Distance in Table 5, and boundaries next to void", about=(),
            here=_near_boundaries(_always("Euclidean; void counts as a label; pixels of all images are pooled")),
            decisions=("D12",), effect="Both accuracies move by up to a few points, for all variants alike."),
    Item("crops", "Crops in the evaluation of Table 9", says="four of 1024x1024, fused", place="Sec. 4.3",
         paper=f"{CROPS} crops of {CROPS_PX}x{CROPS_PX}", about=(), here=_inferences(_crops), decisions=("D43", "D45"),
         effect="Each crop shows the network as much as a training crop did; the share of context differs."),
    _silent("places", "Places of the crops", about=(),
            here=lambda t: (
                "spread evenly from edge to edge, probabilities averaged" if _inferences(_crops)(t) else None
            ), decisions=("D44", "D45"), effect="Below a tenth of a point."),
    _silent("scales", "Scales of multi-scale evaluation (MS)", about=(), here=_inferences(_scales), decisions=("D44",),
            effect="The gain of MS depends on them; the paper's own is 0.1 to 0.3 points."),
    _silent("mirror", "Mirror images in MS", about=(), here=_inferences(_mirrored), decisions=("D44",),
            effect="A few tenths of a point at most."),
    _silent("crf", "Parameters of the dense CRF", about=(), here=_inferences(_crf), decisions=("D46",),
            effect="Untuned parameters can lose points where the paper's gain 0.2 to 0.6."),
    Item("test_voc", "Score on VOC's test set (Table 8)", says="given by the benchmark's server", place="Table 8",
         paper="scored", about=(), here=_score("T8"), decisions=("D64",), effect="Table 8 has no number of ours."),
    Item("test_cityscapes", "Score on Cityscapes' test set (Table 10)", says="given by the benchmark's server",
         place="Table 10", paper="scored", about=(), here=_score("T10"), decisions=("D64",),
         effect="Table 10 has no number of ours."),
    _silent("submission", "What is submitted, and whether val is trained on", about=(), here=_submits,
            decisions=("D64",), effect="Training on val too would raise the test score."),
    _silent("receptive", "How Figure 3's receptive fields are found", about=(), here=_receptive, decisions=("D47",),
            effect="The lit areas differ in size; only their order between heads counts."),
)  # fmt: skip


def rows(tier: Tier) -> list[Deviation]:
    """One row of text for each item that applies to a tier, in the protocol's order: ``id``, ``what``, ``status``
    (same, departs, paper is silent), ``paper`` (None: silent), ``place``, ``here``, ``decisions`` and ``effect``."""
    trained = _trained(tier)
    found: list[Deviation] = []
    for item in ITEMS:
        if item.about:
            values = {name: item.here(tier.settings[name]) for name in item.about if name in trained}
        else:
            values = {"": item.here(tier)}
        values = {name: value for name, value in values.items() if value is not None}
        if not values:
            continue
        same = all(value == item.paper for value in values.values())
        status = SILENT if item.says is None else SAME if same else DEPARTS
        found.append(
            {
                "id": item.id,
                "what": item.what,
                "status": status,
                "paper": item.says,
                "place": item.place,
                "here": _grouped(values),
                "decisions": list(item.decisions),
                "effect": item.effect,
            }
        )
    return found


def _trained(tier: Tier) -> set[str]:
    """Settings in which the tier trains a cell of its tables or a variant of its own, and the settings that they start
    from."""
    found = {cell.setting for cell in _asked(tier)} | ({MAIN} if tier.extra else set())
    for name in sorted(found):
        at = tier.settings[name].after
        while at is not None:
            found.add(at)
            at = tier.settings[at].after
    return found


def _grouped(values: dict[str, Any]) -> str:
    """Values as text. If settings differ, each value follows the settings that have it."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(_text(value), []).append(NAMES.get(name, name))
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups.items())


def _text(value: Any) -> str:
    """A value of params.yaml as a reader writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    if isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value):
        return f"{value[0]}x{value[1]}"
    return ", ".join(map(_text, value)) if isinstance(value, tuple) else str(value)
