"""Follows docs/your-data.md to the letter: runs its blocks and expects its numbers and errors."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from pipelines import data
from study.commands import new_tier, rehearse
from study.config import tiers
from study.config.inheritance import in_full
from study.data.prepare import folder_of, open_data, prepare
from study.models.build import build_backbone
from study.spec.training import Data, freeze
from study.store import stage
from tests.conftest import ROOT, Project
from tests.project.test_one_place import keys

GUIDE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
NAMES = [f"roof-{number:03}" for number in range(1, 31)]
SIZE = (360, 480)
Block = dict[str, Any]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


FOLDER, SAID, VOC = (block.splitlines() for block in _blocks("text"))
TIER, FULL, VOC_DATA, TIMM, OWN = _blocks("yaml")
COMMANDS, WEIGHTS = _blocks("shell")
CLASS, ENTRY = _blocks("python")
MASKS = dict(re.findall(r"^\| ([^|`]+?) \| (`\w+: .+) \|$", GUIDE, re.MULTILINE))
SAYS = re.findall(r"^\| `(.+?)` \|", GUIDE[GUIDE.index("## What may go wrong") :], re.MULTILINE)


def _image(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright roof and a grey tree, and their labels below a row of void."""
    labels = np.zeros(SIZE, np.uint8)
    labels[60:200, 20 + number : 200 + number], labels[220:330, 100:300], labels[0] = 1, 2, 255
    noise = np.random.default_rng(number).integers(0, 60, (*SIZE, 3), np.uint8)
    shade = np.uint8(number * 7 % 5 * 7)  # otherwise neighbours would look like frames of a video
    return noise + shade + (labels % 255 * 80)[..., None].astype(np.uint8), labels


def _lay(layout: list[str], home: Path) -> None:
    """Write the files of each line of a layout: an image, a mask, or a list of every fifth name or of the others."""
    val = NAMES[::5]
    for line in layout:
        path = home / line.removeprefix("~/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("\n".join(name for name in NAMES if (name in val) == (path.stem == "val")) + "\n")
            continue
        assert path.stem == NAMES[0]
        for number, name in enumerate(NAMES):
            Image.fromarray(_image(number)[path.suffix == ".png"]).save(path.with_stem(name))


def _block(text: str, key: str) -> Block:
    return yaml.safe_load(text)[key]


def _mine() -> Block:
    """The guide's tier in full."""
    return in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8") + TIER))["tiers"]["mine"]


def _choose(project: Project, name: str) -> None:
    project.params["tier"] = name
    project.save()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the same images in both layouts; never changed."""
    found = tmp_path_factory.mktemp("home")
    _lay(FOLDER, found)
    _lay(VOC, found)
    return found


def _project(folder: Path, home: Path) -> Project:
    """A copy of the project with the guide's block appended to params.yaml, unchanged."""
    project = Project(folder)
    project.environment["HOME"] = str(home)
    file = folder / "params.yaml"
    file.write_text(file.read_text() + TIER)
    project.params = yaml.safe_load(file.read_text())
    return project


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Project:
    """The project after its stages, with a shortened tier."""
    project = _project(tmp_path_factory.mktemp("followed"), home)
    block = _mine() | {"seeds": [0], "tables": ["T5"]}
    block["recipe"] |= {"steps": 4, "batch": 4, "validations": 1}
    project.params["tiers"]["mine"] = block
    _choose(project, "mine")
    project.stages("data", "plan", "ablate", "evaluate", "score", "report")
    return project


@pytest.fixture
def here(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Block], tiers.Tier]:
    """Writes params.yaml with a block for the tier ``mine`` to the working folder and loads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))

    def write(block: Block) -> tiers.Tier:
        params = in_full(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
        params |= {"tier": "mine", "tiers": {"mine": block}}
        tiers.write(params, tmp_path / "params.yaml")
        return tiers.load(tiers.read())

    return write


@pytest.mark.slow
def test_every_make_target_runs_its_study_command(project: Project) -> None:
    """``make -n`` prints what a target would run, including the targets named in the prose."""
    shutil.copy(ROOT / "Makefile", project.folder)
    (project.folder / ".venv").mkdir()
    for name in ("requirements.lock", ".venv/ready"):
        (project.folder / name).touch()
    commands = dict(re.findall(r"^make ([\w-]+) (\w+=\S+) ", COMMANDS, re.MULTILINE))
    assert list(commands) == ["new-tier", "preview", "rehearse", "repro"]
    assert set(commands.values()) == {"FOLDER=~/data/mine", "TIER=mine"}
    for target in re.findall(r"(?:^|`)make ([\w-]+)", GUIDE, re.MULTILINE):
        said = project.run("make", "-n", target, commands.get(target, "TIER=mine")).stdout
        assert said.splitlines()[-1].startswith(f".venv/bin/python -m study {target}")


def test_decisions_and_files_in_the_guide_exist() -> None:
    decisions = (ROOT / "reports" / "decisions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bD\d+\b", GUIDE))
    assert len(named) > 5 and [name for name in sorted(named) if f"**{name} " not in decisions] == []
    assert [name for name in re.findall(r"`(study/\S+\.py)`", GUIDE) if not (ROOT / name).is_file()] == []


def test_the_block_can_be_appended_to_params_yaml() -> None:
    params = tiers.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8") + TIER))
    assert list(params["tiers"])[-1] == "mine" and len(TIER.splitlines()) <= 8
    assert tiers.load(params, "mine").scale == "mechanism"


def test_the_full_block_agrees_with_the_tier() -> None:
    full, mine = _block(FULL, "mine"), {"extra": []} | _mine()
    assert full == {key: mine[key] for key in full} and len(full) >= 12


def test_the_new_tier_is_the_guides_block(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Except for what only the user knows. Its output is the one that the guide quotes."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    new_tier.main("~/data/mine", None, write=True, whole=False)
    assert capsys.readouterr().err.splitlines() == SAID
    written, by_hand = tiers.read()["tiers"]["mine"], _mine()
    assert written["data"].pop("classes") == ["class-0", "class-1", "class-2"]
    assert by_hand["data"].pop("classes") == ["ground", "roof", "tree"]
    assert written | {key: by_hand[key] for key in ("title", "judges")} == by_hand


@pytest.mark.slow
def test_the_report_of_the_block_judges_claims(followed: Project) -> None:
    """Its first page reports what shows here and does not call its numbers meaningless."""
    reports = followed.folder / "reports" / "mine"
    page = (reports / "report.html").read_text(encoding="utf-8")
    judged = json.loads((reports / "verdicts.json").read_text(encoding="utf-8"))
    assert judged["scale"] == "mechanism" and "judges no claim" not in page + json.dumps(judged)
    assert judged["family"] and {row["claim"] for row in judged["rows"]} >= {*judged["family"]}


@pytest.mark.slow
def test_the_preview_predicts_what_the_guide_says(tmp_path: Path, home: Path) -> None:
    said = _project(tmp_path, home).python("-m", "study", "preview", "mine").stdout
    ((trainings, variants, seeds),) = re.findall(r"(\d+) trainings \((\d+) variants, (\d+) seeds\)", COMMANDS)
    assert f"  {trainings} trainings (0 done before)" in said and int(trainings) == int(variants) * int(seeds)
    assert _mine()["seeds"]["first"] == int(seeds)
    assert "folder: train 18, tune 6, val 6" in said


@pytest.mark.slow
def test_the_block_ends_in_scores_and_a_report(followed: Project) -> None:
    reports = followed.folder / "reports" / "mine"
    for name in re.findall(r"reports/mine/(\S+)|(scores\.csv)", COMMANDS):
        assert (reports / "".join(name)).is_file()
    with (reports / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["address"] for row in rows}) == 9 and len({row["run"] for row in rows}) == 3  # "three trainings"
    assert all(row["status"] == "done" and 0 < float(row["value"]) < 1 for row in rows)
    pdf = (reports / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    facts = json.loads((reports / "data.json").read_text())["main"]
    assert facts["classes"] == ["ground", "roof", "tree"] and facts["size"] == [384, 480]
    assert facts["images_with"] == [18, 18, 18] and facts["splits"] == {"train": 18, "tune": 6, "val": 6}
    assert '"Roofs from above"' in (reports / "plan.json").read_text()


def test_a_rehearsal_reads_the_same_images(
    here: Callable[[Block], tiers.Tier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = here(_mine()).main
    files = open_data(setting.data, setting.root, tmp_path).files()
    params = rehearse.shortened(tiers.read(), "mine", tmp_path / "stand-ins")
    (tmp_path / "rehearsal").mkdir()
    monkeypatch.chdir(tmp_path / "rehearsal")
    rehearsed = tiers.load(params).main
    assert open_data(rehearsed.data, rehearsed.root, tmp_path).files() == files and len(files) == 2 * len(NAMES)
    assert rehearsed.recipe.steps == rehearse.STEPS


@pytest.mark.slow
def test_both_layouts_give_the_same_pixels(here: Callable[[Block], tiers.Tier], home: Path, tmp_path: Path) -> None:
    """With the lists of VOC's layout beside the folders, as the comment on ``val`` says."""
    block, facts = _mine(), {}
    shutil.copytree(home / "data" / "mine", tmp_path / "listed")
    for name in ("train.txt", "val.txt"):
        shutil.copy(home / "data" / "mine-voc" / "ImageSets" / "Segmentation" / name, tmp_path / "listed")
    folder = block["data"] | {"root": str(tmp_path / "listed"), "val": "val.txt"}
    for options in (folder, _block(VOC_DATA, "data")):
        setting = here(block | {"data": options}).main
        facts[options["name"]] = prepare(setting.data, setting.root, tmp_path / options["name"], block["band_px"])
    assert facts["folder"] == facts["voc"] | {"name": "folder"}  # with the fingerprint of all pixels and names
    names, labels = (
        np.load(folder_of(tmp_path / "voc", facts["voc"]["fingerprint"]) / f"val-{what}.npy")
        for what in ("names", "labels")
    )
    assert names.tolist() == NAMES[::5]
    for name, found in zip(names, labels, strict=True):
        assert np.array_equal(found[: SIZE[0], : SIZE[1]], _image(NAMES.index(name))[1])


@pytest.mark.slow
def test_a_timm_backbone_loads_the_guides_weights(
    here: Callable[[Block], tiers.Tier], project: Project, tmp_path: Path
) -> None:
    """The guide's command makes the file, here from random weights. A safetensors file works as well."""
    command = WEIGHTS.replace(".venv/bin/python", sys.executable).replace("pretrained=True", "pretrained=False")
    assert command.count(sys.executable) == 1 == command.count("pretrained=False")
    project.run("sh", "-ec", command)
    network = _block(TIMM, "network")
    made = tmp_path / network["options"]["weights"]
    state = torch.load(made, weights_only=True)
    save_file(state, made.with_suffix(".safetensors"))
    for path in (made, made.with_suffix(".safetensors")):
        options = network["options"] | {"weights": str(path.relative_to(tmp_path))}
        setting = here(_mine() | {"network": network | {"options": options}}).main
        backbone = build_backbone(setting.network)
        assert set(setting.network.levels) < set(backbone.channels) and setting.network.frozen
        found = backbone.net.state_dict()
        assert len(found) > 100 and all(torch.equal(state[name], value) for name, value in found.items())


@pytest.mark.slow
def test_a_custom_backbone_trains_without_changing_other_keys(followed: Project) -> None:
    before = keys(followed)
    file = followed.folder / "study" / "models" / "backbones.py"
    text = file.read_text()
    (opening,) = re.findall(r"^BACKBONES\b.*\{\n", text, re.MULTILINE)
    file.write_text(text.replace(opening, f"{CLASS}\n\n{opening}{ENTRY}"))
    assert keys(followed) == before

    block = followed.params["tiers"]["mine"] | {"network": _block(OWN, "network")}
    one = {"tables": [], "extra": [{"head": "gcn", "k": 3, "refine": True}]}
    followed.params["tiers"]["own"] = block | one
    _choose(followed, "own")
    after = keys(followed)
    assert len(before) > 20 and before.items() <= after.items()
    (key,) = after.keys() - before.keys()

    followed.stages("data", "plan", "ablate")
    planned = json.loads((followed.folder / "reports" / "own" / "plan.json").read_text())["trainings"]
    ((run, training),) = planned.items()
    assert training["backbone"] == "two_convolutions" and (followed.folder / "runs" / run / "DONE").is_file()
    weights = torch.load(followed.folder / "runs" / run / "weights.pt", weights_only=True)
    assert weights["backbone.first.weight"].shape == (32, 3, 9, 9)

    file.write_text(file.read_text().replace("stride=8, padding=4)", "stride=8, padding=4, bias=False)"))
    edited = keys(followed)
    assert before.items() <= edited.items() and len(edited) == len(after) and key not in edited


# Row of the table on masks -> path templates of images and masks (+: the stem's folder, *: the rest, or all of it),
# and the mask values of classes 0, 1, 2 and of void.
NUMBERS, COLOURS = [0, 1, 2, 255], [[0, 0, 0], [128, 0, 0], [0, 64, 0], [224, 224, 192]]
FILES: dict[str, tuple[str, str, list[Any]]] = {
    "masks of colours": ("images/*.png", "masks/*.png", COLOURS),
    "a file of colours": ("images/*.png", "masks/*.png", COLOURS),
    "masks of 0 and 255": ("images/*.png", "masks/*.png", [0, 255]),
    "other numbers, some for one class": ("images/*.png", "masks/*.png", [7, 12, 21, 0]),
    "more colours or numbers than matter": ("images/*.png", "masks/*.png", [0, 1, 2, 99]),
    "several labels that are void": ("images/*.png", "masks/*.png", [0, 1, 2, 254]),
    "names that end differently": ("images/*_leftImg8bit.png", "masks/*_gtFine_labelIds.png", NUMBERS),
    "images and masks in one folder": ("images/*.png", "images/*_mask.png", NUMBERS),
    "splits in folders": ("images/*.png", "masks/*.png", NUMBERS),
    "splits above them": ("+/images/*.png", "+/masks/*.png", NUMBERS),
    "splits by name": ("images/*.png", "masks/*.png", NUMBERS),
    "images that are too large": ("images/*.png", "masks/*.png", NUMBERS),
}
BESIDE: dict[str, Block] = {  # other keys of the data block in these rows; elsewhere void: 255
    "masks of colours": {},
    "a file of colours": {},
    "masks of 0 and 255": {"classes": ["ground", "roof"]},
    "more colours or numbers than matter": {"labels": {0: 0, 1: 1, 2: 2}},
    "images that are too large": {"void": 255, "pad": [384, 512]},
}


def test_the_mask_table_lists_every_tested_layout() -> None:
    assert MASKS.keys() == FILES.keys()


@pytest.mark.parametrize("row", FILES)
def test_the_mask_tables_keys_read_the_files(tmp_path: Path, row: str) -> None:
    images, masks, values = FILES[row]
    size = (720, 960) if "large" in row else (24, 32)
    (tmp_path / "label_colors.txt").write_text("ground,0,0,0\nroof,128,0,0\ntree,0,64,0\nvoid,224,224,192\n")
    by_folder = row in ("splits in folders", "splits above them")
    stems = ["train/1", "train/2", "train/3", "val/4"] if by_folder else ["site-a/1", "2", "3", "site-b/4"]
    codes = np.arange(size[0] * size[1]).reshape(size) % size[1] * len(values) // size[1]  # upright stripes
    for number, stem in enumerate(stems):
        for template, pixels in ((images, np.full((*size, 3), number, np.uint8)), (masks, np.uint8(values)[codes])):
            folder, _, name = stem.rpartition("/") if "+" in template else ("", "", stem)
            path = tmp_path / template.replace("+", folder).replace("*", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    data: Block = {"images": "images", "masks": "masks", "classes": ["ground", "roof", "tree"], "val": 0.25, "tune": 1,
                   "pad": [32, 32]}  # fmt: skip
    named = [yaml.safe_load(text) for text in re.findall(r"`(\w+: [^`]+)`", MASKS[row])]
    data |= BESIDE.get(row, {"void": 255}) | {key: value for one in named for key, value in one.items()}
    facts = prepare(Data("folder", freeze(data)), tmp_path, tmp_path / "cache", 2)
    assert facts["splits"] == {"train": 2, "tune": 1, "val": 1} and all(facts["pixels"])
    folder = folder_of(tmp_path / "cache", facts["fingerprint"])
    labels = np.load(folder / "val-labels.npy")[0]
    shown = labels[labels[:, 0] != 255]
    assert np.unique(shown[0, : (512 if "large" in row else 32)]).tolist() == [0, 1, 2, 255][: len(values)]
    if by_folder or "by name" in row:
        assert np.load(folder / "val-names.npy").tolist() == stems[-1:]


def _rename_mask(root: Path) -> None:
    (root / "masks" / "roof-003.png").rename(root / "masks" / "roof-03.png")


def _colour_mask(root: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(root / "masks" / "roof-003.png")


def _unknown_label(root: Path) -> None:
    Image.new("L", SIZE[::-1], 7).save(root / "masks" / "roof-003.png")


def _colour_masks(root: Path) -> None:
    """Black grounds and void, red roofs, green trees, and twelve pixels of another colour."""
    colours = np.zeros((256, 3), np.uint8)
    colours[1], colours[2] = (128, 0, 0), (0, 128, 0)
    for number, name in enumerate(NAMES):
        pixels = colours[_image(number)[1]]
        pixels[:12, 0] = 9 if name == "roof-003" else 0
        Image.fromarray(pixels).save(root / "masks" / f"{name}.png")


def _lossy_mask(root: Path) -> None:
    Image.open(root / "masks" / "roof-003.png").save(root / "masks" / "roof-003.jpg")
    (root / "masks" / "roof-003.png").unlink()


def _other_palette(root: Path) -> None:
    for number, name in enumerate(NAMES):
        image = Image.open(root / "masks" / f"{name}.png")
        image.putpalette([0, 0, 0, 8 * number, 0, 0])
        image.save(root / "masks" / f"{name}.png")


def _void(root: Path) -> None:
    for name in NAMES:
        Image.new("L", SIZE[::-1], 255).save(root / "masks" / f"{name}.png")


def _deep(root: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(root / "images" / "roof-003.png")
    (root / "images" / "roof-003.jpg").unlink()


def _fewer(root: Path) -> None:
    for name in NAMES[20:]:
        (root / "images" / f"{name}.jpg").unlink()
        (root / "masks" / f"{name}.png").unlink()


def _misfit(root: Path) -> None:
    """Weights of another architecture, small on disk because each tensor repeats one value."""
    import timm  # takes seconds, and only one test needs it

    with torch.device("meta"):
        state = timm.create_model("resnet34").state_dict()
    Path("weights").mkdir()
    torch.save({name: torch.zeros(()).expand(value.shape) for name, value in state.items()}, "weights/resnet34.pth")


TIMM_NETWORK = _block(TIMM, "network")
RESNET34 = TIMM_NETWORK["options"] | {"weights": "weights/resnet34.pth"}
WITHOUT_NORM = {"model": "resnet18", "weights": None}
PALETTE = {"ground": [0, 0, 0], "roof": [128, 0, 0], "tree": [0, 128, 0]}
# start of an error -> the fault in the block and the damage to the folder
FAULTS: dict[str, tuple[Block, Callable[[Path], None] | None]] = {
    "images and masks must have": ({}, _rename_mask),
    "a mask must be a palette or grey": ({}, _colour_mask),
    "a mask must be in a lossless": ({}, _lossy_mask),
    "a label must have one colour": ({}, _other_palette),
    "split train must have": ({}, _void),
    "a picture must have 8 bits": ({}, _deep),
    "a mask must hold class labels": ({}, _unknown_label),
    "a mask must hold colours": ({"data": {"palette": PALETTE, "void": None}}, _colour_masks),
    "a mask must hold numbers": ({"data": {"labels": {n: n for n in range(3)}}}, _unknown_label),
    "... must fit into": ({"data": {"pad": [256, 256]}}, None),
    "tune must be": ({"data": {"tune": 20}}, _fewer),
    "tune must leave": ({"data": {"groups": "(roof)"}}, None),
    "groups of folder": ({"data": {"groups": "(site-.)"}}, None),
    "tiers.mine.data.classes": ({"data": {"classes": [f"class {number}" for number in range(256)]}}, None),
    "tiers.mine.recipe.lr": ({"recipe": yaml.safe_load("lr: 1e-3")}, None),
    "recipe.class_weights of main": ({"recipe": {"class_weights": {"rooof": 2.0}}}, None),
    "the crop of main": ({"network": {"frozen": False}, "recipe": {"crop": [512, 512]}}, None),
    "a level must be": ({"network": {"levels": ["res3", "layer4"]}}, None),
    "tiers.mine.network.options": ({"network": TIMM_NETWORK | {"options": WITHOUT_NORM}}, None),
    "weights must fit": ({"network": TIMM_NETWORK | {"options": RESNET34}}, _misfit),
}


def test_the_guide_quotes_exactly_the_tested_errors() -> None:
    assert len(SAYS) == len(FAULTS) and all(said.startswith(begun) for said, begun in zip(SAYS, FAULTS, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("begun", FAULTS)
def test_errors_read_as_the_guide_quotes_them(
    here: Callable[[Block], tiers.Tier],
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    begun: str,
) -> None:
    (said,) = (said for said in SAYS if said.startswith(begun))
    changes, spoil = FAULTS[begun]
    block = _mine()
    for part, change in changes.items():
        block[part] |= change
    if spoil:
        shutil.copytree(home / "data" / "mine", tmp_path / "spoilt")
        spoil(tmp_path / "spoilt")
        block["data"]["root"] = str(tmp_path / "spoilt")

    def run() -> None:
        here(block)
        data.main()

    assert stage.run(run) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(".*".join(map(re.escape, said.split("..."))), error), error
