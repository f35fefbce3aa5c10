"""Options of the data sets: which images and labels they change, which they never do, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from study.data.boundaries import boundary_band, coarse
from study.data.prepare import DataSet, folder_of, open_data, prepare
from study.data.sets.shapes import CHANNELS, SHAPES, TEXTURES
from study.spec.constants import VOID
from study.spec.errors import InputError
from study.spec.training import Data, freeze

SCENES = {
    "cue": "shape", "size": 32, "panels": 1, "train": 40, "tune": 3, "val": 4, "lines": 2, "noise": 5,
    "mislabelled": 0, "coarse_share": 0, "coarse_px": 0,
}  # fmt: skip
UNUSED = Path("no-cache")  # of data sets that convert nothing
STAGES = [
    {"train": 90},
    {"mislabelled": 1},
    {"mislabelled": 0.5},
    {"coarse_share": 1, "coarse_px": 2},
    {"train": 9, "mislabelled": 0.3, "coarse_share": 0.5, "coarse_px": 1},
]


def scenes(**changes: Any) -> DataSet:
    return open_data(Data("shapes", freeze(SCENES | changes)), None, UNUSED)


def everything(source: DataSet, split: str) -> tuple[np.ndarray, np.ndarray]:
    """images (n, H, W, 3) and labels of a split."""
    read = [source.read(split, i) for i in range(source.splits[split])]
    return np.stack([image for image, _ in read]), np.stack([labels for _, labels in read])


# regions


@pytest.mark.parametrize("margin_px", [0, 1, 2])
def test_only_labels_near_a_boundary_become_void(margin_px: int) -> None:
    labels = np.zeros((7, 9), np.uint8)
    labels[:, 5:] = 2
    found = coarse(labels, margin_px)
    expected = labels.copy()
    expected[:, 5 - margin_px : 5 + margin_px] = VOID
    assert found.tolist() == expected.tolist() and found.dtype == np.uint8
    assert not (labels == VOID).any()  # what was given is left as it was


# shapes: sets of different quality


def test_smaller_scene_sets_are_prefixes_of_larger_ones() -> None:
    worse = {"mislabelled": 0.4, "coarse_share": 0.5, "coarse_px": 1}
    for options in ({}, worse):
        few, many = everything(scenes(train=12, **options), "train"), everything(scenes(train=30, **options), "train")
        for small, large in zip(few, many, strict=True):
            assert len(small) == 12 and np.array_equal(small, large[:12])


@pytest.mark.parametrize("change", STAGES, ids=str)
@pytest.mark.parametrize("split", ["tune", "val"])
def test_training_options_never_change_measured_splits(change: dict[str, Any], split: str) -> None:
    for clean, found in zip(everything(scenes(), split), everything(scenes(**change), split), strict=True):
        assert np.array_equal(clean, found)


@pytest.mark.slow
@pytest.mark.parametrize(("cue", "classes"), [("shape", 6), ("texture", 6), ("colour", 6), ("both", 36)])
def test_mislabelling_changes_a_share_of_labels_only(cue: str, classes: int) -> None:
    def classes_of(share: float) -> tuple[np.ndarray, np.ndarray]:
        images, labels = everything(scenes(cue=cue, train=300, mislabelled=share), "train")
        return images, labels if cue == "both" else labels.max((1, 2)).astype(int)

    clean_images, clean = classes_of(0)
    images, found = classes_of(0.3)
    assert np.array_equal(images, clean_images)
    wrong = found != clean
    assert 0.22 < wrong.mean() < 0.38  # three standard deviations of a share of 0.3 in 300
    assert len(set((found - clean)[wrong] % classes)) > 3  # not always the next class
    assert np.array_equal(found, classes_of(0.3)[1])
    _, worse = classes_of(0.6)
    assert np.array_equal(worse[wrong], found[wrong]) and (worse != clean).sum() > wrong.sum() + 50
    assert (classes_of(1)[1] != clean).all()


@pytest.mark.slow
def test_mistakes_depend_on_neither_shape_nor_texture() -> None:
    """Else they would hide one class more than another, or pixels would tell them."""
    clean, wrong = (everything(scenes(cue="both", train=600, mislabelled=m), "train")[1] for m in (0, 0.5))
    for kind in (clean // len(TEXTURES), clean % len(TEXTURES)):
        for value in range(6):
            assert 0.3 < (clean != wrong)[kind == value].mean() < 0.7


def test_a_colour_class_fixes_bright_and_dark_channels() -> None:
    """In the images of the other cues; the third channel and texture tell nothing of it."""
    source = scenes(cue="colour", noise=0, lines=0, train=60)
    images, labels = everything(source, "train")
    assert np.array_equal(images, everything(scenes(noise=0, lines=0, train=60), "train")[0])
    found = set()
    for image, mask in zip(images, labels, strict=True):
        bright, dark = source.classes[mask.max()].split(" without ")
        pixels = image[mask > 0]
        assert (pixels[:, CHANNELS.index(bright)] >= 117).all() and (pixels[:, CHANNELS.index(dark)] <= 20).all()
        found.add(mask.max())
    assert found == set(range(1, 7))


def test_outlines_follow_the_grid_and_nothing_else_changes() -> None:
    images, labels = everything(scenes(grid=4), "train")
    plain_images, plain = everything(scenes(), "train")
    blocks = labels.reshape(len(labels), 8, 4, 8, 4)
    assert (blocks == blocks[:, :, :1, :, :1]).all() and (labels != plain).mean() < 0.2
    assert np.array_equal(images[(labels == 0) & (plain == 0)], plain_images[(labels == 0) & (plain == 0)])
    assert np.array_equal(labels.max((1, 2)), plain.max((1, 2)))


def test_smaller_glyphs_keep_their_class() -> None:
    (_, labels), (_, plain) = (everything(scenes(train=80, **more), "train") for more in ({"least": 0.5}, {}))
    sizes, usual = ((maps > 0).sum((1, 2)) for maps in (labels, plain))
    assert sizes.min() < 0.5 * usual.min() and sizes.max() < 1.1 * usual.max()
    assert np.array_equal(labels.max((1, 2)), plain.max((1, 2)))


def test_a_mislabelled_object_keeps_its_outline() -> None:
    clean, wrong = (everything(scenes(mislabelled=share), "train")[1] for share in (0, 1))
    assert np.array_equal(clean > 0, wrong > 0)
    assert all(len(np.unique(mask)) == 2 and mask.max() <= 6 for mask in wrong)


def test_coarse_annotation_changes_a_share_of_masks_only() -> None:
    images, clean = everything(scenes(train=200), "train")
    found_images, found = everything(scenes(train=200, coarse_share=0.3, coarse_px=2), "train")
    assert np.array_equal(images, found_images)
    blurred = np.array([(mask == VOID).any() for mask in found])
    assert 0.2 < blurred.mean() < 0.4
    for was, now, is_coarse in zip(clean, found, blurred, strict=True):
        assert np.array_equal(now, coarse(was, 2) if is_coarse else was)
        assert np.array_equal(now == VOID, boundary_band(was, 2) & is_coarse)
    _, more = everything(scenes(train=200, coarse_share=0.7, coarse_px=2), "train")
    assert np.array_equal(more[blurred], found[blurred])


def test_extra_panels_are_new_scenes_beside_the_first() -> None:
    single, wide = scenes(), scenes(panels=3)
    assert wide.size == (32, 96) and wide.classes == single.classes
    for split in ("train", "val"):
        (images, labels), (wide_images, wide_labels) = everything(single, split), everything(wide, split)
        assert wide_images.shape[1:] == (32, 96, 3) and wide_labels.shape[1:] == (32, 96)
        assert np.array_equal(wide_images[:, :, :32], images) and np.array_equal(wide_labels[:, :, :32], labels)
        panels = wide_images.reshape(len(images), 32, 3, 32, 3).swapaxes(1, 2).reshape(-1, 32 * 32 * 3)
        assert len(np.unique(panels, axis=0)) == 3 * len(images)
    shown = wide_labels.reshape(-1, 32, 3, 32).max((1, 3))
    assert shown.min() > 0 and any(len(set(row)) > 1 for row in shown.tolist())


def test_panels_are_mislabelled_independently() -> None:
    clean, found = (everything(scenes(panels=2, mislabelled=share), "train")[1] for share in (0, 0.5))
    left, right = ((clean != found)[:, :, half].any((1, 2)) for half in (slice(32), slice(32, 64)))
    assert (left & ~right).any() and (~left & right).any()
    assert np.array_equal(found[:, :, :32], everything(scenes(mislabelled=0.5), "train")[1])


# shapes: the classification set


@pytest.mark.slow
def test_image_classes_combine_shape_and_texture() -> None:
    source, by_shape, by_texture = scenes(cue="both", train=300), scenes(train=300), scenes(cue="texture", train=300)
    assert len(source.classes) == len(SHAPES) * len(TEXTURES) == 36 and len(set(source.classes)) == 36
    seen = set()
    for i in range(300):
        (image, label), (same, shape), (_, texture) = (s.read("train", i) for s in (source, by_shape, by_texture))
        assert np.array_equal(image, same) and isinstance(label, int)
        assert source.classes[label] == f"{by_shape.classes[shape.max()]}, {by_texture.classes[texture.max()]}"
        seen.add(label)
    assert seen == set(range(36))


def test_image_classes_are_cached_without_a_band(tmp_path: Path) -> None:
    facts = prepare(Data("shapes", freeze(SCENES | {"cue": "both"})), None, tmp_path, 1)
    assert facts["task"] == "classify" and facts["size"] == [32, 32] and len(facts["classes"]) == 36
    folder = folder_of(tmp_path, facts["fingerprint"])
    assert not list(folder.glob("*band*"))
    for split, number in facts["splits"].items():
        images, labels = everything(scenes(cue="both"), split)
        found = np.load(folder / f"{split}-labels.npy")
        assert found.dtype == np.int64 and found.shape == (number,) and np.array_equal(found, labels)
        assert np.array_equal(np.load(folder / f"{split}-images.npy"), images)
    counted = np.bincount(np.load(folder / "train-labels.npy"), minlength=36).tolist()
    assert facts["images_with"] == facts["pixels"] == counted


def test_the_fingerprint_follows_the_classes_of_images(tmp_path: Path) -> None:
    options = SCENES | {"cue": "both"}
    clean, wrong = (
        prepare(Data("shapes", freeze(options | {"mislabelled": share})), None, tmp_path, 1) for share in (0, 0.5)
    )
    assert clean["fingerprint"] != wrong["fingerprint"]
    # An option that changes neither pixels nor labels makes no other data set.
    same = prepare(Data("shapes", freeze(options | {"mislabelled": 1e-9})), None, tmp_path, 1)
    assert same["fingerprint"] == clean["fingerprint"]


def test_segmentation_sets_keep_their_task_and_band(tmp_path: Path) -> None:
    facts = prepare(Data("shapes", freeze(SCENES | {"panels": 2})), None, tmp_path, 1)
    assert facts["task"] == "segment" and facts["size"] == [32, 64]
    folder = folder_of(tmp_path, facts["fingerprint"])
    (band,) = folder.glob("val-band1-*.npy")
    assert np.load(band).shape == np.load(folder / "val-labels.npy").shape == (4, 32, 64)
    assert sum(facts["pixels"]) == 40 * 32 * 64 and facts["images_with"][0] == 40


def test_scenes_keep_their_original_fingerprint(tmp_path: Path) -> None:
    """Their fingerprint as it was before any option was added: no stage, panel or cue may move a pixel."""
    options = SCENES | {"size": 64, "train": 30, "tune": 4, "val": 6, "lines": 3, "noise": 10}
    facts = prepare(Data("shapes", freeze(options)), None, tmp_path, 1)
    assert facts["fingerprint"] == "1e4e5940ee0e6046c88fc39ac70e3c586e62e1fb606d4ebca16f3bba57b07833"


@pytest.mark.parametrize(
    ("change", "rule", "got"),
    [
        ({"cue": "smell"}, "the cue of shapes must be shape, texture or colour", "'smell'"),
        ({"size": 31}, "at least 32 px", "31"),
        ({"size": True}, "at least 32 px", "True"),
        ({"panels": 0}, "panels of shapes must be a whole number from 1 up", "0"),
        ({"panels": 1.5}, "panels of shapes must be a whole number", "1.5"),
        ({"train": -1}, "train of shapes must be a whole number", "-1"),
        ({"val": "all"}, "val of shapes must be a whole number", "'all'"),
        ({"lines": 0.5}, "lines of shapes must be a whole number", "0.5"),
        ({"noise": -1}, "noise of shapes must be a number from 0 to 255", "-1"),
        ({"noise": float("nan")}, "noise of shapes must be a number", "nan"),
        ({"mislabelled": 1.5}, "mislabelled of shapes must be a number from 0 to 1", "1.5"),
        ({"mislabelled": "some"}, "mislabelled of shapes must be a number", "'some'"),
        ({"coarse_share": -0.1, "coarse_px": 1}, "coarse_share of shapes must be a number from 0 to 1", "-0.1"),
        ({"coarse_px": 1.5}, "coarse_px of shapes must be a whole number from 0 up", "1.5"),
        ({"coarse_share": 0.5}, "coarse_px of shapes must be at least 1 if coarse_share is above 0", "0"),
        ({"cue": "both", "panels": 2}, "panels of shapes must be 1 with the cue both", "2"),
        ({"cue": "both", "coarse_share": 1, "coarse_px": 1}, "coarse_share of shapes must be 0 with the cue", "1"),
        ({"least": 0}, "least of shapes must be a number from 0.1 to 1", "0"),
        ({"grid": 0}, "grid of shapes must be a whole number from 1 up", "0"),
        ({"blur": 1}, "data shapes must have the options", "'blur'"),
    ],
)
def test_wrong_options_of_scenes_are_told(change: dict[str, Any], rule: str, got: str) -> None:
    with pytest.raises(InputError) as told:
        scenes(**change)
    before, after = str(told.value).split("got ", 1)
    assert rule in before and got in after and "; " in after


@pytest.mark.parametrize("missing", ["panels", "mislabelled", "coarse_share", "coarse_px"])
def test_a_missing_option_of_scenes_is_told(missing: str) -> None:
    options = {key: value for key, value in SCENES.items() if key != missing}
    with pytest.raises(InputError, match=f"add '{missing}' in params.yaml"):
        open_data(Data("shapes", freeze(options)), None, UNUSED)


class Wrong:
    """One image of a class that is not there."""

    task, classes, size, splits = "classify", ("a", "b"), (8, 8), {"train": 1, "tune": 1, "val": 1}

    def __init__(self, label: int) -> None:
        self.label = label

    def read(self, split: str, index: int) -> tuple[np.ndarray, int]:
        return np.zeros((8, 8, 3), np.uint8), self.label if split == "tune" else 0

    def name(self, split: str, index: int) -> str:
        return f"{split}-{index}"

    def files(self) -> list[Path]:
        return []


@pytest.mark.parametrize("label", [2, VOID, -1])
def test_an_image_class_out_of_range_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: int) -> None:
    from study.data.sets import shapes

    monkeypatch.setattr(shapes, "open", lambda options, root, cache: Wrong(label))
    with pytest.raises(InputError, match=f"the class of an image must be 0 to 1, got {label} for tune-0; correct"):
        prepare(Data("shapes", freeze(SCENES)), None, tmp_path, 1)
    assert not list(tmp_path.iterdir())


# folders of photographs

LISTS = Path("ImageSets") / "Segmentation"
OFFICIAL, AUGMENTED = [f"t{i}" for i in range(8)], [f"x{i}" for i in range(12)]


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)


def mask(path: Path, label: int, void: int) -> None:
    """Two halves of neighbouring labels below a row of void."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.full((12, 16), label, np.uint8)
    labels[:, 8:] = label + 1
    labels[0] = void
    Image.fromarray(labels).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Official masks show class 3 to the left, augmented ones class 5."""
    root = tmp_path / "voc"
    for i, name in enumerate([*OFFICIAL, *AUGMENTED, "v0", "v1"]):
        photograph(root / "JPEGImages" / f"{name}.jpg", i)
        if name not in AUGMENTED:
            mask(root / "SegmentationClass" / f"{name}.png", 3, VOID)
        if name[0] != "v":
            mask(root / "SegmentationClassAug" / f"{name}.png", 5, VOID)
    (root / LISTS).mkdir(parents=True)
    for split, names in {"train": OFFICIAL, "train_aug": OFFICIAL + AUGMENTED, "val": ["v0", "v1"]}.items():
        (root / LISTS / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def opened(voc: Path, train: Any, tune: Any = 9) -> DataSet:
    return open_data(Data("voc", freeze({"train": train, "tune": tune, "pad": [12, 16]})), voc, UNUSED)


def names(source: DataSet, split: str) -> list[str]:
    return [source.name(split, i) for i in range(source.splits[split])]


def test_voc_lists_share_an_untrained_tune_split(voc: Path) -> None:
    few, many = opened(voc, "train"), opened(voc, "train_aug")
    for split in ("tune", "val"):
        assert names(few, split) == names(many, split)
        for ours, theirs in zip(everything(few, split), everything(many, split), strict=True):
            assert np.array_equal(ours, theirs)
    apart = set(names(many, "tune"))
    assert len(apart) == 9 and apart & set(OFFICIAL) and apart & set(AUGMENTED)
    assert names(few, "train") == [name for name in OFFICIAL if name not in apart] != []
    assert names(many, "train") == [name for name in OFFICIAL + AUGMENTED if name not in apart]


def test_tune_takes_masks_of_the_larger_voc_list(voc: Path) -> None:
    few, many = opened(voc, "train"), opened(voc, "train_aug")
    assert {few.read("train", i)[1][5, 0] for i in range(few.splits["train"])} == {3}
    assert {many.read("train", i)[1][5, 0] for i in range(many.splits["train"])} == {5}
    assert {few.read("tune", i)[1][5, 0] for i in range(9)} == {5}
    assert few.read("val", 0)[1][5, 0] == many.read("val", 0)[1][5, 0] == 3


def test_auto_prefers_the_larger_voc_list(voc: Path) -> None:
    assert opened(voc, "auto").pairs == opened(voc, "train_aug").pairs
    (voc / LISTS / "train_aug.txt").unlink()
    alone = opened(voc, "auto", 2)
    assert alone.pairs == opened(voc, "train", 2).pairs
    assert sorted(names(alone, "train") + names(alone, "tune")) == OFFICIAL
    assert alone.read("tune", 0)[1][5, 0] == 3
    with pytest.raises(InputError, match=r"must have its list train_aug\.txt"):
        opened(voc, "train_aug")


@pytest.mark.parametrize("train", ["trainval", None, True])
def test_an_unknown_voc_list_is_reported(voc: Path, train: Any) -> None:
    with pytest.raises(
        InputError, match=f"train of voc must be one of auto, train, train_aug, sbd, got {train!r}; rename"
    ):
        opened(voc, train)


@pytest.mark.parametrize("tune", [0, 20, 1.5, "all", True])
def test_an_invalid_voc_tune_number_is_reported(voc: Path, tune: Any) -> None:
    rule = "less than the 20 training images" if tune in (0, 20) else "tune of voc must be a whole number from 0 up"
    with pytest.raises(InputError, match=f"{rule}, got {tune!r}; "):
        opened(voc, "train", tune)


def test_a_tune_split_must_leave_training_images(voc: Path, tmp_path: Path) -> None:
    data = Data("voc", freeze({"train": "train", "tune": 19, "pad": [12, 16]}))
    (voc / LISTS / "train.txt").write_text(names(opened(voc, "train", 19), "tune")[0])
    with pytest.raises(InputError, match="split train must have at least one image, got none; name more"):
        prepare(data, voc, tmp_path / "cache", 1)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Names stand in both splits."""
    root = tmp_path / "camvid"
    for split, number in {"train": 14, "val": 3}.items():
        rows = []
        for i in range(number):
            photograph(root / split / f"{i}.png", i)
            mask(root / f"{split}annot" / f"{i}.png", i % 9, 11)
            rows.append(f"/x/{split}/{i}.png /x/{split}annot/{i}.png")
        (root / f"{split}.txt").write_text("\n".join(rows))
    return root


def streets(camvid: Path, share: Any, margin_px: Any) -> DataSet:
    options = {"tune": 4, "pad": [12, 16], "coarse_share": share, "coarse_px": margin_px}
    return open_data(Data("camvid", freeze(options)), camvid, UNUSED)


def test_only_a_training_share_of_streets_is_coarse(camvid: Path) -> None:
    def coarsely(share: float) -> set[str]:
        fine, mixed = streets(camvid, 0, 0), streets(camvid, share, 2)
        for split in ("tune", "val"):
            for was, now in zip(everything(fine, split), everything(mixed, split), strict=True):
                assert np.array_equal(was, now)
        (images, clean), (same, labels) = everything(fine, "train"), everything(mixed, "train")
        assert names(mixed, "train") == names(fine, "train") and np.array_equal(images, same)
        found = set()
        for name, was, now in zip(names(fine, "train"), clean, labels, strict=True):
            if not np.array_equal(now, was):
                assert np.array_equal(now, coarse(was, 2))
                found.add(name)
        return found

    chosen = {share: coarsely(share) for share in (0, 0.3, 0.8, 1)}
    assert [len(chosen[share]) for share in chosen] == [0, 3, 8, 10]
    assert chosen[0.3] < chosen[0.8] < chosen[1]
    path = camvid / "train.txt"
    path.write_text("\n".join(reversed(path.read_text().split("\n"))))
    assert coarsely(0.3) == chosen[0.3] != set()  # by name, not by place in the list


@pytest.mark.parametrize(
    ("share", "margin_px", "rule"),
    [(2, 1, "coarse_share of camvid must be a number"), (1, -1, "coarse_px of camvid"), (1, 0, "must be at least 1")],
)
def test_wrong_coarse_options_of_street_scenes_are_told(camvid: Path, share: Any, margin_px: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        streets(camvid, share, margin_px)
