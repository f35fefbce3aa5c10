"""The paper's protocol item by item, and what a tier does instead: where it departs, where the paper is silent.

What the paper says is in words of our own, its numbers are those of study.quoted. What is done here is read from the
tier, so a changed params.yaml changes the rows. Of the standard library and the tier only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from study.paper import TABLES
from study.quoted import QUOTES
from study.spec import Cell
from study.tier import MAIN, Setting, Tier

SAME, DEPARTS, SILENT = "same", "departs", "paper is silent"
NAMES = {MAIN: "ablations"}  # what readers know a setting as

T6 = ("T6 ResNet50", "T6 ResNet50-GCN")
PRETRAINED = ("T6 ResNet50 pretraining", "T6 ResNet50-GCN pretraining")
STAGES = ("T7 Stage-1", "T7 Stage-2", "T7 Stage-3")
STREETS = ("T9 Stage-1", "T9 Stage-2")
VOC = (MAIN, *T6, *STAGES)  # what is trained on VOC 2012 in the paper
SEGMENTATION = (*VOC, *STREETS)

LEVELS = ("res2", "res3", "res4", "res5")
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
    """One item of the protocol. ``says`` is what the paper says of it at ``place``, None where it says nothing, and
    ``paper`` the same in the form of ``here``; ``decisions`` are numbers of reports/decisions.md.

    ``here`` reads our value from a Setting, once for each setting named in ``about`` that the tier trains, or from the
    Tier where ``about`` is empty. None means that the item does not come up there.
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
    """An item of which the paper says nothing."""
    return Item(id, what, None, "", None, about, here, decisions, effect)


# ------------------------------------------------------------------------------------------- what is read from a tier
def _option(setting: Setting, name: str) -> Any:
    return dict(setting.data.options).get(name)


def _data(*options: str) -> Callable[[Setting], str]:
    """The data set's name, with those of the options that say something."""

    def told(setting: Setting) -> str:
        found = {name: value for name in options if (value := _option(setting, name)) and not isinstance(value, tuple)}
        return ", ".join([setting.data.name, *(f"{name.replace('_', ' ')} {_text(v)}" for name, v in found.items())])

    return told


def _input(setting: Setting) -> Any:
    """(height, width) of training images, cropped or padded; None where every image has a size of its own."""
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


def _padding(setting: Setting) -> str | None:
    return "ImageNet's mean colour, labelled void, at the right and below" if _option(setting, "pad") else None


def _always(text: str) -> Callable[[Any], str]:
    """What the code does whatever the tier."""
    return lambda _: text


def _asked(tier: Tier) -> list[Cell]:
    """The cells of the tier's tables that are trained here."""
    cells = (cell for table in tier.tables for cell in TABLES[table].cells)
    return [cell for cell in cells if cell.trained and tier.reason(cell) is None]


def _inferences(read: Callable[[Any], Any]) -> Callable[[Tier], str | None]:
    """What ``read`` finds in the tier's inferences that some cell asks for: each value once, None where there is
    none."""

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
    """``here`` where the tier measures accuracy near boundaries."""
    return lambda tier: here(tier) if any(cell.metric == "boundary_accuracy" for cell in _asked(tier)) else None


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
OTHER_IMAGES = "Levels of scores are not the paper's; only order and differences between variants can be compared."
ITEMS: tuple[Item, ...] = (
    # Images
    Item("data", "Training images of the ablations", "VOC 2012 train with SBD, 10,582 images", "Sec. 4.1",
         "voc, train sbd", (MAIN,), _data("train"), ("D14", "D20", "D50"), OTHER_IMAGES),
    Item("scored", "Images that the scores of the ablations come from", "VOC 2012 val, 1449 images", "Sec. 4.1",
         "val of voc", (MAIN,), lambda s: f"val of {s.data.name}", ("D12", "D20"), OTHER_IMAGES),
    Item("tune", "Images kept apart for tuning", "none: all of them are trained on", "Sec. 4.1", 0, SEGMENTATION,
         lambda s: _option(s, "tune") or 0, ("D03",),
         "Settings are chosen without a look at val; where they are taken from the training images, these are fewer."),
    Item("input", "Height and width of training images", "padded to 512x512", "Sec. 4.1, 4.2", (PAD, PAD),
         tuple(name for name in VOC if name != "T7 Stage-1"), _input, ("D13", "D20", "D33"),
         "A given k covers another share of the coarsest map, so gains saturate at another k."),
    Item("input_coco", "Height and width in Stage-1 of Table 7", "padded to 640x640", "Sec. 4.2", (PAD_COCO, PAD_COCO),
         ("T7 Stage-1",), _input, ("D43", "D51"), "Stages differ less in the size of objects than the paper's do."),
    Item("input_streets", "Height and width of training crops, Table 9", "random crops of 800x800", "Sec. 4.3",
         (CROP, CROP), STREETS, _input, ("D43", "D53"),
         "k = 25 is not the side of the last map, as it is in the paper."),
    Item("normalised", "What images are normalised by", "mean subtraction", "Sec. 4", "mean",
         (MAIN, *STAGES, *STREETS), lambda s: "mean and standard deviation", ("D48",),
         "Backbones with ImageNet's weights expect both; the first convolution sees the same up to a scale."),
    _silent("padding", "What is padded", SEGMENTATION, _padding, ("D13",),
            "None to speak of: void is neither trained on nor scored."),
    Item("flip", "Mirror images in training", "flipped horizontally, and the like", "Sec. 4", True, SEGMENTATION,
         lambda s: s.recipe.flip, ("D22", "D34"), "Less augmentation, so large heads may overfit sooner."),
    # The network
    Item("backbone", "Backbone", "ResNet-152, trained with the rest", "Sec. 4", ("resnet", 152),
         (MAIN, *STAGES, *STREETS), _backbone, ("D10", "D30", "D31"),
         "Scores are lower; a backbone that sees less around a pixel leaves more for large kernels to gain."),
    Item("resnet50", "Backbone of Table 6, plain", "ResNet-50", "Table 6", ("resnet", 50), T6[:1], _backbone, ("D41",),
         "A shallow net sees so little that GCN blocks gain far more over it than the paper's."),
    Item("resnet50_gcn", "Backbone of Table 6, with GCN blocks: k, width",
         f"ResNet50-GCN; res-4: k = {K4}, {WIDTH4}; res-5: k = {K5}, {WIDTH5}", "Table 11", f"resnet_gcn: {GCN_BLOCKS}",
         T6[1:], _gcn_blocks, ("D40", "D41"), "Kernels as large as the map raise the gain under the 1x1 head."),
    _silent("join", "How the two branches of a GCN block of the backbone join", ("T6 ResNet50-GCN",),
            lambda s: dict(s.network.options).get("join"), ("D40",),
            "Little: the weights differ by less than a tenth."),
    Item("weights", "Weights that training starts from", "pretrained on ImageNet", "Sec. 4", "weights of imagenet",
         (MAIN, *STAGES[:1]), _weights, ("D10", "D30", "D60"),
         "Without pretraining, features are weaker and training is longer; differences between heads can be larger."),
    _silent("stride", "Where a bottleneck of ResNet has its stride", (MAIN,),
            lambda s: "in the 3x3 convolution (torchvision)" if s.network.backbone == "resnet" else None, ("D60",),
            "A few tenths of a point in favour of ours, for all variants alike."),
    _silent("features", "How features of a frozen backbone are kept", (MAIN,),
            lambda s: "float16, each channel standardised" if s.network.frozen else None, ("D31", "D32"),
            "The gap between heads hangs less on the learning rate."),
    _silent("norm", "Batch normalisation of the backbone", SEGMENTATION, _norm, ("D10", "D31", "D48"),
            "Statistics of a small batch add noise, fixed ones none; the same for all variants."),
    Item("levels", "Levels at which heads stand", "res-2 to res-5, four heads", "Fig. 2A", LEVELS, SEGMENTATION,
         lambda s: s.network.levels, ("D21", "D33"),
         "Less detail at object boundaries, fewer weights and BRs; the coarsest level, where k matters most, stays."),
    _silent("varied", "Which heads the ablations replace, and k by level", (MAIN,), _varied, ("D02",),
            "Replacing all heads makes differences between variants larger than replacing the one on res-5."),
    Item("output_stride", "Stride at which deconvolution ends", "1: a score map as large as the input", "Fig. 2A", 1,
         SEGMENTATION, lambda s: s.network.output_stride, ("D15", "D33"),
         "Coarser boundaries: what BR can gain is smaller."),
    _silent("deconvolution", "Deconvolutions: kernel, start, learned or fixed", SEGMENTATION,
            lambda s: f"kernel 4, start as bilinear, {'learned' if s.network.deconvolution == 'learned' else 'fixed'}",
            ("D09",), "Little; the same for all variants."),
    _silent("start", "Initial weights of heads and BR", SEGMENTATION,
            _always("heads keep the variance of their input; BR starts as the identity"), ("D07", "D08"),
            "No variant starts louder than another, which spares wide kernels a bad start."),
    _silent("bias", "Biases and normalisation in heads", SEGMENTATION, _always("none in heads; biases in BR"),
            ("D05", "D06", "D08"), "None to speak of: deconvolutions give each class its bias."),
    # Training
    Item("optimizer", "Optimizer", "SGD", "Sec. 4", "sgd", SEGMENTATION, lambda s: s.recipe.optimizer, ("D22", "D34"),
         "Faster in short trainings and less sensitive to the rate; the order of variants near each other may change."),
    Item("momentum", "Momentum (AdamW: its first beta)", "0.99", "Sec. 4", MOMENTUM, SEGMENTATION,
         lambda s: s.recipe.momentum, ("D22", "D34"), "At one rate, a shorter memory of gradients: smaller steps."),
    Item("decay", "Weight decay", "0.0005", "Sec. 4", DECAY, SEGMENTATION, lambda s: s.recipe.weight_decay,
         ("D22", "D34"), "Little in short trainings; in AdamW it is decoupled from the gradient."),
    Item("batch", "Images a batch", "1", "Sec. 4", BATCH, SEGMENTATION, lambda s: s.recipe.batch, ("D22", "D34"),
         "Less noise in each step, so higher rates and fewer steps."),
    _silent("lr", "Learning rate", SEGMENTATION, lambda s: s.recipe.lr, ("D22", "D34", "D61", "D62"),
            "One rate for all variants favours those that it suits; gaps between heads change with it."),
    _silent("schedule", "Schedule of the learning rate", SEGMENTATION, _schedule, ("D22", "D34", "D61"),
            "Final weights score higher than at a fixed rate, for all variants alike."),
    _silent("steps", "Length of training in steps", SEGMENTATION, lambda s: s.recipe.steps,
            ("D22", "D34", "D43", "D62"), "Where training stops early, part of a gap is speed of learning."),
    _silent("loss", "Loss, and void pixels", SEGMENTATION,
            _always("cross-entropy, the mean over labelled pixels; void is left out"), ("D11",),
            "It sets the meaning of the rate, nothing else."),
    _silent("precision", "Precision of arithmetic in training", SEGMENTATION, lambda s: s.recipe.precision, ("D58",),
            "Below the spread of seeds."),
    _silent("seeds", "Trainings of each variant", (),
            lambda t: f"{len(t.seeds)}, of seed {', '.join(map(str, t.seeds))}", ("D17", "D18", "D72"),
            "Intervals can be given; the paper's single trainings have none, so small gaps there may be chance."),
    # Stages
    Item("stage1", "Data of Table 7's Stage-1", "COCO, SBD and VOC, 109,892 images", "Sec. 4.2", "coco, voc sbd",
         STAGES[:1], _data("train", "mislabelled", "voc"), ("D43", "D51"),
         "What a larger and noisier set adds is another amount than COCO's."),
    _silent("coco", "COCO's split, and the labels of its other classes and crowds", STAGES[:1],
            lambda s: f"{_text(_option(s, 'train'))}; others {_option(s, 'others')}, crowds {_option(s, 'crowd')}"
            if s.data.name == "coco" else None, ("D51", "D52"), "Little: the count of images tells the split."),
    Item("stage2", "Data of Table 7's Stage-2", "SBD and VOC, 10,582 images", "Sec. 4.2", "voc, train sbd", STAGES[1:2],
         _data("train"), ("D14", "D43", "D50"), OTHER_IMAGES),
    Item("stage3", "Data of Table 7's Stage-3", "VOC alone", "Sec. 4.2", "voc, train train", STAGES[2:],
         _data("train"), ("D43", "D50"), "Fewer, cleaner images can add less here than VOC's masks do."),
    Item("before2", "What Stage-2 of Table 7 starts from", "the weights of Stage-1", "Sec. 4.2", _from(STAGES[0]),
         STAGES[1:2], _weights, ("D42", "D43"), "No gain from COCO: Stage-2 is lower, its gaps are those of Table 1."),
    Item("before3", "What Stage-3 of Table 7 starts from", "the weights of Stage-2", "Sec. 4.2", _from(STAGES[1]),
         STAGES[2:], _weights, ("D42", "D43"), "Stage-3 has seen fewer images."),
    Item("streets1", "Data of Table 9's Stage-1", "Cityscapes, coarse and fine, 22,973 images", "Sec. 4.3",
         "cityscapes, train coarse+fine", STREETS[:1], _data("train", "coarse_share", "coarse_px"), ("D43", "D53"),
         OTHER_IMAGES),
    Item("streets2", "Data of Table 9's Stage-2", "Cityscapes, fine alone, 2975 images", "Sec. 4.3",
         "cityscapes, train fine", STREETS[1:], _data("train"), ("D43", "D53"), OTHER_IMAGES),
    Item("before9", "What Stage-2 of Table 9 starts from", "the weights of Stage-1", "Sec. 4.3", _from(STREETS[0]),
         STREETS[1:], _weights, ("D42", "D43"), "Stage-2 has seen fewer images."),
    _silent("streets_start", "What Stage-1 of Table 9 starts from", STREETS[:1], _weights, ("D43", "D62"),
            "A start from VOC or COCO would raise both stages."),
    Item("imagenet", "Data of Table 6's pretraining", "ImageNet 2015; no more is told", "Table 6", "imagenet",
         PRETRAINED, _data("cue"), ("D41", "D63"), "Errors are those of another task; compare their order alone."),
    _silent("pretraining", "Recipe of Table 6's pretraining", PRETRAINED, _pretraining, ("D41", "D63"),
            "Both networks have the same, so their gap is not one of recipes."),
    _silent("head_t6", "k of the head in Table 6", (), _head("T6"), ("D40",), "Little between 11 and 15 (Table 1)."),
    # Evaluation
    Item("mean", "Score", "mean IoU", "Sec. 4", "mean IoU", (), _means, ("D04",),
         "Rare classes rise and fall with a few images; the mean over frequent ones is steadier."),
    Item("band", "Width of the boundary band, in px", "7", "Table 5", BAND, (),
         _near_boundaries(lambda t: t.band_px), ("D12",),
         "A narrower band is harder: accuracy in it is lower and holds more of the annotation's own error."),
    _silent("distance", "Distance in Table 5, and boundaries beside void", (),
            _near_boundaries(_always("Euclidean; void counts as a label; pixels of all images are pooled")),
            ("D12",), "Both accuracies move by up to a few points, for all variants alike."),
    Item("crops", "Crops in the evaluation of Table 9", "four of 1024x1024, fused", "Sec. 4.3",
         f"{CROPS} crops of {CROPS_PX}x{CROPS_PX}", (), _inferences(_crops), ("D43", "D45"),
         "Each crop shows the network as much as it saw in training; the share of context differs."),
    _silent("places", "Places of the crops", (),
            lambda t: "spread evenly from edge to edge, probabilities averaged" if _inferences(_crops)(t) else None,
            ("D44", "D45"), "Below a tenth of a point."),
    _silent("scales", "Scales of multi-scale evaluation (MS)", (), _inferences(_scales), ("D44",),
            "The gain of MS depends on them; the paper's own is 0.1 to 0.3 points."),
    _silent("mirror", "Mirror images in MS", (), _inferences(_mirrored), ("D44",), "A few tenths of a point at most."),
    _silent("crf", "Parameters of the dense CRF", (), _inferences(_crf), ("D46",),
            "Untuned ones can lose points where the paper's gain 0.2 to 0.6."),
    Item("test_voc", "Score on VOC's test set (Table 8)", "given by the benchmark's server", "Table 8", "scored", (),
         _score("T8"), ("D64",), "Table 8 has no number of ours."),
    Item("test_cityscapes", "Score on Cityscapes' test set (Table 10)", "given by the benchmark's server", "Table 10",
         "scored", (), _score("T10"), ("D64",), "Table 10 has no number of ours."),
    _silent("submission", "What is submitted, and whether val is trained on", (), _submits, ("D64",),
            "Training on val too would raise the test score."),
    _silent("receptive", "How Figure 3's receptive fields are found", (), _receptive, ("D47",),
            "The lit areas have other sizes; their order between heads is what counts."),
)  # fmt: skip


def rows(tier: Tier) -> list[dict[str, Any]]:
    """One row for each item that comes up at a tier, in the protocol's order, as text: ``id``, ``what``, ``status``
    (same, departs, paper is silent), ``paper`` (None: silent), ``place``, ``here``, ``decisions`` and ``effect``."""
    trained = _trained(tier)
    found = []
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
            {"id": item.id, "what": item.what, "status": status, "paper": item.says, "place": item.place}
            | {"here": _grouped(values), "decisions": list(item.decisions), "effect": item.effect}
        )
    return found


def _trained(tier: Tier) -> set[str]:
    """Settings in which the tier trains a cell of its tables or a variant of its own, and those that come before."""
    found = {cell.setting for cell in _asked(tier)} | ({MAIN} if tier.extra else set())
    for name in sorted(found):
        at = tier.settings[name].after
        while at is not None:
            found.add(at)
            at = tier.settings[at].after
    return found


def _grouped(values: dict[str, Any]) -> str:
    """Values as text; where settings differ, each value after the settings that have it."""
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
