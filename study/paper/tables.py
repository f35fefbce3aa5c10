"""The paper as data: every table and figure of arXiv 1703.02719 v1 -> cells -> variants, with known pages.

Scores and errors are fractions, parameter counts are numbers of weights. Each tier defines in params.yaml what a
setting (``T7 Stage-2``) or an inference (``MS``) is at its scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from study.spec.cells import Cell, Figure, Table
from study.spec.heads import Head, PerClass, Variant, dense, gcn, stack

# Tables 2 and 4 count the weights of the head on res-5 only: 2048 input channels, 21 classes.
COUNTED_CHANNELS = 2048
COUNTED_CLASSES = 21
LEVELS = ("res2", "res3", "res4", "res5")  # those with heads (Fig. 2A)

BASELINE = Variant(dense(1))


def _scores(table: str, row: str, heads: dict[str, Head], percents: Iterable[float]) -> tuple[Cell, ...]:
    return tuple(
        Cell(table, row, column, variant=Variant(head), metric="miou", paper=round(percent / 100, 4))
        for (column, head), percent in zip(heads.items(), percents, strict=True)
    )


def _parameters(table: str, row: str, heads: dict[str, Head], thousands: Iterable[int]) -> tuple[Cell, ...]:
    return tuple(
        Cell(table, row, column, variant=Variant(head), metric="parameters", paper=count * 1000)
        for (column, head), count in zip(heads.items(), thousands, strict=True)
    )


def _heads(make, sizes: Iterable[int]) -> dict[str, Head]:
    return {str(k): make(k) for k in sizes}


_T1 = {"base": dense(1), **_heads(gcn, range(3, 16, 2))}
_T2_GCN, _T2_CONV = _heads(gcn, (3, 5, 7, 9)), _heads(dense, (3, 5, 7, 9))
_T3_GCN, _T3_STACK = _heads(gcn, (3, 5, 7, 9, 11)), _heads(stack, (3, 5, 7, 9, 11))
_T4 = {
    "2048": stack(7),
    "1024": stack(7, Fraction(1, 2)),
    "210": stack(7, PerClass(10)),
    "2048 (GCN)": gcn(7),
}
_T5 = {"baseline": BASELINE, "GCN": Variant(gcn(15)), "GCN+BR": Variant(gcn(15), refine=True)}
_T5_PERCENTS = {"baseline": (71.3, 93.9, 69.0), "GCN": (71.5, 95.0, 74.5), "GCN+BR": (73.4, 95.1, 74.7)}
_T5_METRICS = {"boundary": "boundary_accuracy", "internal": "internal_accuracy", "overall": "miou"}

# The paper does not give the kernel size of Table 6's GCN; this is the best of Table 1 (D40).
_REFINED = Variant(gcn(15), refine=True)
_T6_NETWORKS = ("ResNet50", "ResNet50-GCN")
_T6 = {
    "ImageNet cls err": (None, "top5_error", (7.7, 7.9)),
    "seg, baseline (1x1 head)": (BASELINE, "miou", (65.7, 71.2)),
    "seg, GCN + BR": (_REFINED, "miou", (72.3, 72.5)),
}
_T7_VARIANTS = {"baseline": BASELINE, "GCN": Variant(gcn(15)), "GCN + BR": _REFINED}
_T7 = {
    "Stage-1": ("T7 Stage-1", "", (69.6, 74.1, 75.0)),
    "Stage-2": ("T7 Stage-2", "", (72.4, 77.6, 78.6)),
    "Stage-3": ("T7 Stage-3", "", (74.0, 78.7, 80.3)),
    "Stage-3-MS": ("T7 Stage-3", "MS", (None, None, 80.4)),
    "Stage-3-MS-CRF": ("T7 Stage-3", "MS-CRF", (None, None, 81.0)),
}
_T8 = {
    "FCN-8s-heavy": 67.2, "TTI_zoomout_v2": 69.6, "MSRA_BoxSup": 71.0, "DeepLab-MSc-CRF-LargeFOV": 71.6,
    "Oxford_TVG_CRF_RNN_COCO": 74.7, "CUHK_DPN_COCO": 77.5, "Oxford_TVG_HO_CRF": 77.9, "CASIA_IVA_OASeg": 78.3,
    "Adelaide_VeryDeep_FCN_VOC": 79.1, "LRR_4x_ResNet_COCO": 79.3, "Deeplabv2-CRF": 79.7,
    "CentraleSupelec Deep G-CRF": 80.2, "ours": 82.2,
}  # fmt: skip
_T9 = {
    "Stage-1": ("T9 Stage-1", "crops", 73.0),
    "Stage-2": ("T9 Stage-2", "crops", 76.9),
    "Stage-2-MS": ("T9 Stage-2", "crops-MS", 77.2),
    "Stage-2-MS-CRF": ("T9 Stage-2", "crops-MS-CRF", 77.4),
}
_T10 = {
    "FCN 8s": 65.3, "DPN": 59.1, "CRFasRNN": 62.5, "Scale invariant CNN + CRF": 66.3, "Dilation10": 67.1,
    "DeepLabv2-CRF": 70.4, "Adelaide_context": 71.6, "LRR-4x": 71.8, "ours": 76.9,
}  # fmt: skip
_T11_SIZES = {"conv1": 112, "res-2": 56, "res-3": 28, "res-4": 14, "res-5": 7, "head": 1}
_T11 = {row: ("map_size", side) for row, side in _T11_SIZES.items()} | {
    "MFlops (conv)": ("mflops", 3700),
    "parameters": ("network_parameters", None),
}


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 4)


def _tested(table: str, percents: dict[str, float]) -> tuple[Cell, ...]:
    return tuple(
        Cell(table, row, "score", variant=None, metric="test_miou", paper=_fraction(value))
        for row, value in percents.items()
    )


TABLES: dict[str, Table] = {
    table.id: table
    for table in (
        Table(
            "T1",
            "Kernel size of the Global Convolutional Network",
            5,
            rows=("score",),
            columns=tuple(_T1),
            cells=_scores("T1", "score", _T1, (69.0, 70.1, 71.1, 72.8, 73.4, 73.7, 74.0, 74.5)),
            note="base is the 1x1 head. VOC 2012 val, ResNet-152, no boundary refinement.",
        ),
        Table(
            "T2",
            "GCN against one trivial kxk convolution",
            None,
            rows=("GCN", "conv", "GCN params", "conv params"),
            columns=tuple(_T2_GCN),
            cells=_scores("T2", "GCN", _T2_GCN, (70.1, 71.1, 72.8, 73.4))
            + _scores("T2", "conv", _T2_CONV, (69.8, 70.4, 69.6, 68.8))
            + _parameters("T2", "GCN params", _T2_GCN, (260, 434, 608, 782))
            + _parameters("T2", "conv params", _T2_CONV, (387, 1075, 2107, 3484)),
            note="Weights of the head on res-5 (2048 channels, 21 classes). The paper's 260K is truncated.",
        ),
        Table(
            "T3",
            "GCN against a stack of 3x3 convolutions with the same equivalent kernel size",
            None,
            rows=("GCN", "stack"),
            columns=tuple(_T3_GCN),
            cells=_scores("T3", "GCN", _T3_GCN, (70.1, 71.1, 72.8, 73.4, 73.7))
            + _scores("T3", "stack", _T3_STACK, (69.8, 71.8, 71.3, 69.5, 67.5)),
            note="A stack with k = 3 is the trivial 3x3 convolution of Table 2.",
        ),
        Table(
            "T4",
            "Width m of the stack's inner maps (k = 7)",
            None,
            rows=("score", "params"),
            columns=tuple(_T4),
            cells=_scores("T4", "score", _T4, (71.3, 70.4, 68.8, 72.8))
            + _parameters("T4", "params", _T4, (75885, 28505, 4307, 608)),
            note="Widths scale: 1 and 1/2 of the level's channels, and 10 times the number of classes.",
        ),
        Table(
            "T5",
            "Accuracy near object boundaries and inside (k = 15)",
            None,
            rows=tuple(_T5),
            columns=tuple(_T5_METRICS),
            cells=tuple(
                Cell("T5", row, column, variant=variant, metric=metric, paper=round(percent / 100, 4))
                for row, variant in _T5.items()
                for (column, metric), percent in zip(_T5_METRICS.items(), _T5_PERCENTS[row], strict=True)
            ),
            note="Boundary and internal are per-pixel accuracy, overall is mean IoU.",
        ),
        Table(
            "T6",
            "ResNet50 against ResNet50-GCN: classification error, and segmentation from these weights",
            None,
            rows=tuple(_T6),
            columns=_T6_NETWORKS,
            cells=tuple(
                Cell(
                    "T6",
                    row,
                    network,
                    variant=variant,
                    metric=metric,
                    paper=_fraction(percent),
                    setting=f"T6 {network}" + (" pretraining" if variant is None else ""),
                )
                for row, (variant, metric, percents) in _T6.items()
                for network, percent in zip(_T6_NETWORKS, percents, strict=True)
            ),
            note="Error: top 5, on the 224x224 centre crop of a 256x256 image.",
        ),
        Table(
            "T7",
            "Training in stages: COCO + SBD + VOC, then SBD + VOC, then VOC",
            None,
            rows=tuple(_T7),
            columns=tuple(_T7_VARIANTS),
            cells=tuple(
                Cell(
                    "T7",
                    row,
                    column,
                    variant=variant,
                    metric="miou",
                    paper=_fraction(percent),
                    setting=setting,
                    inference=inference,
                )
                for row, (setting, inference, percents) in _T7.items()
                for (column, variant), percent in zip(_T7_VARIANTS.items(), percents, strict=True)
                if percent is not None
            ),
            note="MS: several scales of the input; CRF: dense CRF.",
        ),
        Table(
            "T8",
            "VOC 2012 test",
            None,
            rows=tuple(_T8),
            columns=("score",),
            cells=_tested("T8", _T8),
            note="Scores of the VOC server.",
        ),
        Table(
            "T9",
            "Cityscapes val: coarse + fine, then fine",
            None,
            rows=tuple(_T9),
            columns=("GCN + BR",),
            cells=tuple(
                Cell(
                    "T9",
                    row,
                    "GCN + BR",
                    variant=Variant(gcn(25), refine=True),
                    metric="miou",
                    paper=_fraction(percent),
                    setting=setting,
                    inference=how,
                )
                for row, (setting, how, percent) in _T9.items()
            ),
            note="k = 25; random crops in training, overlapping crops with fused scores in evaluation.",
        ),
        Table(
            "T10",
            "Cityscapes test",
            None,
            rows=tuple(_T10),
            columns=("score",),
            cells=_tested("T10", _T10),
            note="Scores of the Cityscapes server.",
        ),
        Table(
            "T11",
            "ResNet50 and ResNet50-GCN: side of each component's map, and cost",
            None,
            rows=tuple(_T11),
            columns=_T6_NETWORKS,
            cells=tuple(
                Cell("T11", row, network, variant=None, metric=metric, paper=paper)
                for row, (metric, paper) in _T11.items()
                for network in _T6_NETWORKS
            ),
            note="For an input of 224x224; MFlops are millions of multiply-adds of convolutions.",
        ),
    )
}

FIGURES: dict[str, Figure] = {
    figure.id: figure
    for figure in (
        Figure("F1", "Classification, conventional segmentation, and the Global Convolutional Network"),
        Figure("F2", "The whole network, the GCN block and boundary refinement"),
        Figure("F3", "Valid receptive fields", ("T1/score/base", "T1/score/15")),
        Figure("F4", "The four heads"),
        Figure("F5", "The bottleneck of ResNet and of ResNet-GCN"),
        Figure("F6", "Samples of VOC 2012", ("T5/baseline/overall", "T5/GCN/overall", "T5/GCN+BR/overall")),
        Figure("F7", "Samples of Cityscapes", ("T9/Stage-2/GCN + BR",)),
    )
}
