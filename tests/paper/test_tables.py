"""The paper as data: the tables' cells, the variants they share, and the parameter counts that the paper prints."""

from __future__ import annotations

from fractions import Fraction

import pytest

from study.paper.tables import COUNTED_CHANNELS, COUNTED_CLASSES, FIGURES, TABLES
from study.spec.cells import Cell
from study.spec.digest import canonical, digest
from study.spec.errors import InputError
from study.spec.heads import Conv, Head, PerClass, Variant, dense, gcn, stack

CELLS: dict[str, Cell] = {cell.address: cell for table in TABLES.values() for cell in table.cells}
COUNTED = [cell for cell in CELLS.values() if cell.metric == "parameters"]
ABLATIONS = [cell for cell in CELLS.values() if cell.table in ("T1", "T2", "T3", "T4", "T5")]
TRAINED = [cell for cell in CELLS.values() if cell.trained]
RESNET = {"res2": 256, "res3": 512, "res4": 1024, "res5": 2048}
# The exact integers behind the printed thousands (2048 input channels, 21 classes, no bias).
EXACT = {
    **dict(zip((f"T2/GCN params/{k}" for k in (3, 5, 7, 9)), (260_694, 434_490, 608_286, 782_082), strict=True)),
    **dict(zip((f"T2/conv params/{k}" for k in (3, 5, 7, 9)), (387_072, 1_075_200, 2_107_392, 3_483_648), strict=True)),
    "T4/params/2048": 75_884_544,
    "T4/params/1024": 28_505_088,
    "T4/params/210": 4_307_310,
    "T4/params/2048 (GCN)": 608_286,
}


def test_the_tables_have_the_papers_number_of_cells() -> None:
    assert list(TABLES) == [f"T{number}" for number in range(1, 12)]
    sizes = {"T1": 8, "T2": 16, "T3": 10, "T4": 8, "T5": 9, "T6": 6, "T7": 11, "T8": 13, "T9": 4, "T10": 9, "T11": 16}
    assert {name: len(table.cells) for name, table in TABLES.items()} == sizes
    assert len(ABLATIONS) == 51 and len(COUNTED) == 12
    assert len(TRAINED) + len(COUNTED) == 72  # of Tables 1 to 7 and 9


def test_the_51_ablation_cells_need_19_trained_variants() -> None:
    assert len({cell.variant for cell in ABLATIONS if cell.trained}) == 19
    assert len({digest(cell.variant) for cell in ABLATIONS if cell.trained}) == 19


def test_72_cells_need_34_trainings_and_2_pretrainings() -> None:
    """An evaluation (multi-scale, CRF, crops) adds no training: another cell has it too, or this cell stands for it."""
    needed = {(cell.setting, cell.variant) for cell in TRAINED}
    assert len([variant for _, variant in needed if variant is not None]) == 34
    assert len([variant for _, variant in needed if variant is None]) == 2


def test_only_tables_7_and_9_vary_the_inference() -> None:
    asked = {(cell.setting, cell.inference) for cell in TRAINED if cell.inference}
    assert asked == {
        ("T7 Stage-3", "MS"), ("T7 Stage-3", "MS-CRF"), ("T9 Stage-1", "crops"), ("T9 Stage-2", "crops"),
        ("T9 Stage-2", "crops-MS"), ("T9 Stage-2", "crops-MS-CRF"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "percent"),
    [
        ("T6/ImageNet cls err/ResNet50", 7.7), ("T6/ImageNet cls err/ResNet50-GCN", 7.9),
        ("T6/seg, baseline (1x1 head)/ResNet50-GCN", 71.2), ("T6/seg, GCN + BR/ResNet50", 72.3),
        ("T7/Stage-1/baseline", 69.6), ("T7/Stage-2/GCN", 77.6), ("T7/Stage-3/GCN + BR", 80.3),
        ("T7/Stage-3-MS-CRF/GCN + BR", 81.0), ("T8/ours/score", 82.2), ("T8/FCN-8s-heavy/score", 67.2),
        ("T9/Stage-2-MS/GCN + BR", 77.2), ("T10/ours/score", 76.9), ("T10/DPN/score", 59.1),
    ],
)  # fmt: skip
def test_printed_scores_are_at_their_addresses(address: str, percent: float) -> None:
    assert CELLS[address].paper == pytest.approx(percent / 100)


def test_table_11_has_map_sides_and_network_costs() -> None:
    sides = [CELLS[f"T11/{row}/ResNet50"].paper for row in ("conv1", "res-2", "res-3", "res-4", "res-5", "head")]
    assert sides == [112, 56, 28, 14, 7, 1]
    assert {CELLS[f"T11/MFlops (conv)/{network}"].paper for network in ("ResNet50", "ResNet50-GCN")} == {3700}


def test_the_seven_figures_name_only_trained_cells() -> None:
    assert list(FIGURES) == [f"F{number}" for number in range(1, 8)]
    assert {figure.id for figure in FIGURES.values() if not figure.cells} == {"F1", "F2", "F4", "F5"}
    assert all(CELLS[address].trained for figure in FIGURES.values() for address in figure.cells)


def test_addresses_are_unique_and_inside_their_tables_grid() -> None:
    cells = [cell for table in TABLES.values() for cell in table.cells]
    assert len(CELLS) == len(cells)
    for name, table in TABLES.items():
        grid = {f"{name}/{row}/{column}" for row in table.rows for column in table.columns}
        # The paper prints multi-scale and CRF scores of its best variant only.
        assert {cell.address for cell in table.cells} <= grid
        assert name == "T7" or {cell.address for cell in table.cells} == grid


def test_exactly_the_parameter_cells_are_counted() -> None:
    assert {cell.address for cell in COUNTED} == set(EXACT)


@pytest.mark.parametrize("address", EXACT)
def test_printed_parameter_counts_are_rounded_or_truncated(address: str) -> None:
    cell = CELLS[address]
    count = cell.variant.head.parameters(COUNTED_CHANNELS, COUNTED_CLASSES)
    assert count == EXACT[address]
    assert cell.paper in {count // 1000 * 1000, round(count / 1000) * 1000}


@pytest.mark.parametrize("cell", TRAINED, ids=lambda cell: cell.address)
def test_scores_are_fractions_in_tenths_of_a_percent(cell: Cell) -> None:
    low, high = (0.07, 0.08) if cell.metric == "top5_error" else (0.6, 1)
    assert cell.paper is not None and low < cell.paper < high
    assert cell.paper * 1000 == pytest.approx(round(cell.paper * 1000), abs=1e-9)


def test_a_stack_of_one_is_the_trivial_convolution() -> None:
    """T2 and T3 print 69.8 for both."""
    assert stack(3) == dense(3) and hash(stack(3)) == hash(dense(3)) and digest(stack(3)) == digest(dense(3))
    assert CELLS["T2/conv/3"].variant == CELLS["T3/stack/3"].variant
    assert CELLS["T2/conv/3"].paper == CELLS["T3/stack/3"].paper == 0.698


@pytest.mark.parametrize(
    ("address", "other", "value"),
    [
        ("T4/score/2048", "T3/stack/7", 0.713),
        ("T4/score/2048 (GCN)", "T1/score/7", 0.728),
        ("T5/baseline/overall", "T1/score/base", 0.690),
        ("T5/GCN/overall", "T1/score/15", 0.745),
        *((f"T2/GCN/{k}", f"T1/score/{k}", None) for k in (3, 5, 7, 9)),
        *((f"T3/GCN/{k}", f"T1/score/{k}", None) for k in (3, 5, 7, 9, 11)),
    ],
)
def test_shared_cells_have_one_variant_and_value(address: str, other: str, value: float | None) -> None:
    assert CELLS[address].variant == CELLS[other].variant
    assert digest(CELLS[address].variant) == digest(CELLS[other].variant)
    assert CELLS[address].paper == CELLS[other].paper
    assert value is None or CELLS[address].paper == value


def test_widths_scale_with_the_backbone() -> None:
    widths = [CELLS[f"T4/score/{column}"].variant.head.width for column in ("2048", "1024", "210")]
    assert widths == [1, Fraction(1, 2), PerClass(10)]
    assert [stack(7, width).shapes(2048, 21)[0][1] for width in widths] == [2048, 1024, 210]
    assert [stack(7, width).shapes(64, 7)[0][1] for width in widths] == [64, 32, 70]
    assert stack(7, Fraction(1, 1000)).shapes(64, 7)[0][1] == 1


@pytest.mark.parametrize("k", [3, 5, 7, 9, 11])
def test_a_stack_reaches_as_far_as_its_kernel(k: int) -> None:
    """n = (k - 1) / 2 convolutions of 3x3, each adding 2 to the reach; the last one gives the classes."""
    shapes = stack(k).shapes(2048, 21)
    assert len(shapes) == (k - 1) // 2 and 1 + 2 * len(shapes) == k
    assert [o for _, o, _ in shapes] == [2048] * (len(shapes) - 1) + [21]


def test_all_stages_at_k_15_have_2472120_weights() -> None:
    assert sum(gcn(15).parameters(channels, 21) for channels in RESNET.values()) == 2_472_120
    assert gcn(15).parameters(2048, 21) == 1_303_470
    assert sum(gcn(25).parameters(channels, 21) for channels in RESNET.values()) == 4_120_200


def test_identity_ignores_labels() -> None:
    """A head's label does not change its digest; what it computes does."""
    renamed = Head(gcn(7).chains, family="wavelet", kernel_size=99)
    assert canonical(renamed) == canonical(gcn(7)) and digest(Variant(renamed)) == digest(Variant(gcn(7)))
    assert "GCN" not in str(canonical(gcn(7))) and "kernel_size" not in str(canonical(gcn(7)))
    others = [Variant(gcn(7)), Variant(gcn(9)), Variant(gcn(7), refine=True), Variant(gcn(7), at=(("res2", dense(1)),))]
    assert len({digest(variant) for variant in others}) == 4


@pytest.mark.parametrize("make", [dense, stack, gcn])
@pytest.mark.parametrize("k", [2, 4, 14, 0, -1, -3, 7.0, "7", True])
def test_kernels_must_be_odd_positive_integers(make, k) -> None:
    with pytest.raises(InputError, match=r"odd.*got .*; take"):
        make(k)


def test_stacks_reject_small_kernels_and_zero_width() -> None:
    with pytest.raises(InputError, match="from 3 up, got 1"):
        stack(1)
    with pytest.raises(InputError, match="positive, got 0"):
        stack(5, Fraction(0))
    with pytest.raises(InputError, match=r"odd whole number .*got 4"):
        Conv((3, 4))


def test_the_papers_variants_have_distinct_labels() -> None:
    trained = {cell.variant for cell in TRAINED if cell.variant is not None}
    assert len({variant.label for variant in trained}) == len(trained) == 20  # Table 9 adds k = 25
