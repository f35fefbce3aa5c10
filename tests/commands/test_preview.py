"""What a preview says before anything runs: what is wrong with images and places, and how long each part takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from study.commands import preview
from study.commands.forecast import Forecast, Pace, Part
from study.config import places, tiers
from study.config.inheritance import in_full
from study.data.prepare import open_data, prepare
from study.data.sample import IMAGES, sample, spread
from study.spec.errors import InputError
from study.spec.training import Data, freeze
from study.store.runs import Store
from tests.conftest import ROOT

SIDES = (32, 32)
OPTIONS: dict[str, Any] = {
    "images": "images", "masks": "masks", "classes": ["ground", "roof", "tree"], "void": 255, "val": 0.2, "tune": 10,
    "pad": SIDES,
}  # fmt: skip
NUMBER = 100
TEXT = "no picture"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hundred images with masks in which each class stands."""
    labels = np.arange(SIDES[0] * SIDES[1], dtype=np.uint8).reshape(SIDES) % 3
    for kind in ("images", "masks"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        array = labels if kind == "masks" else np.full((*SIDES, 3), 90, np.uint8)
        for place in range(NUMBER):
            Image.fromarray(array).save(tmp_path / "photos" / kind / f"{place:03}.png")
    return tmp_path / "photos"


@pytest.fixture
def told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Forecast, str]]:
    """Previews a tier of the images, with changes to its block, or to the whole of params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_STORE", str(tmp_path / "runs"))

    def run(every: bool = False, block: dict[str, Any] | None = None, **changed: Any) -> tuple[Forecast, str]:
        params: dict[str, Any] = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
        own = params["tiers"]["smoke"] | {
            "data": OPTIONS | {"name": "folder", "root": str(root)}, "settings": {}, "controls": {}, "mechanisms": {},
            "tuning": None, "tables": ["T5"], "not_asked": {}, "receptive": None, "inference": {},
        }  # fmt: skip
        own["network"] |= {"levels": ["res2"], "options": {"widths": [4], "strides": [4]}}
        params |= {"tier": "mine", "tiers": {"mine": own | (block or {})}} | changed
        tiers.write(params, tmp_path / "params.yaml")
        return preview.preview(tiers.read(), None, every), capsys.readouterr().out

    return run


def refused(told: Callable[..., tuple[Forecast, str]], **how: Any) -> str:
    with pytest.raises(InputError) as error:
        told(**how)
    return str(error.value)


def stage_error(root: Path, cache: Path) -> str:
    """What the data stage says of the same images."""
    with pytest.raises(InputError) as error:
        prepare(Data("folder", freeze(OPTIONS)), root, cache, 1)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("masks", TEXT, "an image must be whole"),
        ("images", TEXT, "an image must be whole"),
        ("masks", np.full(SIDES, 7, np.uint8), "a mask must hold class labels 0 to 2 or void only, got 7"),
        ("masks", np.zeros((32, 30), np.uint8), "an image and its mask must have the same size"),
        ("images", np.zeros((40, 32, 3), np.uint8), "must fit into (32, 32), got (40, 32)"),
    ],
)
def test_a_preview_reports_the_data_stages_errors(told, root, tmp_path, kind, content, says):
    path = root / kind / "000.png"
    path.write_text(content) if isinstance(content, str) else Image.fromarray(content).save(path)
    error = refused(told, every=True)
    assert says in error and error == stage_error(root, tmp_path / "cache")


def unopened(root: Path, tmp_path: Path) -> list[str]:
    """Stems that a sample leaves out."""
    source = open_data(Data("folder", freeze(OPTIONS)), root, tmp_path)
    number = source.splits["train"]
    return [source.name("train", i) for i in sorted(set(range(number)) - set(spread(number, IMAGES)))]


def test_all_finds_what_the_sample_misses(told, root, tmp_path):
    missed = unopened(root, tmp_path)[0]
    (root / "masks" / f"{missed}.png").write_text(TEXT)
    found, said = told(execution=CUDA)
    assert "62 of 100 opened (--all: all)" in said and found.parts
    assert f"{missed}.png" in refused(told, every=True, execution=CUDA)


def test_several_errors_are_told_in_one_go(told, root):
    for place in range(NUMBER):
        (root / "masks" / f"{place:03}.png").write_text(TEXT)
    error = refused(told, every=True)
    assert error.startswith("images and masks must be readable, got 100 errors:\n(1) an image must be whole")
    assert error.count("must be whole") == preview.SHOWN and error.endswith(f"\nand {NUMBER - preview.SHOWN} more")


def test_a_split_needs_at_least_one_labelled_pixel(root, tmp_path):
    data = Data("folder", freeze(OPTIONS))
    source = open_data(data, root, tmp_path)
    names = [source.name("train", i) for i in range(source.splits["train"])]
    for name in names:
        Image.fromarray(np.full(SIDES, 255, np.uint8)).save(root / "masks" / f"{name}.png")
    (error,) = sample(source, 1).errors
    assert str(error) == stage_error(root, tmp_path / "cache") and "split train must have at least one" in str(error)
    one = np.full(SIDES, 255, np.uint8)
    one[0, 0] = 1
    Image.fromarray(one).save(root / "masks" / f"{unopened(root, tmp_path)[-1]}.png")
    looked = sample(source, 1)
    assert not looked.errors and looked.unseen == ["ground", "tree"]


def test_sampled_images_are_spread_over_the_split():
    assert spread(3, 32) == [0, 2, 1] and spread(1, 32) == [0]
    found = spread(1000, 32)
    assert len(found) == len(set(found)) == 32 and {0, 999} <= set(found)
    assert max(np.diff(sorted(found[:8]))) < 300


CUDA: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())["execution"] | {
    "device": "cuda",
    "workers": 1,
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it can be measured")
def test_times_are_unknown_for_an_absent_device(told):
    found, said = told(execution=CUDA)
    assert found.unknown == ["trainings", "evaluations"] and found.probed == 0 and not found.step
    assert re.search(r"trainings +unknown  3 trainings", said) and "which this machine does not have" in said
    assert re.search(r"in all +at least \d+ s; 2 parts cannot be measured here", said)


@pytest.mark.slow
def test_a_preview_sums_only_unfinished_work(told, tmp_path):
    crops = {"MS": {"scales": [0.5, 1]}, "MS-CRF": {"scales": [1]}}
    stages = {f"T7 Stage-{number}": {"after": f"T7 Stage-{number - 1}"} if number > 1 else {} for number in (1, 2, 3)}
    staged = {"tables": ["T5", "T7"], "settings": stages, "inference": crops}
    found, said = told(block=staged)
    seconds = {part.name: part.seconds for part in found.parts}
    assert list(seconds) == ["reading", "trainings", "evaluations", "rest"] and min(seconds.values()) > 0
    assert found.known == pytest.approx(sum(seconds.values())) and not found.unknown
    number = int(re.search(r"(\d+) trainings \(0 done before\)", said)[1])
    assert len(found.step) == number > 3 and re.search(r"evaluations .*  [1-9]\d* evaluations by", said)
    assert found.probed >= 3 and set(found.step) and min(found.step.values()) > 0
    frozen = {"frozen": True, "levels": ["res2"], "options": {"widths": [4], "strides": [4]}, "backbone": "shallow",
              "output_stride": 4}  # fmt: skip
    other, _ = told(block={"network": frozen})
    assert "search" not in {part.name for part in other.parts}
    features = next(part for part in other.parts if part.name == "features")
    assert features.seconds > 0 and features.work == "100 images through a frozen backbone"
    for key in other.step:
        Store().run(key).folder.mkdir(parents=True)
        Store().run(key).path("DONE").touch()
    done, said = told(block={"network": frozen})
    assert next(part.seconds for part in done.parts if part.name == "trainings") == 0
    assert "3 trainings (3 done before), 0 steps left" in said and done.probed == 0
    assert not (tmp_path / "reports").exists()
    tuning = yaml.safe_load((ROOT / "params.yaml").read_text())["tiers"]["shapes"]["tuning"]
    searched, said = told(block={"network": frozen, "tuning": tuning | {"factorial": [1]}}, tune=True)
    search = next(part for part in searched.parts if part.name == "search")
    assert search.seconds > 0 and "candidates of" in search.work and searched.known > done.known


def test_time_ratios_are_interpolated_between_two_probes():
    pace = Pace([1.0, 4.0], [2.0, 16.0])
    assert pace(1.0) == pytest.approx(2.0) and pace(4.0) == pytest.approx(16.0)
    assert pace(2.0) == pytest.approx(2 * 3.0) and pace(8.0) == pytest.approx(32.0)


def test_unknown_parts_are_no_part_of_the_sum():
    found = Forecast((Part("reading", None, ""), Part("trainings", 3.0, ""), Part("rest", 4.0, "")), {}, 0)
    assert found.known == 7 and found.unknown == ["reading"]


def test_places_that_cannot_be_written_are_told(told, tmp_path, monkeypatch):
    (tmp_path / "reports").write_text("in the way")
    assert "the folder of the report must be writable, got reports, which is a file" in refused(told)
    (tmp_path / "reports").unlink()
    monkeypatch.setenv("STUDY_ARTIFACTS", "/proc/artifacts")
    error = refused(told)
    assert error.startswith("the folder of MLflow's artifacts must be writable, got /proc") and "; " in error
    monkeypatch.delenv("STUDY_ARTIFACTS")
    monkeypatch.setenv("STUDY_TRACKING", "sqlite:////proc/mlflow.db")
    assert "change STUDY_TRACKING" in refused(told)


def test_a_small_disk_is_reported_with_a_remedy(tmp_path):
    store = Store(tmp_path)
    assert places.too_small(store, 0) == ""
    error = places.too_small(store, 2**60)
    assert error.startswith("the disk of the run store must have room") and "1,073,741,824.0 GiB, got" in error
    assert "STUDY_STORE" in error


def test_a_mask_holds_at_most_255_classes(root, tmp_path):
    """The bound of masks of 8 bits."""
    classes = [f"class {number}" for number in range(255)]
    for path in (root / "masks").iterdir():
        Image.fromarray(np.arange(SIDES[0] * SIDES[1]).reshape(SIDES).astype(np.uint8)).save(path)
    facts = prepare(Data("folder", freeze(OPTIONS | {"classes": classes})), root, tmp_path, 1)
    assert len(facts["classes"]) == 255 and set(facts["pixels"]) == {facts["pixels"][0]}
    with pytest.raises(
        InputError, match=r"2 to 255 different names \(labels 0 to 254 of 8 bits; 255 is void\), got 256 names"
    ):
        open_data(Data("folder", freeze(OPTIONS | {"classes": [*classes, "one more"]})), root, tmp_path)
