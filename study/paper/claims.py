"""The paper's quantitative and comparative claims as predicates over the cells of its tables, with place and page.

Add a claim as a literal here. The digest of its question is written into each plan, and into each training before it
starts, so a claim that was changed after seeing results shows (study.statistics.questions). The claims are in our own
words; pages are those of arXiv 1703.02719 v1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction

from study.paper.predicates import (
    ERRORS,
    LOSSES,
    Predicate,
    above,
    decreasing,
    equal_within,
    every,
    fewer_errors,
    gain,
    increasing,
    widening,
)
from study.paper.tables import TABLES

# Raise it when the code that turns scores into verdicts changes (study.statistics except for its frames; PRIMARY,
# PRIMARY_SHARE): every question is then new.
METHOD = 3
# By tier, the seeds whose results were known before the questions took this form: they confirm no claim.
SEEN: dict[str, tuple[int, ...]] = {
    "shapes": (0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34),
    "camvid": (0, 1, 2),
    "voc_subset": (0, 1, 2),
}

# The claims that the paper is known for; the others get less of alpha (D149).
PRIMARY = ("rises", "gain_k", "beats_kxk", "beats_stack_text", "gcn_inside", "br_boundary")

VOC, CITYSCAPES, ARITHMETIC = "VOC 2012", "Cityscapes", "arithmetic"


@dataclass(frozen=True)
class Claim:
    """What the paper ``says`` about the data ``on``, and the predicate that it amounts to.

    ``mechanism`` is the part of it that can be seen at another scale than the paper's, and ``shows`` puts it in words;
    None for a claim about numbers only. ``place`` is where the paper makes it and ``page`` its page, None if unknown.
    """

    id: str
    says: str
    on: str
    predicate: Predicate
    mechanism: Predicate | None
    shows: str
    place: str = field(compare=False)
    page: int | None = field(compare=False, default=None)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose cells it is about."""
        return tuple(dict.fromkeys(address.split("/", 1)[0] for address in self.predicate.addresses))


def _seen(
    id: str, says: str, on: str, place: str, predicate: Predicate, page: int | None = None,
    mechanism: Predicate | None = None, shows: str = "",
) -> Claim:  # fmt: skip
    """A claim that can be seen at any scale. At other scales than the paper's only the signs of its numbers count,
    unless ``mechanism`` says otherwise."""
    return Claim(
        id,
        says,
        on,
        predicate=predicate,
        mechanism=mechanism or predicate.sign(),
        shows=shows or says,
        place=place,
        page=page,
    )


def _number(id: str, says: str, on: str, place: str, predicate: Predicate) -> Claim:
    """A claim about numbers only."""
    return Claim(id, says, on, predicate=predicate, mechanism=None, shows="", place=place)


def _each(table: str, better: str, worse: str, columns: tuple[int, ...]) -> Predicate:
    """One row of a table is above another in each of the columns."""
    return every(*(above(f"{table}/{better}/{column}", f"{table}/{worse}/{column}") for column in columns))


def _best(table: str) -> Predicate:
    """Our row is above all others in a table of test scores."""
    others = [row for row in TABLES[table].rows if row != "ours"]
    return every(*(above(f"{table}/ours/score", f"{table}/{other}/score") for other in others))


_T1 = tuple(f"T1/score/{column}" for column in TABLES["T1"].columns)
_T4_WIDE_TO_NARROW = ("T4/score/2048", "T4/score/1024", "T4/score/210")
_STAGES = ("Stage-1", "Stage-2", "Stage-3")
_T7_ROWS = (("GCN", "baseline"), ("GCN + BR", "GCN"))
_BOUNDARY_GCN = ("T5/GCN/boundary", "T5/baseline/boundary")
_INTERNAL_GCN = ("T5/GCN/internal", "T5/baseline/internal")
_BOUNDARY_BR = ("T5/GCN+BR/boundary", "T5/GCN/boundary")
_INTERNAL_BR = ("T5/GCN+BR/internal", "T5/GCN/internal")
# The paper gives gains to a tenth of a point and no spread. A gain within a point of the paper's counts as reproduced.
_WITHIN = Fraction(1)
# Table 11 prints hundreds of millions: numbers that are equal there differ by less than one hundred million.
_PRINTED_MFLOPS = Fraction(100)

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        _seen(
            "rises", "Mean IoU rises with GCN's kernel size", VOC, "Table 1 and the text on it",
            increasing(_T1, apart=1), page=5,
        ),
        _seen(
            "gain_k", "GCN with k = 15 gains 5.5 points over the 1x1 head", VOC, "Table 1, text on it",
            gain("T1/score/15", "T1/score/base", Fraction("5.5"), _WITHIN), page=5,
            shows="GCN with k = 15 gains over the 1x1 head",
        ),
        _seen(
            "beats_kxk", "GCN beats one kxk convolution, by more as k grows", VOC,
            "Table 2 and the text on it",
            every(
                _each("T2", "GCN", "conv", (3, 5, 7, 9)),
                widening(tuple((f"T2/GCN/{k}", f"T2/conv/{k}") for k in (3, 5, 7, 9))),
            ),
        ),
        _seen(
            "kxk_rises", "One kxk convolution improves up to k = 5", VOC, "text on Table 2",
            above("T2/conv/5", "T2/conv/3"),
        ),
        _seen(
            "kxk_hard", "One kxk convolution ends with a higher loss at k = 9 than 5", VOC,
            "text on Table 2", above("T2/conv/9", "T2/conv/5", LOSSES),
        ),
        _seen(
            "kxk_falls", "One kxk convolution gets worse beyond k = 5", VOC, "Table 2 and the text on it",
            decreasing(("T2/conv/5", "T2/conv/7", "T2/conv/9")),
        ),
        _seen(
            "fewer_weights", "GCN has fewer weights than one kxk convolution", ARITHMETIC, "Table 2",
            _each("T2", "conv params", "GCN params", (3, 5, 7, 9)),
        ),
        _seen(
            "beats_stack_text", 'GCN beats the stack "for any large kernel sizes" (k from 5)',
            VOC, "text on Table 3", _each("T3", "GCN", "stack", (5, 7, 9, 11)),
        ),
        _seen(
            "beats_stack_caption", "GCN beats the stack for k > 7", VOC, "Table 3, caption",
            _each("T3", "GCN", "stack", (9, 11)),
        ),
        _seen(
            "narrow_worse", "The stack of k = 7 gets worse with fewer weights", VOC, "Table 4 and the text on it",
            decreasing(_T4_WIDE_TO_NARROW),
        ),
        _seen(
            "beats_each_width", "GCN beats the stack of k = 7 at each width", VOC, "Table 4",
            every(*(above("T4/score/2048 (GCN)", width) for width in _T4_WIDE_TO_NARROW)),
        ),
        _seen(
            "gcn_inside", "GCN gains inside objects, hardly near boundaries", VOC, "Table 5 and the text on it",
            every(fewer_errors(_INTERNAL_GCN), equal_within(*_BOUNDARY_GCN, measure=ERRORS)),
            mechanism=every(fewer_errors(_INTERNAL_GCN), fewer_errors(_INTERNAL_GCN, _BOUNDARY_GCN)),
            shows="GCN removes more of the errors inside objects than near boundaries",
        ),
        _seen(
            "br_boundary", "BR gains near boundaries, hardly inside objects", VOC, "Table 5 and the text on it",
            every(fewer_errors(_BOUNDARY_BR), equal_within(*_INTERNAL_BR, measure=ERRORS)),
            mechanism=every(fewer_errors(_BOUNDARY_BR), fewer_errors(_BOUNDARY_BR, _INTERNAL_BR)),
            shows="BR removes more of the errors near boundaries than inside objects",
        ),
        _seen(
            "br_overall", "BR raises the mean IoU of GCN", VOC, "Table 5",
            above("T5/GCN+BR/overall", "T5/GCN/overall"),
        ),
        _seen(
            "resnet_gcn", "ResNet50-GCN classifies slightly worse than ResNet50 but segments better",
            "ImageNet and VOC 2012", "Table 6 and the text on it",
            every(
                above("T6/ImageNet cls err/ResNet50-GCN", "T6/ImageNet cls err/ResNet50"),
                *(above(f"T6/{row}/ResNet50-GCN", f"T6/{row}/ResNet50") for row in TABLES["T6"].rows[1:]),
            ),
        ),
        _seen(
            "gain_resnet_gcn", "Under a 1x1 head, ResNet50-GCN gains 5.5 points over ResNet50", VOC, "text on Table 6",
            gain("T6/seg, baseline (1x1 head)/ResNet50-GCN", "T6/seg, baseline (1x1 head)/ResNet50",
                 Fraction("5.5"), _WITHIN),
            shows="Under a 1x1 head, ResNet50-GCN gains over ResNet50",
        ),
        _seen(
            "equal_cost", "ResNet50-GCN and ResNet50 cost the same", ARITHMETIC, "Table 11",
            equal_within("T11/MFlops (conv)/ResNet50-GCN", "T11/MFlops (conv)/ResNet50", _PRINTED_MFLOPS),
        ),
        _seen(
            "order_in_stages", "In each stage, GCN + BR beats GCN, which beats 1x1", VOC, "Table 7",
            every(*(above(f"T7/{stage}/{a}", f"T7/{stage}/{b}") for stage in _STAGES for a, b in _T7_ROWS)),
        ),
        _seen(
            "stages", "Each training stage helps each network", VOC, "Table 7",
            every(*(above(f"T7/{after}/{column}", f"T7/{before}/{column}") for column in TABLES["T7"].columns
                    for before, after in itertools.pairwise(_STAGES))),
        ),
        _seen(
            "scales", "Several input scales help", VOC, "Table 7",
            above("T7/Stage-3-MS/GCN + BR", "T7/Stage-3/GCN + BR"),
        ),
        _seen(
            "crf", "A dense CRF helps on top of several scales", VOC, "Table 7",
            above("T7/Stage-3-MS-CRF/GCN + BR", "T7/Stage-3-MS/GCN + BR"),
        ),
        _seen(
            "stages_cityscapes", "Cityscapes: the second stage, on fine labels, helps", CITYSCAPES, "Table 9",
            above("T9/Stage-2/GCN + BR", "T9/Stage-1/GCN + BR"),
        ),
        _seen(
            "scales_cityscapes", "Cityscapes: several input scales help", CITYSCAPES, "Table 9",
            above("T9/Stage-2-MS/GCN + BR", "T9/Stage-2/GCN + BR"),
        ),
        _seen(
            "crf_cityscapes", "Cityscapes: a dense CRF helps on top of scales", CITYSCAPES, "Table 9",
            above("T9/Stage-2-MS-CRF/GCN + BR", "T9/Stage-2-MS/GCN + BR"),
        ),
        _number("best_voc", "GCN beats all others on the VOC 2012 test set", VOC, "Table 8", _best("T8")),
        _number(
            "best_cityscapes", "GCN beats all others on the Cityscapes test set", CITYSCAPES, "Table 10", _best("T10")
        ),
    )
}  # fmt: skip
