"""The schematic figures match the description of any network, and no two words overlap."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox

from study.report.figures import families, style
from study.report.schematics import block, bottlenecks, heads, localisation
from study.report.schematics import network as fig2
from study.report.schematics.canvas import BY, TINTS, Sketch
from study.spec.errors import InputError
from study.spec.heads import HEADS, Conv, Head, Variant, dense, gcn, stack
from study.spec.training import Network

RESNET = (("conv1", 64, 2), ("res2", 256, 4), ("res3", 512, 8), ("res4", 1024, 16), ("res5", 2048, 32))
SHALLOW = (("res2", 24, 2), ("res3", 48, 4), ("res4", 64, 4))
EFFICIENT = (("conv1", 32, 2), ("res2", 24, 4), ("res3", 40, 8), ("res4", 112, 16), ("res5", 320, 32))
FOUR = ("res2", "res3", "res4", "res5")


def conv(*kernel: int, to: tuple[int, int], **more: bool) -> dict[str, Any]:
    return {"kernel": list(kernel), "in": to[0], "out": to[1], **more}


def chains(head: Head, inputs: int, classes: int) -> list[list[dict[str, Any]]]:
    shapes = iter(head.shapes(inputs, classes))
    return [[conv(*kernel, to=(i, o)) for i, o, kernel in (next(shapes) for _ in chain)] for chain in head.chains]


GCN15 = gcn(15)


def network(
    stages=RESNET, levels=FOUR, *, head=GCN15, refine=True, size=(512, 512), classes=21, to=1, at=()
) -> dict[str, Any]:
    """A description like that of a built network; ``to`` is the output stride, ``at`` holds (level, its own head)."""
    strides = {name: stride for name, _, stride in stages}
    channels = {name: width for name, width, _ in stages}
    steps: list[dict[str, Any]] = []
    stride = max(strides[level] for level in levels)

    def step(op: str, name: str, level: str | None = None) -> None:
        here = [side // stride for side in size]
        steps.append({"op": op, "name": name, "level": level, "size": here, "channels": classes})

    for level in reversed(levels):
        while stride > strides[level]:
            stride //= 2
            step("up", f"x{stride}")
        step("head", level, level)
        if refine:
            step("refine", f"head_{level}", level)
        if level != levels[-1]:
            step("add", level, level)
            if refine:
                step("refine", f"sum_{level}")
    while stride > to:
        stride //= 2
        step("up", f"x{stride}")
        if refine:
            step("refine", f"x{stride}")
    ups = any(found["op"] == "up" for found in steps)
    same = (classes, classes)
    return {
        "input": list(size), "classes": classes, "levels": list(levels), "steps": steps,
        "stages": [{"name": n, "channels": c, "size": [side // s for side in size], "stride": s} for n, c, s in stages],
        "heads": {level: chains(dict(at).get(level, head), channels[level], classes) for level in levels},
        "refinement": [conv(3, 3, to=same, relu=True), conv(3, 3, to=same, relu=False)] if refine else None,
        "deconvolution": {"kernel": 4, "stride": 2, "channels": classes} if ups else None,
        "parameters": {"backbone": 58_143_808, "heads": 2_472_120, "refinements": 71_820 * refine},
    }  # fmt: skip


NETWORKS = {
    "ResNet-152": network(),
    "shallow": network(SHALLOW, ("res4",), size=(64, 64), classes=6),
    "EfficientNet": network(EFFICIENT, ("res4", "res5"), to=8),
    "no BR": network(head=dense(1), refine=False),
    "no deconvolution": network(SHALLOW, ("res3", "res4"), size=(64, 64), to=4, refine=False),
    "levels of one size": network((("res2", 8, 1), *SHALLOW[1:], ("res5", 16, 4)), FOUR, head=stack(15), size=(64, 64)),
    "sizes without a stage": network(EFFICIENT[3:], ("res4", "res5"), size=(352, 480)),
    "long names": network(
        tuple((f"features.denseblock_{number}", 65_536, 2**number) for number in range(2, 7)),
        tuple(f"features.denseblock_{number}" for number in range(2, 7)), size=(4096, 8192), classes=1000,
    ),
    "a head a level": network(at=(("res5", stack(15)), ("res4", dense(7)), ("res3", gcn(101)))),
}  # fmt: skip
NORM = {"norm": True, "relu": True}
BOTTLENECK = {
    "title": "bottleneck", "join": None, "skip": "identity", "relu": True,
    "branches": [[conv(1, 1, to=(1024, 256), **NORM), conv(3, 3, to=(256, 256), **NORM)]],
    "after": [conv(1, 1, to=(256, 1024), norm=True, relu=False)],
}  # fmt: skip
GLOBAL = {
    "title": "global block", "join": "concat", "skip": "projection",
    "branches": [
        [conv(1, 5, to=(512, 85), **NORM), conv(5, 1, to=(85, 85), **NORM)],
        [conv(5, 1, to=(512, 85), **NORM), conv(1, 5, to=(85, 85), **NORM)],
    ],
    "after": [conv(1, 1, to=(170, 1024), norm=True, relu=False)],
}  # fmt: skip
PAPER_HEADS = {"GCN": gcn(15), "1x1": dense(1), "kxk": dense(15), "stack of 3x3": stack(7)}
THREE_CHAINS = Head((*gcn(9).chains, (Conv((1, 1)),)), "three", 9)


def with_head(told: dict[str, Any], head: Head) -> dict[str, Any]:
    other = copy.deepcopy(told)
    for level, old in other["heads"].items():
        other["heads"][level] = chains(head, old[0][0]["in"], told["classes"])
    return other


NARROW = {"a stack": stack(7, Fraction(210, 2048)), "a long stack": stack(31), "three chains": THREE_CHAINS}
DRAWINGS: dict[str, Callable[[], Figure]] = {
    **{f"F2 {name}": partial(fig2.framework, told) for name, told in NETWORKS.items()},
    **{
        f"F1 {name}": partial(localisation.localisation, with_head(told, dense(1)), told)
        for name, told in NETWORKS.items()
    },
    "F4": partial(heads.heads, PAPER_HEADS, 2048, 21),
    "F4 many": partial(heads.heads, PAPER_HEADS | NARROW | {"a title of many words": gcn(3)}, 64, 6),
    "F5": partial(bottlenecks.blocks, [BOTTLENECK, GLOBAL | {"join": "sum"}]),
    "F5 many": partial(bottlenecks.blocks, [BOTTLENECK, GLOBAL, GLOBAL, BOTTLENECK]),
}


@cache
def drawn(name: str) -> Figure:
    return DRAWINGS[name]()


def plain(text: str) -> str:
    return text.replace(BY, "x")


def words(figure: Figure) -> Counter[str]:
    """How often each text occurs in a figure; the multiplication sign becomes x."""
    return Counter(plain(text.get_text()) for text in figure.axes[0].texts)


@cache
def extents(figure: Figure) -> list[tuple[str, Bbox]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(plain(text.get_text()), text.get_window_extent(renderer)) for text in figure.axes[0].texts]


@cache
def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """(colour, extent) of every box."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return [(to_hex(patch.get_facecolor()), patch.get_window_extent()) for patch in found]


def sums(figure: Figure) -> int:
    return sum(isinstance(patch, Circle) for patch in figure.axes[0].patches)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWINGS)
def test_no_two_texts_overlap_and_none_is_outside(name):
    found = extents(drawn(name))
    page = drawn(name).bbox
    assert len(found) > 5
    assert not [text for text, at in found if not (page.contains(at.x0, at.y0) and page.contains(at.x1, at.y1))]
    pairs = itertools.combinations(found, 2)
    assert not [(one, other) for (one, here), (other, there) in pairs if here.overlaps(there)]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWINGS)
def test_no_line_or_box_edge_crosses_text(name):
    figure = drawn(name)
    to_pixels = figure.axes[0].transData
    paths = [p.get_path() for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    arrows = [Outline(to_pixels.transform(patch.vertices[patch.codes != Outline.CLOSEPOLY])) for patch in paths]
    lines = [*arrows, *(line.get_path().transformed(to_pixels) for line in figure.axes[0].lines)]
    for text, at in extents(figure):
        assert not [line for line in lines if line.intersects_bbox(at, filled=False)], text
        for _, box in boxes(figure):
            inside = box.x0 <= at.x0 and at.x1 <= box.x1 and box.y0 <= at.y0 and at.y1 <= box.y1
            assert inside or not box.overlaps(at), text


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DRAWINGS if "long names" not in name])
def test_drawings_fit_the_report_with_legible_type(name):
    assert drawn(name).get_figwidth() == pytest.approx(style.WIDTH_IN)
    assert drawn(name).get_figheight() < 9.5
    assert min(text.get_fontsize() for text in drawn(name).axes[0].texts) >= 5.5


@pytest.mark.parametrize("name", NETWORKS)
def test_the_pipeline_shows_every_stage_and_operation(name):
    told, figure = NETWORKS[name], drawn(f"F2 {name}")
    found, counts = words(figure), Counter(step["op"] for step in told["steps"])
    for stage in told["stages"]:
        assert found[stage["name"]] == 1
        height, width = stage["size"]
        assert found[f"{height}x{width}x{stage['channels']}"] >= 1
    assert found["head"] == counts["head"] == len(told["levels"])
    assert found["BR"] == counts["refine"]
    assert found["deconv x2"] == counts["up"]
    details = len({tuple(block.kernels(told["heads"][level])) for level in told["levels"]
                   if len(told["heads"][level]) > 1})  # fmt: skip
    assert sums(figure) == counts["add"] + (counts["add"] > 0) + details + (told["refinement"] is not None)
    height, width = told["steps"][-1]["size"]
    assert found["score map"] == 1 and found[f"{height}x{width}x{told['classes']}"] >= 1
    for step in told["steps"]:
        assert found[f"{step['size'][0]}x{step['size'][1]}x{told['classes']}"] >= 1


def test_the_papers_pipeline_shows_its_operation_counts():
    found = words(drawn("F2 ResNet-152"))
    for text in ("4 heads", "9 boundary refinements (BR)", "5 deconvolutions, 4x4", "3 sums", "58,143,808", "2,472,120",
                 "conv1", "256x256x64", "128x128x256", "16x16x2048", "512x512x21", "the same on res4, res3, res2,",
                 "from 1024, 512, 256 channels"):  # fmt: skip
        assert found[text] >= 1, text
    assert found["15x1, 1x15"] == found["1x15, 15x1"] == 4
    assert found["3x3"] == 2 and found["ReLU"] == 1 and found["identity"] == 1
    assert words(drawn("F2 shallow"))["1 head"] == 1 and words(drawn("F2 EfficientNet"))["1 sum"] == 1
    assert words(drawn("F2 EfficientNet"))["64x64x21"] == 2  # next to the decoder and as the score map


def test_networks_without_refinement_draw_none():
    found = words(drawn("F2 no BR"))
    assert not [text for text in found if "refinement" in text or text in ("BR", "ReLU")]


@pytest.mark.parametrize(
    ("changed", "gone", "new"),
    [
        ({"head": gcn(7)}, "15x1", "7x1"),
        ({"classes": 5}, "2048 → 21", "2048 → 5"),
        ({"size": (256, 384)}, "16x16x2048", "8x12x2048"),
        ({"levels": FOUR[1:]}, "4 heads", "3 heads"),
        ({"to": 4}, "5 deconvolutions, 4x4", "3 deconvolutions, 4x4"),
        ({"refine": False}, "9 boundary refinements (BR)", "3 sums"),
        ({"at": (("res2", dense(9)),)}, "the same on res4, res3, res2,", "9x9"),
    ],
)
def test_the_pipeline_changes_with_the_network(changed, gone, new):
    before, after = words(drawn("F2 ResNet-152")), words(fig2.framework(network(**changed)))
    assert gone in before and gone not in after
    assert new in after


def test_deconvolution_and_refinement_numbers_follow_the_description():
    told = copy.deepcopy(NETWORKS["ResNet-152"])
    told["deconvolution"] |= {"kernel": 6, "stride": 4}
    told["refinement"] = [conv(5, 5, to=(21, 64), relu=True), conv(7, 7, to=(64, 21), relu=True)]
    found = words(fig2.framework(told))
    assert found["5 deconvolutions, 6x6"] == 1 and found["deconv x4"] == 5 and not found["deconv x2"]
    assert found["5x5"] == found["21 → 64"] == found["7x7"] == found["64 → 21"] == 1 and found["ReLU"] == 2


def test_pipeline_rows_run_from_fine_to_coarse():
    for told in NETWORKS.values():
        rows = fig2.laid_out(told)
        heights = [row.size[0] for row in rows]
        assert heights == sorted(heights, reverse=True)
        assert all(step["size"] == row.size for row in rows for step in row.steps)
        placed = sum(len(row.steps) for row in rows) + sum(row.refined + bool(row.head) for row in rows)
        assert placed == len(told["steps"])


def test_heads_are_drawn_with_shapes_and_weights():
    found = words(drawn("F4"))
    for title, head in PAPER_HEADS.items():
        assert found[title] >= 1
        assert found[f"{head.parameters(2048, 21):,} weights"] == 1
    assert found["1,303,470 weights"] == 1
    assert found["15x1"] == found["1x15"] == 2 and found["15x15"] == 1 and found["3x3"] == 3
    assert found["2048 → 2048"] == 2 and found["21 → 21"] == 2
    assert sums(drawn("F4")) == 1
    assert [text for text in "ABCD" if found[text] != 1] == []


def test_repeated_convolutions_are_drawn_once_with_a_count():
    found = words(heads.heads({"long": stack(15)}, 64, 6))
    assert found["3x3"] == 2 and found["6 times"] == 1
    assert words(heads.heads({"long": stack(17)}, 64, 6))["7 times"] == 1
    assert not [text for text in words(heads.heads({"short": stack(7)}, 64, 6)) if "times" in text]


@pytest.mark.parametrize("family", sorted(HEADS))
def test_every_head_family_can_be_drawn(family):
    head = HEADS[family](9)
    found = words(heads.heads({family: head}, 32, 4))
    assert found[f"{head.parameters(32, 4):,} weights"] == 1


def test_blocks_show_their_described_operations():
    plain, joined = words(bottlenecks.blocks([BOTTLENECK])), words(bottlenecks.blocks([GLOBAL]))
    assert plain["BN"] == 3 and plain["ReLU"] == 3 and plain["identity"] == 1 and not plain["concatenate"]
    assert joined["BN"] == 5 and joined["ReLU"] == 4 and joined["projection"] == 1 and joined["concatenate"] == 1
    assert joined["1x5"] == joined["5x1"] == 2 and joined["512 → 85"] == 2 and joined["170 → 1024"] == 1
    assert sums(bottlenecks.blocks([GLOBAL])) == 1 and sums(bottlenecks.blocks([GLOBAL | {"join": "sum"}])) == 2


def test_branches_of_unknown_join_are_not_drawn():
    with pytest.raises(InputError, match="joined by sum or concat, got None"):
        bottlenecks.blocks([GLOBAL | {"join": None}])


def seen(figure: Figure) -> int:
    return sum(colour == TINTS["seen"][0] for colour, _ in boxes(figure))


@pytest.mark.slow
def test_figure_1_shows_the_cells_a_score_sees():
    told = NETWORKS["ResNet-152"]
    found = words(drawn("F1 ResNet-152"))
    for text in ("a score sees 16x16 of 16x16 cells", "a score sees 1x1 of 16x16 cells", "head: 1x1", "res5 16x16",
                 "a score sees 15x15 of 16x16 cells", "head: (15x1, 1x15) + (1x15, 15x1)",
                 "deconv 512x512"):  # fmt: skip
        assert found[text] == 1, text
    assert seen(drawn("F1 ResNet-152")) == (16 + 1) + (1 + 1) + (15 + 1)
    for k, cells in ((3, 3), (31, 16), (33, 16)):
        other = localisation.localisation(with_head(told, dense(1)), with_head(told, gcn(k)))
        assert seen(other) == (16 + 1) + (1 + 1) + (cells + 1)
        assert words(other)[f"a score sees {cells}x{cells} of 16x16 cells"] == 1 + (cells == 16)


def test_deconvolutions_restore_the_width_of_the_image():
    found = [box for colour, box in boxes(drawn("F1 ResNet-152")) if colour == TINTS["maps"][0]]
    images = [box for box in found if box.y1 == max(box.y1 for box in found)]
    ups = [box for colour, box in boxes(drawn("F1 ResNet-152")) if colour == TINTS["up"][0]]
    last = [box for box in ups if box.y0 == min(box.y0 for box in ups)]
    assert len(images) == 3 and len(last) == 2  # the classification has no deconvolution
    assert [box.width for box in last] == pytest.approx([images[0].width] * 2)
    assert localisation.reach(chains(stack(7), 8, 2)) == localisation.reach(chains(gcn(7), 8, 2)) == (7, 7)


@pytest.mark.parametrize("other", [{"size": (256, 256)}, {"to": 4}, {"stages": (*RESNET[:-1], ("res5", 1024, 32))}])
def test_figure_1_requires_one_network_for_both_heads(other):
    with pytest.raises(InputError, match="differ in their heads only"):
        localisation.localisation(network(head=dense(1), **other), network())


@pytest.mark.slow
def test_each_operation_keeps_one_colour_across_figures():
    kinds: dict[str, set[str]] = {}
    named = {"ReLU": "relu", "BN": "norm", "BR": "refine", "deconv x2": "up", "score map": "maps", "3x3": "conv",
             "1x1": "conv", "head": "conv", "projection": "conv", "concatenate": "join"}  # fmt: skip
    for figure in map(drawn, DRAWINGS):
        around = boxes(figure)
        for text, at in extents(figure):
            holding = [colour for colour, box in around if box.contains(*at.p0) and box.contains(*at.p1)]
            if text in named and holding:
                kinds.setdefault(text, set()).add(holding[-1])
    assert kinds == {text: {TINTS[kind][0]} for text, kind in named.items()}


@pytest.mark.slow
def test_equal_descriptions_give_equal_bytes(tmp_path):
    def written(folder: str) -> list[bytes]:
        (tmp_path / folder).mkdir()
        again = {
            "F1": localisation.localisation(network(head=dense(1), refine=False), network()),
            "F2": fig2.framework(network()), "F4": heads.heads(PAPER_HEADS, 2048, 21),
            "F5": bottlenecks.blocks([BOTTLENECK, GLOBAL]),
        }  # fmt: skip
        return [families.save(figure, tmp_path / folder / f"{name}.svg").read_bytes() for name, figure in again.items()]

    assert written("first") == written("second")


def test_a_placed_sketch_keeps_its_extent():
    inner, outer = Sketch(), Sketch()
    inner.box(100, 100, 20, 10, "conv", ["a"])
    inner.line((100, 105), (100, 130))
    outer.place(inner, 3, 4)
    assert outer.bounds == pytest.approx((3, 4, 23, 39)) and outer.size == pytest.approx(inner.size)
    assert outer.free((23, 0), (50, 50)) and not outer.free((22, 0), (50, 50))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "options", "levels", "to", "size", "refinements"),
    [
        ("resnet", (("depth", 152), ("frozen_norm", True), ("weights", None)), FOUR, 1, (512, 512), 9),
        ("shallow", (("strides", (2, 4, 4)), ("widths", (24, 48, 64))), ("res4",), 1, (64, 64), 3),
        ("efficientnet_lite0", (("weights", None),), ("res4", "res5"), 8, (512, 512), 4),
    ],
)
def test_drawings_match_the_networks_as_built(backbone, options, levels, to, size, refinements):
    from study.models import anatomy

    built = Network(backbone, levels, options, output_stride=to)
    told = anatomy.describe(Variant(gcn(15), refine=True), built, 21, size)
    local = anatomy.describe(Variant(dense(1)), built, 21, size)
    whole, first = fig2.framework(told), localisation.localisation(local, told)
    found = words(whole)
    assert found["BR"] == refinements and found["head"] == len(levels)
    assert found[f"{told['parameters']['heads']:,}"] == 1
    assert words(first)["a score sees 15x15 of 16x16 cells"] == 1
    for figure in (whole, first):
        pairs = itertools.combinations(extents(figure), 2)
        assert not [(one, other) for (one, here), (other, there) in pairs if here.overlaps(there)]


def test_the_built_residual_blocks_are_drawn():
    from study.models import anatomy

    found = words(bottlenecks.blocks(anatomy.blocks()))
    assert found["1x5"] == found["5x1"] == 2 and found["1024 → 85"] == 2 and found["3x3"] == 1
    assert found["identity"] == 2
