"""`study predict`: a mask and a picture for each image, whatever cannot be read told by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.ablation import headline_models
from study.commands import predict
from study.inference.exported import load
from study.paper.headline import file_name
from study.spec.errors import InputError
from study.store.runs import write_json
from tests.conftest import ROOT
from tests.inference.test_exported import Made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two images, one of them in a folder, with what is no image beside them."""
    folder = tmp_path / "photographs"
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("a.png", (64, 64, 3)), ("sub/b.jpg", (90, 150, 3))):
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_each_image_gets_a_mask_and_an_overlay(
    made: Made, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    assert predict.main(made.file, (str(photographs),), to) == 0
    told, model = capsys.readouterr().out, load(made.file)
    assert sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()) == [
        "a-classes.png", "a-overlay.jpg", "sub/b-classes.png", "sub/b-overlay.jpg",
    ]  # fmt: skip
    with Image.open(to / "sub" / "b-classes.png") as mask:
        assert mask.mode == "P" and mask.getpalette()[: 3 * len(model.names)] == model.colours.ravel().tolist()
        assert np.array_equal(np.asarray(mask), model.predict(photographs / "sub" / "b.jpg"))
    assert "1 file (not images, or earlier predictions), such as notes.txt" in told
    assert "2 images predicted in" in told and "background" in told
    assert "note: 1 image had a side more than 2 times" in told and "--longest 64" in told


def test_an_unreadable_image_is_named_and_others_continue(
    made: Made, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "a0.png").write_bytes((photographs / "a.png").read_bytes()[:500])
    assert predict.main(made.file, (str(photographs / "*.png"), str(photographs / "sub")), tmp_path / "to") == 1
    said = capsys.readouterr()
    assert "a0.png" in said.err and "1 image of 3 could not be predicted" in said.err
    assert {path.name for path in (tmp_path / "to").glob("*.png")} == {"a-classes.png", "b-classes.png"}


def test_predictions_are_not_predicted_again(made: Made, photographs: Path) -> None:
    assert predict.main(made.file, (str(photographs),), photographs) == 0
    assert predict.images_of([str(photographs)]).keys() == {"a", "sub/b"}


def test_missing_or_identically_named_images_are_refused(photographs: Path) -> None:
    (photographs / "b.png").write_bytes((photographs / "a.png").read_bytes())
    for named, says in (
        ([str(photographs / "c*.png")], "an image must be a file, a folder or a pattern that matches files, got"),
        ([str(photographs / "b.png"), str(photographs / "sub" / "b.jpg")], "images must have different names"),
        ([str(ROOT / "pipelines")], "a folder must hold images"),
    ):
        with pytest.raises(InputError, match=says):
            predict.images_of(named)


def test_an_unwritable_output_folder_is_refused_before_loading(photographs: Path) -> None:
    with pytest.raises(InputError, match="--to must be a writable folder"):
        predict.main(Path("no model"), (str(photographs),), photographs / "notes.txt")


def test_a_model_is_found_by_tier_and_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the tier smoke must have trained .* run `make repro TIER=smoke`"):
        predict.model_file("smoke", "T5/GCN/overall", None)
    told = {"label": "a", "seed": 0, "data": "main", "training": "k", "sha256": "", "card": ""}
    index = {
        f"{file_name(cell)}.safetensors": told | {"cell": cell} for cell in ("T5/GCN/overall", "T7/Stage-3/GCN + BR")
    }
    write_json(tmp_path / "reports" / "smoke" / "weights" / headline_models.INDEX, index)
    found = predict.model_file("smoke", "T7/Stage-3/GCN + BR", None)
    assert found == Path("reports/smoke/weights/T7-Stage-3-GCN+BR.safetensors")
    with pytest.raises(InputError, match=r'T5/GCN/overall, "T7/Stage-3/GCN \+ BR"\), got T1/score/15'):
        predict.model_file("smoke", "T1/score/15", None)
    assert predict.model_file(None, None, Path("any")) == Path("any")
