"""Archives for the benchmark servers: formats, validation, predictions at original sizes, resuming, served scores."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.commands import submission as script
from study.config import schema, tiers
from study.config.execution import execution_of
from study.data.pixels import voc_palette
from study.data.prepare import prepare
from study.inference import benchmark_format, benchmark_predict
from study.plan import planner
from study.spec.errors import InputError
from study.spec.heads import Variant, gcn
from study.spec.jobs import SubmissionJob
from study.spec.training import Inference, Training
from study.statistics import results
from study.store import stage
from study.store.runs import Store, write_json
from study.training.worker import train
from tests.conftest import ROOT, Project, made_up_facts, training_job

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls/"
SIZES = {"2008_000001": (13, 17), "2008_000002": (64, 48), "2009_000003": (1, 5)}
FRAMES = {"berlin_000000_000019": (16, 32), "munich_000395_000019": (16, 32)}
SERVED = {"T8": {"percent": 82.2, "link": "http://host.robots.ox.ac.uk:8080/anonymous/ABCDEF.html"}}


def classes(name: str, size: tuple[int, int], number: int) -> np.ndarray:
    return np.random.default_rng(sum(name.encode())).integers(0, number, size, dtype=np.uint8)


def packed(format: str, folder: Path, sizes: dict[str, tuple[int, int]]) -> tuple[Path, dict[str, Path]]:
    """An archive of random classes, and its files."""
    files = {name: folder / f"{name}.png" for name in sizes}
    for name, path in files.items():
        benchmark_format.save(format, path, classes(name, sizes[name], {"voc": 21, "cityscapes": 19}[format]))
    archive = folder / f"{format}{benchmark_format.FORMATS[format].suffix}"
    benchmark_format.pack(format, files, archive)
    return archive, files


def repacked(archive: Path, members: dict[str, bytes]) -> None:
    """The archive with other members, as another tool could have written it."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        return
    with tarfile.open(archive, "w:gz") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.removesuffix("#"))
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))


def members_of(archive: Path) -> dict[str, bytes]:
    return dict(benchmark_format.FORMATS[archive.name.split(".")[0]].unpack(archive))


def png(ids: np.ndarray, palette: bytes | None = None, kind: str = "png") -> bytes:
    image, buffer = Image.fromarray(ids), io.BytesIO()
    if palette is not None:
        image.putpalette(palette)
    image.save(buffer, kind)
    return buffer.getvalue()


# the formats


def test_the_palette_is_vocs():
    colours = voc_palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    official = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0),
                15: (192, 128, 128), 20: (0, 64, 128), 64: (32, 0, 0), 255: (224, 224, 192)}  # fmt: skip
    assert {i: tuple(colours[i].tolist()) for i in official} == official
    assert len({tuple(colour) for colour in colours.tolist()}) == 256


def test_voc_archives_hold_palette_images_of_original_size(tmp_path):
    archive, files = packed("voc", tmp_path, SIZES)
    assert archive.name == "voc.tar.gz"
    with tarfile.open(archive) as file:
        entries = file.getmembers()
        assert [entry.name for entry in entries] == [f"{FOLDER}{name}.png" for name in sorted(SIZES)]
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in entries} == {(0, 0, 0, "")}
    for name, content in members_of(archive).items():
        with Image.open(io.BytesIO(content)) as image:
            stem = Path(name).stem
            assert image.mode == "P" and (image.height, image.width) == SIZES[stem]
            assert np.array_equal(np.asarray(image), classes(stem, SIZES[stem], 21))
            colours = voc_palette()[np.asarray(image)]
            assert np.array_equal(np.asarray(image.convert("RGB")), colours)
    benchmark_format.validate("voc", archive, SIZES)

    first = archive.read_bytes()
    for path in files.values():
        os.utime(path, (1, 1))
    benchmark_format.pack("voc", dict(reversed(files.items())), archive)
    assert archive.read_bytes() == first


def test_official_cityscapes_scripts_score_perfect_images_as_perfect(tmp_path, monkeypatch):
    archive, files = packed("cityscapes", tmp_path, FRAMES)
    benchmark_format.validate("cityscapes", archive, FRAMES)
    first = archive.read_bytes()
    benchmark_format.pack("cityscapes", dict(reversed(files.items())), archive)
    assert archive.read_bytes() == first
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "sent")
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "sent"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a script that is older than these Pythons
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
        from cityscapesscripts.helpers.labels import labels, trainId2label
    truths = []
    for name, size in FRAMES.items():
        truth = np.array([trainId2label[train].id for train in range(19)], np.uint8)[classes(name, size, 19)]
        truths.append(str(tmp_path / f"{name}_gtFine_labelIds.png"))
        Image.fromarray(truth).save(truths[-1])
    arguments = official.CArgs()
    vars(arguments).update(vars(official.args) | {"predictionWalk": None, "predictionPath": None, "quiet": True,
                                                  "evalInstLevelScore": False, "JSONOutput": False})  # fmt: skip
    monkeypatch.setattr(official, "CSUPPORT", False)
    found = [official.getPrediction(arguments, truth) for truth in truths]
    assert [Path(path).name for path in found] == [f"{name}_labelIds.png" for name in FRAMES]
    scored = official.evaluateImgLists(found, truths, arguments)
    assert scored["averageScoreClasses"] == 1.0
    assert sum(not np.isnan(score) for score in scored["classScores"].values()) == 19
    assert benchmark_format.FORMATS["cityscapes"].ids == 1 + max(label.id for label in labels)


def test_every_server_of_a_tier_has_a_format():
    assert tuple(benchmark_format.FORMATS) == schema.SERVERS


VOCS = voc_palette().tobytes()
ONE = f"{FOLDER}2008_000001.png"
BAD_VOC = {
    "missing": ({ONE: None}, "hold every test image .*, got none for .*2008_000001.png; add the 1"),
    "extra": ({f"{FOLDER}2010_000009.png": png(np.zeros((2, 2), np.uint8), VOCS)}, "test images only .*2010_000009"),
    "twice": ({f"{ONE}#": png(classes("2008_000001", (13, 17), 21), VOCS)}, "each image once .* twice; remove one"),
    "folder": ({"comp6_test_cls/2008_000001.png": b""}, f"be in {FOLDER} .*, got comp6_test_cls/2008_000001.png;"),
    "below": ({f"{FOLDER}more/2008_000001.png": b""}, "be in .*, got .*more/2008_000001.png; move it"),
    "mode": ({ONE: png(np.zeros((13, 17), np.uint8))}, r"be a palette PNG \(mode P\), got PNG of mode L; convert"),
    "colours": ({ONE: png(np.zeros((13, 17, 3), np.uint8))}, "be a palette PNG .*, got PNG of mode RGB"),
    "kind": ({ONE: png(np.zeros((13, 17), np.uint8), VOCS, "gif")}, "be a palette PNG .*, got GIF of mode P"),
    "palette": ({ONE: png(np.zeros((13, 17), np.uint8), bytes(range(256)) * 3)}, "VOC's palette .*, got another"),
    "size": ({ONE: png(np.zeros((64, 64), np.uint8), VOCS)}, r"\(13, 17\) \(height, width\), got \(64, 64\); cut off"),
    "turned": ({ONE: png(np.zeros((17, 13), np.uint8), VOCS)}, r"\(13, 17\) .*, got \(17, 13\)"),
    "void": ({ONE: png(np.full((13, 17), 255, np.uint8), VOCS)}, "server knows, 0 to 20, got 255; write one"),
    "damaged": ({ONE: png(np.zeros((13, 17), np.uint8), VOCS)[:60]}, "2008_000001.png must be a whole PNG file, got"),
    "no image": ({ONE: b"text"}, "must be a whole PNG file"),
}


@pytest.mark.parametrize("what", BAD_VOC)
def test_what_vocs_server_would_refuse_is_told(tmp_path, what):
    archive, _ = packed("voc", tmp_path, SIZES)
    change, words = BAD_VOC[what]
    members = {name: content for name, content in (members_of(archive) | change).items() if content is not None}
    repacked(archive, members)
    with pytest.raises(InputError, match=words):
        benchmark_format.validate("voc", archive, SIZES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"berlin_000000_000019_labelIds.png": png(np.zeros((16, 32), np.uint8), VOCS)}, "be a grey PNG .* of mode P"),
        ({"berlin_000000_000019_labelIds.png": png(np.full((16, 32), 34, np.uint8))}, "0 to 33, got 34"),
        ({"berlin/berlin_000000_000019_labelIds.png": b""}, "be in no folder .*, got berlin/berlin_000000"),
        ({"berlin_000000_000019_labelIds.png": None}, "every test image .*, got none for berlin_000000_000019"),
        ({"readme.txt": b""}, r"test images only \(2 files\), got readme.txt; remove it"),
    ],
)
def test_what_cityscapes_server_would_refuse_is_told(tmp_path, change, words):
    archive, _ = packed("cityscapes", tmp_path, FRAMES)
    members = members_of(archive) | change
    repacked(archive, {name: content for name, content in members.items() if content is not None})
    with pytest.raises(InputError, match=words):
        benchmark_format.validate("cityscapes", archive, FRAMES)


@pytest.mark.parametrize("format", benchmark_format.FORMATS)
def test_a_truncated_or_foreign_archive_is_reported(tmp_path, format):
    sizes = {"voc": SIZES, "cityscapes": FRAMES}[format]
    archive, _ = packed(format, tmp_path, sizes)
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"text", b""):
        archive.write_bytes(content)
        with pytest.raises(InputError, match=rf"{archive.name} must be a whole .* archive, got .*; write it again"):
            benchmark_format.validate(format, archive, sizes)


@pytest.mark.parametrize(("format", "name"), [("voc", "a/b"), ("cityscapes", "berlin_1_2"), ("cityscapes", "berlin")])
def test_names_unknown_to_the_server_are_reported(tmp_path, format, name):
    with pytest.raises(InputError, match=r"must have a name that the server knows .*; use the official names"):
        benchmark_format.pack(format, {name: tmp_path / "a.png"}, tmp_path / "archive")


# predictions


def photograph(path: Path, seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    flat = np.repeat(random.integers(0, 200, (1, width, 1)), height, 0)
    Image.fromarray((flat + random.integers(0, 50, (height, width, 3))).astype(np.uint8)).save(path, quality=95)


def devkit(root: Path, tests: int = 4) -> Path:
    """A set in VOC's layout: 5 training, 3 val and some test images, each of a size of its own; 64 px at most."""
    base = root / "VOCdevkit" / "VOC2012"
    lists = base / "ImageSets" / "Segmentation"
    for folder in (base / "JPEGImages", base / "SegmentationClass", lists):
        folder.mkdir(parents=True)
    names = {"train": 5, "val": 3, "test": tests}
    for year, (split, number) in enumerate(names.items(), start=2007):
        listed = [f"{year}_{i:06d}" for i in range(number)]
        (lists / f"{split}.txt").write_text("\n".join(listed) + "\n")
        for i, name in enumerate(listed):
            height, width = 64 - i % 20, 40 + i % 25
            photograph(base / "JPEGImages" / f"{name}.jpg", 100 * year + i, height, width)
            mask = np.repeat(np.arange(width, dtype=np.uint8)[None] // 20, height, 0)
            Image.fromarray(mask).save(base / "SegmentationClass" / f"{name}.png")
    return root


def small(params: dict, root: Path) -> dict:
    """The smoke tier on such a set."""
    block = params["tiers"]["smoke"]
    block |= {"tables": ["T5"], "controls": {}, "mechanisms": {}, "settings": {}, "samples": 3}
    block["data"] = {"name": "voc", "root": str(root), "train": "train", "tune": 2, "pad": [64, 64]}
    block["recipe"] |= {"steps": 6, "batch": 2}
    return params


def network(folder: Path, params: dict, format: str) -> SubmissionJob:
    """A network that was trained on the smoke tier's set, to be asked for its classes of the test images."""
    chosen = tiers.load(params, "smoke")
    store, main = Store(folder / "runs"), chosen.main
    facts = prepare(main.data, main.root, store.cache, chosen.band_px)
    training = Training(Variant(gcn(5)), main.data, main.network, main.recipe, 0, chosen.band_px)
    job = training_job("key", training, facts, store.root, root=main.root, labels={"label": "GCN"}, samples=3)
    train(job)
    return SubmissionJob("asked", job.subject, job.context, Inference(), format)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SubmissionJob:
    folder = tmp_path_factory.mktemp("trained")
    return network(folder, small(tiers.read(ROOT / "params.yaml"), devkit(folder / "devkit")), "voc")


@pytest.fixture
def job(trained, tmp_path) -> SubmissionJob:
    """The same with no prediction yet, and a set of its own to change."""
    return replace(trained, key=tmp_path.name, subject=replace(trained.subject, root=devkit(tmp_path / "devkit")))


def predicted(job: SubmissionJob) -> tuple[dict[str, Path], dict[str, Path], list[tuple[int, int]]]:
    images, told = benchmark_predict.test_images(job.subject.training.data, job.subject.root), []
    files = benchmark_predict.files_of(job, images)
    benchmark_predict.predict(job, images, files, lambda done, every: told.append((done, every)))
    return images, files, told


def test_submitted_predictions_equal_those_of_the_evaluation(job, tmp_path):
    """Val images under names of test images: what the training itself kept of them is what is submitted."""
    lists = job.subject.root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "test.txt").write_text((lists / "val.txt").read_text())
    images, files, told = predicted(job)
    assert told == [(1, 3), (2, 3), (3, 3)]
    with np.load(job.context.store / "key" / "samples.npz") as samples:
        kept = dict(zip(samples["names"].tolist(), samples["predictions"], strict=True))
    assert set(kept) == set(images)
    for name, path in images.items():
        with Image.open(path) as image, Image.open(files[name]) as mask:
            assert mask.size == image.size and mask.size != (64, 64)
            found = np.asarray(mask)
        assert np.array_equal(found, kept[name][: found.shape[0], : found.shape[1]])
    assert len({id_ for value in kept.values() for id_ in np.unique(value)}) > 1
    archive = tmp_path / "voc.tar.gz"
    benchmark_predict.write(job, images, files, archive)
    assert sorted(members_of(archive)) == [f"{FOLDER}{name}.png" for name in sorted(images)]
    benchmark_format.save("voc", files[name], np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match="must have the size of its image"):
        benchmark_predict.write(job, images, files, archive)
    assert not archive.exists()


def test_only_changed_or_missing_predictions_are_made_again(job):
    images, files, told = predicted(job)
    assert len(told) == 4
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    assert predicted(job)[2] == []
    first, second, *_ = images
    files[first].unlink()
    photograph(images[second], 1, 20, 30)
    _, again, told = predicted(job)
    assert told == [(1, 2), (2, 2)]
    assert {name for name in images if again[name].stat().st_mtime_ns != before[name]} == {first, second}
    with Image.open(again[second]) as mask:
        assert mask.size == (30, 20)


@pytest.mark.slow
def test_other_inference_methods_change_predictions_not_sizes(job):
    _, plain, _ = predicted(job)
    ways = Inference(scales=(0.5, 1.0, 1.5), flip=True, crop=(64, 48), crops=(1, 2))
    images, files, _ = predicted(replace(job, key=f"{job.key}-asked", inference=ways))
    different = 0
    for name, path in images.items():
        with Image.open(path) as image, Image.open(files[name]) as mask, Image.open(plain[name]) as other:
            assert mask.size == image.size
            different += not np.array_equal(np.asarray(mask), np.asarray(other))
    assert different


def test_cityscapes_networks_submit_label_ids(tmp_path):
    frames = {"train": ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"),
              "val": ("lindau_000000_000019",), "test": ("berlin_000000_000019", "bonn_000002_000019")}  # fmt: skip
    for split, name in ((split, name) for split, names in frames.items() for name in names):
        image = tmp_path / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png"
        mask = tmp_path / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_labelIds.png"
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        photograph(image, sum(name.encode()), 30, 60)
        Image.fromarray(np.repeat(np.arange(60, dtype=np.uint8)[None] // 2, 30, 0)).save(mask)
    params = small(tiers.read(ROOT / "params.yaml"), tmp_path)
    data = {"name": "cityscapes", "root": str(tmp_path), "train": "fine", "tune": 1, "pad": [32, 64]}
    params["tiers"]["smoke"] |= {"data": data, "samples": 1}
    job = network(tmp_path, params, "cityscapes")
    images, files, _ = predicted(job)
    archive = tmp_path / "cityscapes.zip"
    benchmark_predict.write(job, images, files, archive)
    assert sorted(members_of(archive)) == [f"{name}_labelIds.png" for name in frames["test"]]
    for content in members_of(archive).values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.mode, image.size) == ("L", (60, 30))
            assert set(np.unique(np.asarray(image))) <= {7, 8, *range(11, 14), 17, *range(19, 29), 31, 32, 33}


def test_images_that_cannot_be_are_told(job):
    images, files, _ = predicted(job)
    name = next(iter(images))
    photograph(images[name], 1, 65, 20)
    with pytest.raises(InputError, match=r"must fit into \(64, 64\) .*, got \(65, 20\) in .*; enlarge `pad`"):
        predicted(job)
    images[name].write_bytes(images[name].read_bytes()[:200])
    with pytest.raises(InputError, match="an image must be whole"):
        predicted(job)
    images[name].unlink()
    with pytest.raises(InputError, match=r"an image of test\.txt must exist, got no file"):
        predicted(job)


def test_missing_test_images_or_foreign_classes_are_reported(job):
    smoke = tiers.load(tiers.read(ROOT / "params.yaml"), "smoke")
    with pytest.raises(InputError, match=r"data set with test images .*, got shapes; name a cell"):
        benchmark_predict.test_images(smoke.main.data, None)
    (job.subject.root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "test.txt").write_text("")
    with pytest.raises(InputError, match="must have at least one test image, got none of voc"):
        benchmark_predict.test_images(job.subject.training.data, job.subject.root)
    own = replace(job, subject=replace(job.subject, facts=job.subject.facts | {"classes": ["sea", "land"]}))
    with pytest.raises(InputError, match=r"a network with the server's 21 classes .*, got 2 others"):
        benchmark_predict.predict(own, {}, {}, lambda done, every: None)


# the tier's blocks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"submission": []}, "submission must be a mapping, got"),
        ({"submission": {"cell": "T5/GCN/overall", "seed": 0}}, "submission must have the key 'format'"),
        ({"submission": {"cell": "T9/no/score", "format": "voc", "seed": 0}},
         "cell must be the address of a segmentation that the tier trains, got 'T9/no/score'; take one such as T5/"),
        ({"submission": {"cell": ["T5"], "format": "voc", "seed": 0}}, "cell must be the address"),
        ({"submission": {"cell": "T5/GCN/overall", "format": "voc", "seed": 3}}, "seed must be one of 0, got 3"),
        ({"submission": {"cell": "T5/GCN/overall", "format": "coco", "seed": 0}},
         "format must be one of voc, cityscapes, got 'coco'"),
        ({"submission": {"cell": "T5/GCN/overall", "format": "cityscapes", "seed": 0}},
         "format must be that of the cell's data set voc .*, got 'cityscapes'; name a cell trained on cityscapes"),
        ({"submission": {"cell": "T5/GCN/overall", "format": "voc", "seed": 0}, "not_applicable": {"T5/GCN": "no"}},
         "cell must be the address .* such as T5/baseline"),
        ({"submitted": None}, "submitted must be a mapping"),
        ({"submitted": SERVED}, r"tables of the tier whose scores a server gives \(none\), got 'T8'; remove it"),
        ({"tables": ["T5", "T8"], "submitted": {"T5": SERVED["T8"]}}, r"server gives \(T8\), got 'T5'"),
        ({"tables": ["T8"], "submitted": {"T8": {"percent": 82.2}}}, "submitted.T8 must have the key 'link'"),
        ({"tables": ["T8"], "submitted": {"T8": SERVED["T8"] | {"percent": 822}}}, "percent must be a number from 0"),
        ({"tables": ["T8"], "submitted": {"T8": SERVED["T8"] | {"link": "ftp://a"}}}, r"http\(s\) address .*'ftp://a'"),
        ({"tables": ["T8"], "submitted": {"T8": SERVED["T8"] | {"link": "http://a b"}}}, r"http\(s\) address"),
    ],
)  # fmt: skip
def test_invalid_submission_and_submitted_blocks_are_reported(tmp_path, change, words):
    params = small(tiers.read(ROOT / "params.yaml"), tmp_path)
    params["tiers"]["smoke"] |= change
    with pytest.raises(InputError, match=words):
        tiers.load(params, "smoke")


def test_served_scores_appear_only_in_our_row(tmp_path):
    params = small(tiers.read(ROOT / "params.yaml"), tmp_path)
    params["tiers"]["smoke"] |= {"tables": ["T5", "T8", "T10"], "submitted": SERVED}
    params["tiers"]["smoke"] |= {"submission": {"cell": "T5/GCN/overall", "format": "voc", "seed": 0}}
    chosen = tiers.load(params, "smoke")
    assert chosen.submission == schema.Submission(cell="T5/GCN/overall", format="voc", seed=0)
    manifest = planner.build(chosen, {"main": {"fingerprint": "f" * 64, "frequent": None}}, "cpu").manifest()
    manifest = json.loads(json.dumps(manifest))
    assert {t["id"]: t["submitted"] for t in manifest["tables"]} == {"T5": None, "T8": SERVED["T8"], "T10": None}
    frame = results.frame(manifest, tmp_path).set_index("address")
    assert frame.loc["T8/ours/score", ["value", "paper", "status", "metric"]].tolist() == [
        0.822, 0.822, "submitted", "test_miou"
    ]  # fmt: skip
    assert frame.loc["T10/ours/score", "status"] == "not submitted" and np.isnan(frame.loc["T10/ours/score", "value"])
    others = frame[frame["table"].isin(["T8", "T10"]) & (frame["row"] != "ours")]
    assert set(others["status"]) == {"printed"} and others["value"].isna().all() and others["paper"].notna().all()


def test_only_submitting_requires_the_crf_library(tmp_path, monkeypatch):
    monkeypatch.setattr(tiers, "find_spec", lambda name: None)
    params = tiers.read(ROOT / "params.yaml")
    small(params, tmp_path)
    block = params["tiers"]["smoke"]
    block |= {
        "tables": ["T7"],
        "settings": {"T7 Stage-3": {}},
        "not_applicable": {"T7/Stage-1": "a", "T7/Stage-2": "b"},
    }
    block["submission"] = {"cell": "T7/Stage-3-MS-CRF/GCN + BR", "format": "voc", "seed": 0}
    chosen = tiers.load(params, "smoke")
    monkeypatch.chdir(tmp_path)
    folder = stage.folder("smoke")
    facts = {name: made_up_facts("f") for name in chosen.settings}
    write_json(folder / "plan.json", planner.build(chosen, facts, "cpu").manifest())
    with pytest.raises(InputError, match=r"T7/Stage-3-MS-CRF/.* must have a training .*, got none: .*make crf"):
        script._job(chosen, execution_of(params), Store(tmp_path / "runs"))
    write_json(folder / "plan.json", planner.build(chosen, facts, "cpu").manifest() | {"data": {}})
    with pytest.raises(InputError, match=r"plan of params.yaml, got one without 'T7 Stage-3'; run `make repro"):
        script._job(chosen, execution_of(params), Store(tmp_path / "runs"))


# the command


@pytest.fixture
def voc_project(project: Project) -> Project:
    """Table 7's last stage on such a set with many test images, and Table 8."""
    small(project.params, devkit(project.folder / "devkit", tests=120))
    project.tier["tables"] = ["T7", "T8"]
    project.tier["not_applicable"] = {"T7/Stage-1": "no", "T7/Stage-2": "no", "T7/Stage-3-MS-CRF": "no"}
    project.tier["settings"] = {"T7 Stage-3": {}}
    project.tier["submission"] = {"cell": "T7/Stage-3-MS/GCN + BR", "format": "voc", "seed": 0}
    project.save()
    return project


COMMAND = (sys.executable, "-m", "study", "submission")


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_submission_resumes_and_reaches_the_report(voc_project: Project):
    project = voc_project
    project.stages("data", "plan")
    refused = project.run(*COMMAND, check=False)
    assert refused.returncode == 2 and "must be done" in refused.stderr and "make repro TIER=smoke" in refused.stderr
    project.stages("ablate")

    store = project.folder / "runs" / "submissions"
    with subprocess.Popen(COMMAND, cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(store.glob("*/*.png"))) < 3:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in store.glob("*/*.png")}
    assert 3 <= len(done) < 120
    assert not list((project.reports).glob("submission/*"))

    told = project.run(*COMMAND).stdout
    assert f"120 test images, {120 - len(done)} of them left to predict" in told
    assert {path: path.stat().st_mtime_ns for path in done} == done
    archive = project.reports / "submission" / "voc.tar.gz"
    assert len(members_of(archive)) == 120
    first, facts = archive.read_bytes(), json.loads(archive.with_name("submission.json").read_text())
    planned = json.loads((project.reports / "plan.json").read_text())
    assert planned["evaluations"][facts["predictions"]]["training"] == facts["training"]
    for path in store.glob("*/*.png"):
        path.unlink()
    project.run(*COMMAND)
    assert archive.read_bytes() == first

    project.tier["submitted"] = SERVED
    project.save()
    project.stages("data", "plan", "ablate", "evaluate", "score", "report")
    with (project.reports / "scores.csv").open() as file:
        rows = {row["address"]: row for row in csv.DictReader(file)}
    assert (rows["T8/ours/score"]["value"], rows["T8/ours/score"]["status"]) == ("0.822", "submitted")
    assert (rows["T8/FCN-8s-heavy/score"]["value"], rows["T8/FCN-8s-heavy/score"]["paper"]) == ("", "0.672")
    report = json.loads((project.reports / "report.json").read_text())
    (table,) = (table for table in report["tables"] if table["heading"].startswith("Table 8."))
    cells = {row["name"]: [line["cells"][0] for line in row["lines"]] for row in table["rows"]}
    assert [cell["main"] for cell in cells["ours"]] == ["82.2", "82.2"]
    assert cells["FCN-8s-heavy"][0] == {"kind": "none"} and cells["FCN-8s-heavy"][1]["main"] == "67.2"
    assert table["submitted"]["link"] == SERVED["T8"]["link"]
    assert SERVED["T8"]["link"].encode() in (project.reports / "report.pdf").read_bytes()


@pytest.mark.slow
def test_missing_submission_parts_give_a_one_line_error(voc_project: Project):
    project = voc_project
    lacking = project.run(*COMMAND, "camvid", check=False)
    assert lacking.returncode == 2 and lacking.stderr.count("\n") == 1
    assert "tiers.camvid must have the block submission: {cell, format, seed}" in lacking.stderr
    assert "use a tier that has one (smoke" in lacking.stderr
    unplanned = project.run(*COMMAND, check=False)
    assert unplanned.returncode == 2 and "plan.json must exist" in unplanned.stderr
    project.stages("data", "plan")
    (project.folder / "devkit" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "test.txt").unlink()
    without = project.run(*COMMAND, check=False)
    assert without.returncode == 2 and without.stderr.count("\n") == 1 and "test.txt" in without.stderr
