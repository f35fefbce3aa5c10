"""The audit of sizes: maps, blocks and crops, the reach of a kernel, and the number of images.

A map's side is the input's divided by the stride; each docstring has its formula.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from study.paper.audit.sources import AGREES, CONTRADICTS, DIFFERS, NOTHING, UNCHECKED, Evidence, Line, equal, holds
from study.spec.heads import Head

# Numbers that the data sets publish: the VOC 2012 development kit; Hariharan et al. 2011; COCO; Cordts et al. 2016.
VOC_TRAINVAL, SBD, CITYSCAPES_FINE, CITYSCAPES_IMAGE = 2913, 11355, 5000, (1024, 2048)
COCO_2014 = {"train": 82783, "val": 40504}
MAPS = ("conv1", "res2", "res3", "res4", "res5")


def figure2(paper: Evidence) -> Iterator[Line]:
    """Fig. 2A by itself: halvings down, deconvolutions up, and the places of BR."""
    (side,), drawn = paper.whole("input"), [paper.whole(name)[0] for name in MAPS]
    halves = [side // 2**times for times in range(1, len(MAPS) + 1)]
    yield Line(
        "Each map is half as large as the one before it", paper.where("res5"), _sides(drawn),
        f"{side} halved: {_sides(halves)}", equal(drawn, halves),
    )  # fmt: skip
    (ups, factor), (out, channels) = paper.whole("deconvolutions"), paper.whole("output")
    yield Line(
        f"{ups} deconvolutions lead to the output", paper.where("deconvolutions"), f"{out}x{out}",
        f"{drawn[-1]} x {factor}^{ups} = {drawn[-1] * factor**ups}", equal(out, drawn[-1] * factor**ups),
    )  # fmt: skip
    sums = list(paper.whole("sums"))
    yield Line(
        "Each sum joins a map with the enlarged coarser one", paper.where("sums"), _sides(sums),
        _sides(sorted(drawn[1:-1])), equal(sums, sorted(drawn[1:-1])),
    )  # fmt: skip
    (heads,), (told,) = paper.whole("heads"), paper.whole("refinements")
    finer = ups - len(sums)
    yield Line(
        "BR after each GCN, each sum, and each deconvolution without a sum", paper.where("refinements"), str(told),
        f"{heads} + {len(sums)} + {finer} = {heads + len(sums) + finer}", equal(told, heads + len(sums) + finer),
    )  # fmt: skip
    (classes,), (named, background) = paper.whole("classes"), paper.whole("voc_classes")
    yield Line(
        "One channel for each class of VOC and one for background", paper.where("classes", "voc_classes"),
        f"{classes}, {channels} at the output", f"{named} + {background} = {named + background}",
        equal([classes, channels], [named + background] * 2),
    )  # fmt: skip


def as_built(paper: Evidence) -> Iterator[Line]:
    """Fig. 2A against the network as the code builds it."""
    for stage in paper.fact("paper", "stages") or ():
        if stage["name"] in paper.quotes:
            side, channels = paper.whole(stage["name"])
            told, found = [side, side, channels], [*stage["size"], stage["channels"]]
            yield Line(
                f"Map of {stage['name'].replace('res', 'res-').replace('conv', 'conv-')} as built",
                paper.where(stage["name"]), _map(told), _map(found), equal(told, found),
            )  # fmt: skip
    steps = paper.fact("paper", "steps") or []
    if not steps:
        return
    made = Counter(step["op"] for step in steps)
    for op, quote, name in (("head", "heads", "GCN blocks"), ("up", "deconvolutions", "Deconvolutions"),
                            ("refine", "refinements", "BR blocks")):  # fmt: skip
        number = paper.whole(quote)[0]
        yield Line(f"{name} as built", paper.where(quote), str(number), str(made[op]), equal(number, made[op]))
    sides = [step["size"][0] for step in steps if step["op"] == "add"]
    told_sides = list(paper.whole("sums"))
    yield Line("Sums as built", paper.where("sums"), _sides(told_sides), _sides(sides), equal(told_sides, sides))
    side, channels = paper.whole("output")
    told, found = [side, side, channels], [*steps[-1]["size"], steps[-1]["channels"]]
    yield Line("Output as built", paper.where("output"), _map(told), _map(found), equal(told, found))


def table11(paper: Evidence) -> Iterator[Line]:
    """Table 11's maps: the crop's side is halved once more for each part, then pooled to one cell; also as built."""
    if not paper.has("T11"):
        return
    sizes = [cell for cell in paper.cells("T11") if cell.metric == "map_size"]
    (crop, _), parts = paper.whole("imagenet"), list(dict.fromkeys(cell.row for cell in sizes))
    built = (paper.fact("table11") or {}).values()
    for times, part in enumerate(parts, start=1):
        told = [int(paper.cell(cell.address)) for cell in sizes if cell.row == part]
        halved = 1 if part == parts[-1] else crop // 2**times
        found = {network["sides"][part] for network in built} | {halved}
        yield Line(
            f"Side of {part}, both networks", paper.where("T11"), _sides(told),
            f"{_sides(sorted(found))}{' as built' if built else ''}", verdict=equal(set(told), found),
            note="pooled" if part == parts[-1] else f"{crop} / {2**times}",
        )  # fmt: skip


def last_maps(paper: Evidence) -> Iterator[Line]:
    """Kernel sizes against the side of the last map, which is the input's divided by the stride of res-5."""
    (side,), (k, last) = paper.whole("input"), paper.whole("global")
    stride = side // paper.whole("res5")[0]
    yield Line(
        "Last map of the ablations", paper.where("global"), f"{last}x{last}", f"{side} / {stride} = {side // stride}",
        equal(last, Fraction(side, stride)),
    )  # fmt: skip
    odd = last - 1 + last % 2
    yield Line(
        "k is the largest odd number in the map", paper.where("global"), f"k = {k}, map of {last}", f"k = {odd}",
        verdict=equal(k, odd), note=f"{k} cells are {k * stride} of {side} px",
    )  # fmt: skip
    (crop,), (k, last) = paper.whole("cityscapes_crop"), paper.whole("cityscapes_k")
    yield Line(
        "Last map of Cityscapes crops, and its k", paper.where("cityscapes_k"), f"{last}x{last}, k = {k}",
        f"{crop} / {stride} = {float(Fraction(crop, stride)):g}", equal([last, k], [Fraction(crop, stride)] * 2),
    )  # fmt: skip
    padded, usual = paper.whole("padded")
    yield Line(
        "Last map of Stage-1", paper.where("padded"), NOTHING, f"{padded} / {stride} = {padded // stride}", UNCHECKED
    )
    yield Line(
        "Images are padded to the size that Fig. 2A draws", paper.where("padded", "input"), str(usual), str(side),
        equal(usual, side),
    )  # fmt: skip
    sizes = sorted({size for head in _heads(paper) for size in _kernels(head)} | {k, paper.whole("global")[0]})
    yield Line(
        "All kernel sizes are odd", paper.where("odd"), "odd only", ", ".join(map(str, sizes)),
        holds(all(size % 2 for size in sizes)),
    )  # fmt: skip


def crops(paper: Evidence) -> Iterator[Line]:
    """Crops that a Cityscapes image needs: its sides divided by the crop's, rounded up."""
    told, side = paper.whole("cityscapes_crops")
    needed = ceil(CITYSCAPES_IMAGE[0] / side) * ceil(CITYSCAPES_IMAGE[1] / side)
    verdict = AGREES if told == needed else UNCHECKED if told > needed else CONTRADICTS
    yield Line(
        f"{side}x{side} crops of a Cityscapes image ({CITYSCAPES_IMAGE[0]}x{CITYSCAPES_IMAGE[1]})",
        paper.where("cityscapes_crops"), str(told), f"{needed} suffice", verdict=verdict,
        note="so they overlap; the paper does not say where they are" if told > needed else "",
    )  # fmt: skip


def connected(paper: Evidence) -> Iterator[Line]:
    """The share of all pairs of cells of a map that one GCN connects: those at most (k - 1) / 2 apart in row and
    column.

    Along one side of n cells these are n + 2 sum(n - d for d = 1 .. (k - 1) / 2) of n n pairs; along both sides, the
    square of that share.
    """
    (k, last), (large, crop) = paper.whole("global"), paper.whole("cityscapes_k")
    stride = paper.whole("input")[0] // paper.whole("res5")[0]
    shares = {
        f"k = {size} on {side}x{side}": _share(size, side)
        for size, side in ((k, last), (large, crop), (k, paper.whole("padded")[0] // stride))
    }
    yield Line(
        "GCN connects every cell of the last map with every other", paper.where("dense"), "densely connected",
        "; ".join(f"{name}: {float(share * 100):.1f}% of pairs" for name, share in shares.items()),
        verdict=AGREES if min(shares.values()) == 1 else DIFFERS,
        note=f"the figure is a sketch; every pair of {last}x{last} needs k = {2 * last - 1}",
    )  # fmt: skip


def levels(paper: Evidence) -> Iterator[Line]:
    """Theoretical receptive fields as built, and with a GCN on top: (k - 1) more strides."""
    (side,), (k, _) = paper.whole("input"), paper.whole("global")
    for level, found in (paper.fact("receptive") or {}).items():
        yield Line(
            f"Theoretical receptive field of {level.replace('res', 'res-')}, ResNet-152", paper.where("input"), NOTHING,
            f"{found['px']:,} px", verdict=UNCHECKED,
            note=f"{found['px'] / side:.2f} of the input's side; "
            f"with GCN k = {k} {found['px'] + (k - 1) * found['stride']:,} px",
        )  # fmt: skip


def band(paper: Evidence) -> Iterator[Line]:
    """The boundary region is twice its distance wide."""
    (distance,), (side,) = paper.whole("band"), paper.whole("input")
    finest = side // paper.whole("res2")[0]
    yield Line(
        "Width of the boundary region in cells of res-2", paper.where("band"), f"{distance} px on either side",
        f"{2 * distance} / {finest} = {2 * distance / finest:g}", UNCHECKED,
    )  # fmt: skip


def voc(paper: Evidence) -> Iterator[Line]:
    """Images of VOC 2012, SBD and COCO."""
    (train, val, _), (augmented,), (with_coco,) = (paper.whole(q) for q in ("voc", "voc_augmented", "voc_coco"))
    yield Line(
        "VOC 2012 trainval, as its development kit counts it", paper.where("voc"), f"{train:,} + {val:,}",
        f"{train + val:,} of {VOC_TRAINVAL:,}", equal(VOC_TRAINVAL, train + val),
    )  # fmt: skip
    added = augmented - train
    yield Line(
        f"Images that SBD adds, of its {SBD:,}", paper.where("voc_augmented"), f"{augmented:,}",
        f"{augmented:,} - {train:,} = {added:,}", holds(0 < added <= SBD),
    )  # fmt: skip
    coco, most = with_coco - augmented, sum(COCO_2014.values())
    yield Line(
        "Images of COCO in Stage-1", paper.where("voc_coco"), f"{with_coco:,}",
        f"{with_coco:,} - {augmented:,} = {coco:,}", verdict=UNCHECKED if 0 < coco <= most else CONTRADICTS,
        note=f"COCO 2014 has {COCO_2014['train']:,} for training, {most:,} with val: "
        + ("val images are among them" if COCO_2014["train"] < coco <= most else "the paper does not say which"),
    )  # fmt: skip


def cityscapes(paper: Evidence) -> Iterator[Line]:
    fine, (coarse,), (told,) = (paper.whole(q) for q in ("cityscapes", "cityscapes_coarse", "cityscapes_stage1"))
    yield Line(
        "Images of Cityscapes in Stage-1", paper.where("cityscapes_stage1"), f"{told:,}",
        f"{coarse:,} + {fine[0]:,} = {coarse + fine[0]:,}", equal(told, coarse + fine[0]),
    )  # fmt: skip
    yield Line(
        "Fine images of Cityscapes, as its authors count them", paper.where("cityscapes"),
        " + ".join(f"{count:,}" for count in fine), f"{sum(fine):,} of {CITYSCAPES_FINE:,}",
        equal(CITYSCAPES_FINE, sum(fine)),
    )  # fmt: skip
    scored, classes = paper.whole("cityscapes_classes")
    yield Line(
        "Classes of Cityscapes that are not scored", paper.where("cityscapes_classes"), f"{scored} of {classes}",
        str(classes - scored), UNCHECKED,
    )  # fmt: skip


LISTED = {
    "voc/train": ("voc", 0, "VOC 2012 train"), "voc/val": ("voc", 1, "VOC 2012 val"),
    "voc/test": ("voc", 2, "VOC 2012 test"), "voc/augmented": ("voc_augmented", 0, "VOC 2012 with SBD"),
    "voc/coco": ("voc_coco", 0, "COCO, SBD and VOC"), "cityscapes/train": ("cityscapes", 0, "Cityscapes train"),
    "cityscapes/val": ("cityscapes", 1, "Cityscapes val"), "cityscapes/test": ("cityscapes", 2, "Cityscapes test"),
    "cityscapes/coarse": ("cityscapes_coarse", 0, "Cityscapes, coarse"),
    "cityscapes/stage1": ("cityscapes_stage1", 0, "Cityscapes, coarse and fine train"),
}  # fmt: skip


def listed(paper: Evidence) -> Iterator[Line]:
    """Images in the official lists of this tier's data, before any are set apart for tuning."""
    for key, number in (paper.fact("listed") or {}).items():
        quote, place, words = LISTED[key]
        told = paper.whole(quote)[place]
        yield Line(
            f"Images of {words}, listed here", paper.where(quote), f"{told:,}", f"{number:,}", equal(told, number)
        )


def recipe(paper: Evidence) -> Iterator[Line]:
    """A gradient's weight decays with the momentum: in all it counts 1 / (1 - momentum) times."""
    batch, momentum, _ = paper.numbers("recipe")
    if momentum < 1:
        yield Line(
            "Images over which momentum averages", paper.where("recipe"), f"batch {batch}, momentum {float(momentum)}",
            f"{float(batch / (1 - momentum)):g}", UNCHECKED,
        )  # fmt: skip


def _heads(paper: Evidence) -> list[Head]:
    return [cell.variant.head for table in paper.tables for cell in paper.cells(table) if cell.variant]


def _kernels(head: Head) -> set[int]:
    return {head.kernel_size} | {side for chain in head.chains for conv in chain for side in conv.kernel}


def _share(k: int, side: int) -> Fraction:
    near = sum(side - abs(d) for d in range(-(k // 2), k // 2 + 1) if abs(d) < side)
    return Fraction(near, side**2) ** 2


def _sides(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _map(numbers: list[int]) -> str:
    return "x".join(map(str, numbers))
