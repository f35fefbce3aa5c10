"""Images that belong together: whose neighbours are trained on, which are kept apart, and what a user is told."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.commands import rehearse
from study.config.inheritance import in_full
from study.data import groups, synthetic_layouts
from study.data.prepare import DataSet, open_data
from study.seeds import number
from study.spec.training import Data, freeze
from study.store.code_digest import ROOT
from tests.conftest import Project
from tests.data.test_faulty_sets import CAMVID, FOLDER, STEMS, lay, lay_camvid, lay_voc, names, opened, prepared, told
from tests.data.test_faulty_sets import VOC as OWN_VOC

DRIVES = {"0001TP": 9, "0006R0": 12, "0016E5": 20}
FRAMES = [f"{drive}_{frame:05}" for drive, images in DRIVES.items() for frame in range(0, 60 * images, 60)]
VAL = [f"0016E5_{frame:05}" for frame in (9000, 9060)]


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives, of the last of which other frames are measured; never changed."""
    return lay_camvid(tmp_path_factory.mktemp("streets"), FRAMES, VAL)


def drive(stem: str) -> str:
    return stem.split("_")[0]


def drives(stems: list[str]) -> Counter[str]:
    return Counter(map(drive, stems))


def distance(source: DataSet) -> int:
    """Places in the list between the tune split and the nearest training image of its drive."""
    tuned, trained = names(source, "tune"), names(source, "train")
    pairs = [(a, b) for a, b in itertools.product(tuned, trained) if drive(a) == drive(b)]
    return min((abs(FRAMES.index(a) - FRAMES.index(b)) for a, b in pairs), default=len(FRAMES))


# the tune split


@pytest.mark.parametrize("tune", [1, 5, 9, 10, 15, 20])
def test_a_tune_split_takes_whole_drives(streets: Path, tune: int) -> None:
    source = opened("camvid", CAMVID, streets, tune=tune)
    apart, trained = drives(names(source, "tune")), drives(names(source, "train"))
    assert apart and trained and not apart.keys() & trained.keys()
    assert apart + trained == Counter(DRIVES) and apart.total() >= tune
    order = sorted(DRIVES, key=lambda drive: number("tune", drive))
    assert set(apart) == set(order[: len(apart)])
    assert apart.total() - apart[order[len(apart) - 1]] < tune, "no drive more than is needed"
    (note,) = source.notes
    assert note.startswith("tune has whole groups") and f"{tune} were asked for" in note
    assert all(f"{drive} ({images} images)" in note for drive, images in apart.items())


@pytest.mark.parametrize("gap", [0, 1, 3, 5])
@pytest.mark.parametrize("tune", [1, 4, 8])
def test_a_gap_keeps_tune_neighbours_out_of_training(streets: Path, tune: int, gap: int) -> None:
    source = opened("camvid", CAMVID, streets, tune=tune, gap=gap)
    tuned, trained = names(source, "tune"), names(source, "train")
    start = FRAMES.index(tuned[0])
    assert tuned == FRAMES[start : start + tune] and len(drives(tuned)) == 1
    assert distance(source) == gap + 1
    row = [frame for frame in FRAMES if drive(frame) == drive(tuned[0])]
    first = row.index(tuned[0])
    left = row[max(0, first - gap) : first] + row[first + tune : first + tune + gap]
    assert trained == [frame for frame in FRAMES if frame not in tuned + left], "all else is trained on, in its order"
    (note,) = source.notes
    assert f"a block of {tune} images of {drive(row[0])}, {tuned[0]} to {tuned[-1]}" in note
    assert f"{len(left)} beside it are left out of training (gap {gap})" in note


def test_digest_order_alone_leaves_neighbours_in_training(streets: Path) -> None:
    """What was done before, and what the two rules are for."""
    alone = groups.apart(FRAMES, FRAMES, {}, 8, None)
    trained = [frame for frame in FRAMES if frame not in alone.tune]
    places = [FRAMES.index(frame) for frame in alone.tune]
    assert sum(FRAMES[place + 1] in trained for place in places if place + 1 < len(FRAMES)) >= 6
    assert not alone.notes and not alone.left


def test_any_block_of_any_drive_may_be_chosen() -> None:
    rows = {f"{drive}_{i}": drive for drive in "ab" for i in range(8)}
    chosen = Counter()
    for other in range(600):
        named = {f"{other}:{name}": group for name, group in rows.items()}
        block = sorted(groups.apart(list(named), list(named), named, 3, 1).tune)
        chosen[tuple(name.split(":")[1] for name in block)] += 1
    assert len(chosen) == 2 * 6 and min(chosen.values()) > 20


def test_ungrouped_images_are_chosen_one_by_one(tmp_path: Path) -> None:
    stems = [f"s{i}" for i in range(9)]
    expected = sorted(sorted(stems, key=lambda stem: number("tune", stem))[:4])
    lay_camvid(tmp_path / "camvid", stems, ["v1", "v2"])
    lay_voc(tmp_path / "voc", stems, ["v1", "v2"])
    for name, options in (("camvid", CAMVID), ("voc", OWN_VOC)):
        source = opened(name, options, tmp_path / name, tune=4)
        assert names(source, "tune") == expected and source.notes == []
        facts = prepared(name, options, tmp_path / name, tune=4)
        assert facts["groups"] is None and facts["notes"] == []


@pytest.mark.slow
def test_cities_in_tune_are_absent_from_training(tmp_path: Path) -> None:
    synthetic_layouts.cityscapes(tmp_path)
    for train in ("fine", "coarse+fine"):
        data = Data("cityscapes", freeze({"train": train, "tune": 1, "pad": [1024, 2048]}))
        source = open_data(data, tmp_path, tmp_path)
        assert len(drives(names(source, "tune"))) == 1 and len(names(source, "tune")) == 2
        assert not drives(names(source, "tune")).keys() & drives(names(source, "train")).keys()
    fine, coarse = ["aachen_1", "bochum_1"], ["aachen_2", "bochum_2"]
    found = groups.apart(fine, fine + coarse, {stem: drive(stem) for stem in fine + coarse}, 1, None)
    assert drives(list(found.tune)) == drives(list(found.left)) and found.left < set(coarse)


@pytest.mark.parametrize(
    ("options", "rule", "got", "remedy"),
    [
        ({"tune": 40}, "tune must leave a group to train on", "got 40 of 41 images of 3 groups", "or set gap"),
        ({"tune": 21, "gap": 1}, "gap must leave images to train on besides tune (21 ", "at most 20", "smaller"),
        ({"gap": -1}, "the gap of camvid must be a whole number from 0 up", "got -1", "write one"),
        ({"gap": 1.5}, "the gap of camvid must be a whole number from 0 up", "got 1.5", "write one"),
    ],
)
def test_an_impossible_tune_split_is_reported(
    streets: Path, options: dict[str, Any], rule: str, got: str, remedy: str
) -> None:
    line = told(lambda: opened("camvid", CAMVID, streets, **options))
    assert rule in line and got in line and remedy in line.split("; ")[-1]


def test_a_single_drive_requires_a_fitting_gap(tmp_path: Path) -> None:
    frames = [f"a_{i}" for i in range(6)]
    lay_camvid(tmp_path, frames, ["b_1"])
    assert "of 1 group; ask for fewer images, or set gap" in told(lambda: opened("camvid", CAMVID, tmp_path, tune=2))
    assert len(names(opened("camvid", CAMVID, tmp_path, tune=2, gap=2), "train")) >= 1
    assert "got 9 and groups of at most 6" in told(lambda: opened("camvid", CAMVID, tmp_path, tune=2, gap=9))


# what is told


def test_the_facts_name_the_group_of_each_image(streets: Path) -> None:
    facts = prepared("camvid", CAMVID, streets, tune=4, gap=2)
    assert facts == json.loads(json.dumps(facts))
    source = opened("camvid", CAMVID, streets, tune=4, gap=2)
    for split in ("train", "tune", "val"):
        found = facts["groups"][split]
        assert [found["names"][i] for i in found["of"]] == [drive(name) for name in names(source, split)]
        assert found["names"] == list(drives(names(source, split))), "in the order in which they come up"
    trained = drives(names(source, "train"))
    _, shared, alone = facts["notes"]
    assert shared == (
        "2 of 2 images of val belong to groups that are trained on too: "
        f"0016E5 ({trained['0016E5']} of {trained.total()})"
    )
    assert alone.startswith("val has only one group, 0016E5: its 2 images look alike")


def test_other_streets_in_val_are_no_note(tmp_path: Path) -> None:
    lay_camvid(tmp_path, FRAMES, ["x_1", "x_2", "y_1", "0006R0_99999"])
    (tune, *others) = prepared("camvid", CAMVID, tmp_path, tune=9, gap=0)["notes"]
    assert "tune is a block" in tune
    shared = "1 of 4 images of val belong to groups that are trained on too: 0006R0"
    assert all(note.startswith(shared) for note in others)
    assert groups.notes({s: {"names": [s], "of": [0]} for s in ("train", "val")}) == []
    many = {"names": [f"g{i}" for i in range(5)], "of": [0, 1, 2, 3, 4, 4]}
    (note,) = groups.notes({"train": many, "val": many})
    assert note.endswith("g0 (1 of 6), g1 (1 of 6), g2 (1 of 6) and 2 more")


def test_scenes_and_classes_of_images_have_no_groups(tmp_path: Path) -> None:
    assert groups.told({"train": ["a", "b"], "val": ["c"]}) is None
    assert groups.told({"train": ["a", "b"], "val": ["b"]}) is not None
    params = in_full(yaml.safe_load((ROOT / "params.yaml").read_text()))
    block = params["tiers"]["smoke"]["data"]
    source = open_data(Data("shapes", freeze({k: v for k, v in block.items() if k != "name"})), None, tmp_path)
    assert not hasattr(source, "group")


# a user's own folder

SITES = ["north/a1", "north/a2", "north/b1", "south/a1", "south/a2", "south/a3", "south/b1", "south/b2"]


def listed(root: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("stem", "group")) -> Path:
    with (root / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root


@pytest.mark.parametrize("way", ["pattern", "list"])
def test_folder_groups_come_from_a_pattern_or_list(tmp_path: Path, way: str) -> None:
    lay(tmp_path, stems=SITES)
    (tmp_path / "val.txt").write_text("north/a1\nnorth/a2\n")
    listed(tmp_path, [(f"{stem}.png", stem[:-1]) for stem in reversed(SITES)], ("stem", "group"))
    chosen = {"pattern": r"^(\w+/\w)\d", "list": "groups.csv"}[way]
    facts = prepared("folder", FOLDER, tmp_path, groups=chosen, val="val.txt", tune=2)
    source = opened("folder", FOLDER, tmp_path, groups=chosen, val="val.txt", tune=2)
    for split, found in facts["groups"].items():
        assert [found["names"][i] for i in found["of"]] == [name[:-1] for name in names(source, split)]
    assert not {n[:-1] for n in names(source, "tune")} & {n[:-1] for n in names(source, "train")}
    assert any("val has only one group, north/a" in note for note in facts["notes"])


def test_edited_groups_are_read_without_changing_the_fingerprint(tmp_path: Path) -> None:
    lay(tmp_path)
    listed(tmp_path, [(stem, "one" if stem < "s04" else "two") for stem in STEMS])
    options = {"groups": "groups.csv", "val": 0.25, "tune": 2, "gap": 0}
    first = prepared("folder", FOLDER, tmp_path, **options)
    listed(tmp_path, [(stem, "first" if stem < "s04" else "two") for stem in STEMS])
    second = prepared("folder", FOLDER, tmp_path, **options)
    assert first["fingerprint"] == second["fingerprint"] and first["splits"] == second["splits"]
    assert {n for found in second["groups"].values() for n in found["names"]} == {"first", "two"}


def test_a_single_video_gives_one_tune_block(tmp_path: Path) -> None:
    lay(tmp_path)
    source = opened("folder", FOLDER, tmp_path, gap=1)
    tuned = names(source, "tune")
    row = sorted(names(source, "train") + tuned)
    assert len(tuned) == 2 and prepared("folder", FOLDER, tmp_path, gap=1)["groups"] is None
    place = STEMS.index(tuned[0])
    assert len(row) < 6 and not {STEMS[place - 1] if place else "", tuned[-1][:-1]} & set(names(source, "train"))
    assert f"{tuned[0]} to {tuned[-1]}" in source.notes[0] and " of ," not in source.notes[0]


@pytest.mark.parametrize(
    ("pattern", "got"), [("s0", "'s0'"), ("(s0", "'(s0'"), (3, "3"), ("", "''"), ("(?:s)0", "'(?:s)0'")]
)
def test_a_pattern_without_a_group_is_told(tmp_path: Path, pattern: Any, got: str) -> None:
    line = told(lambda: opened("folder", FOLDER, lay(tmp_path), groups=pattern))
    assert "the groups of folder must be" in line and f"got {got}; write" in line


@pytest.mark.parametrize("pattern", ["(s0[0-5])", "x(.)", "s(x?)"])
def test_a_pattern_must_find_groups_in_all_stems(tmp_path: Path, pattern: str) -> None:
    line = told(lambda: opened("folder", FOLDER, lay(tmp_path), groups=pattern))
    assert "groups of folder must find a group in every stem" in line and "; write another pattern" in line


def test_a_faulty_list_of_groups_is_reported(tmp_path: Path) -> None:
    lay(tmp_path)
    rows = [(stem, stem[:2]) for stem in STEMS]

    def line(rows: list[tuple[str, ...]], header: tuple[str, ...] = ("stem", "group")) -> str:
        listed(tmp_path, rows, header)
        return told(lambda: opened("folder", FOLDER, tmp_path, groups="groups.csv"))

    assert "must have its list none.csv" in told(lambda: opened("folder", FOLDER, tmp_path, groups="none.csv"))
    assert "must have the stem of every image, but s0" in line(rows[:-2]) and "and 1 more" in line(rows[:-2])
    assert "must have each stem once, got s03 twice" in line([*rows, ("s03.png", "s0")])
    assert "must have the columns stem and group, got no 'group'" in line(rows, ("stem", "drive"))
    assert "must have a stem and a group, got ['s00', '']" in line([("s00", ""), *rows[1:]])
    assert "must have a stem and a group, got ['s00', None]" in line([("s00",), *rows[1:]])
    assert "must be text of at most" in line([("s00", "a\x1b[31m"), *rows[1:]])
    (tmp_path / "groups.csv").write_text('stem,group\ns00,"a\n')
    assert "must be a CSV file" in told(lambda: opened("folder", FOLDER, tmp_path, groups="groups.csv"))
    (tmp_path / "groups.csv").write_text("stem,group\ns00,a", encoding="utf-16")
    assert "must be plain text (UTF-8)" in told(lambda: opened("folder", FOLDER, tmp_path, groups="groups.csv"))


# the stage


@pytest.mark.slow
def test_the_data_stage_prints_notes_and_passes_groups(project: Project, streets: Path) -> None:
    options = CAMVID | {"tune": 4, "gap": 1, "pad": [16, 16]}
    project.tier.update(
        {"data": {"name": "camvid", "root": str(streets)} | options, "controls": {}, "mechanisms": {}, "settings": {}}
    )
    project.save()
    said = project.stages("data", "plan").stdout
    assert "note: camvid: tune is a block of 4 images" in said and "note: camvid: val has only one group" in said
    facts = json.loads((project.reports / "data.json").read_text())["main"]
    assert json.loads((project.reports / "plan.json").read_text())["data"]["main"]["groups"] == facts["groups"]
    assert len(facts["groups"]["val"]["of"]) == facts["splits"]["val"] == 2


def test_camvid_has_a_gap_except_in_its_rehearsal(tmp_path: Path) -> None:
    """The few images of a stand-in leave no room for one."""
    block = in_full(yaml.safe_load((ROOT / "params.yaml").read_text()))["tiers"]["camvid"]
    assert block["data"]["gap"] == 5 and block["data"]["tune"] == 24
    options = rehearse.stand_in(block, tmp_path)["data"]
    source = opened(options.pop("name"), options, Path(options.pop("root")))
    assert source.splits == {"train": 3, "tune": 1, "val": 2}
