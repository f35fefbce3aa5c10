"""The paper as data, continued: numbers and claims that it prints outside its tables, one Quote each.

Claims are in words of our own; quotation marks hold the paper's. The abstract is arXiv's. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quote:
    """What the paper says at ``place``; ``numbers`` in the order in which ``says`` has them, percentages as printed.

    ``page`` is None where it is not known.
    """

    id: str
    says: str
    numbers: tuple[int | float, ...]
    place: str
    page: int | None = None


def _maps() -> tuple[Quote, ...]:
    """Side and channels of the maps that Fig. 2A draws for an input of 512x512."""
    drawn = {"conv1": (256, 64), "res2": (128, 256), "res3": (64, 512), "res4": (32, 1024), "res5": (16, 2048)}
    return tuple(
        Quote(name, f"{name[:-1]}-{name[-1]}: side and channels of its map", numbers, "Fig. 2A")
        for name, numbers in drawn.items()
    )


QUOTES: dict[str, Quote] = {
    quote.id: quote
    for quote in (
        Quote("title", "large kernels matter", (), "title", 1),
        Quote("abstract_voc", "VOC 2012 test: ours, and the best before", (82.2, 80.2), "abstract", 1),
        Quote("abstract_cityscapes", "Cityscapes test: ours, and the best before", (76.9, 71.8), "abstract", 1),
        Quote("abstract_refinement", "boundary refinement sharpens the borders of objects", (), "abstract", 1),
        Quote("dense", "GCN is densely connected, a conventional network locally", (), "Fig. 1"),
        # Architecture
        Quote("odd", "kernel sizes are odd, so that maps stay aligned", (), "Sec. 3.1"),
        Quote("cost", "a GCN costs O(2/k) of a kxk convolution", (2,), "Sec. 3.1"),
        Quote("global", "k = 15 is about as large as the last map, 16x16", (15, 16), "text on Table 1"),
        Quote("input", "side of the input", (512,), "Fig. 2A"),
        *_maps(),
        Quote("classes", "channels of all score maps", (21,), "Fig. 2A"),
        Quote("heads", "GCN blocks, one on each of res-2 to res-5", (4,), "Fig. 2A"),
        Quote("sums", "sides of the maps at which score maps are added", (32, 64, 128), "Fig. 2A"),
        Quote("deconvolutions", "deconvolutions, and by how much each enlarges", (5, 2), "Fig. 2A"),
        Quote("refinements", "boundary refinement (BR) blocks", (9,), "Fig. 2A"),
        Quote("refinement", "BR: convolutions, and the side of their kernels", (2, 3), "Fig. 2C"),
        Quote("output", "side and channels of the last score map", (512, 21), "Fig. 2A"),
        # Ablations
        Quote("gain_k", "k = 15 is above the smallest by (per cent)", (5.5,), "text on Table 1"),
        Quote("any_large", 'GCN beats the stack "for any large kernel sizes"', (), "text on Table 3"),
        Quote("caption_large", "GCN beats the stack for k above", (7,), "Table 3, caption"),
        Quote(
            "gain_resnet_gcn", "with the 1x1 head, ResNet-GCN is above ResNet by (per cent)", (5.5,), "text on Table 6"
        ),
        Quote("counted", "weights are counted after this stage", (5,), "Table 2, caption"),
        Quote("band", "boundary region: pixels at most this far from an object's border", (7,), "Table 5"),
        # ResNet50-GCN
        Quote("bottlenecks", "blocks of res-2 to res-5", (3, 4, 6, 3), "Table 11"),
        Quote("block_res4", "res-4 of ResNet50: width inside a block, channels out", (256, 1024), "Table 11"),
        Quote("block_res5", "res-5 of ResNet50: width inside a block, channels out", (512, 2048), "Table 11"),
        Quote("gcn_res4", "res-4 of ResNet50-GCN: k, width of each branch, channels out", (5, 85, 1024), "Table 11"),
        Quote("gcn_res5", "res-5 of ResNet50-GCN: k, width of each branch, channels out", (7, 128, 2048), "Table 11"),
        Quote("imagenet", "side of the crop, and of the image it is cut from", (224, 256), "Table 6"),
        # Data and training
        Quote("voc", "VOC 2012: images of train, val and test", (1464, 1449, 1456), "Sec. 4"),
        Quote("voc_classes", "VOC 2012: classes, and background", (20, 1), "Sec. 4"),
        Quote("voc_augmented", "training images of VOC with SBD", (10582,), "Sec. 4.1"),
        Quote("voc_coco", "Stage-1: images of COCO, SBD and VOC", (109892,), "Sec. 4.2"),
        Quote(
            "padded", "side of padded images in Stage-1; in Stage-2, Stage-3 and the ablations", (640, 512), "Sec. 4.2"
        ),
        Quote("cityscapes", "fine images of train, val and test", (2975, 500, 1525), "Sec. 4.3"),
        Quote("cityscapes_coarse", "coarse images", (19998,), "Sec. 4.3"),
        Quote("cityscapes_classes", "classes that are scored, of all", (19, 30), "Sec. 4.3"),
        Quote("cityscapes_stage1", "Stage-1: coarse and fine training images", (22973,), "Sec. 4.3"),
        Quote("cityscapes_crop", "side of training crops", (800,), "Sec. 4.3"),
        Quote("cityscapes_k", "k, the side of the last map of such a crop", (25, 25), "Sec. 4.3"),
        Quote("cityscapes_crops", "evaluation: crops of an image, and their side", (4, 1024), "Sec. 4.3"),
        Quote("recipe", "images a batch, momentum, weight decay", (1, 0.99, 0.0005), "Sec. 4"),
    )
}
