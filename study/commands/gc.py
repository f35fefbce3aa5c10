"""`make gc`: lists what no plan of this project references in the run store; deletes it only on request."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from study.config import tiers
from study.data.prepare import folder_of
from study.paper import headline
from study.plan.receptive_fields import looks
from study.spec.documents.explored import ExploredFile
from study.spec.documents.plan import PlanFile
from study.spec.documents.reading import read
from study.spec.documents.search import SearchFile
from study.spec.errors import InputError
from study.store import garbage
from study.store.garbage import Named
from study.store.keys import key_of_confusion
from study.store.runs import Store, project


def main(free: bool, keep_days: float) -> None:
    """Print what may be deleted and, with ``free``, delete it. Raises InputError for an unreadable plan, and if a stage
    is running, which may be about to write one."""
    store = Store()
    places = [*workspaces()]
    found = garbage.find(store, named(places, store), keep_days)
    print(
        f"{store.root}: not referenced by a plan in {', '.join(map(str, places))}, and not used for {keep_days:g} days"
    )
    for waste in found:
        print(f"  {garbage.sized(waste.size):>10}  {waste.path.relative_to(store.root)}")
    print("\n".join(garbage.told(found)))
    if not found:
        return
    if not free:
        print(
            "nothing was deleted; `make gc FREE=yes` deletes it. Plans of other clones that share this store are not "
            "visible here"
        )
        return
    if running := [pid for place in places for pid in _stages(place)]:
        raise InputError(
            f"no stage may run while files are deleted (it may be writing its plan), got process {running[0]}; wait "
            "for it to end"
        )
    print(f"freed: {garbage.sized(garbage.free(found, store))}")


def workspaces() -> Iterator[Path]:
    """The folders whose plans share this project's store: this one, the main checkout, worktrees, DVC's workspaces."""
    known = [Path.cwd().absolute(), project(), *sorted((project() / ".dvc" / "tmp" / "exps").glob("*/"))]
    try:
        listed = subprocess.run(["git", "worktree", "list", "--porcelain"], capture_output=True, text=True).stdout
    except OSError:  # without Git there are no worktrees
        listed = ""
    known += [Path(line.partition(" ")[2]) for line in listed.splitlines() if line.startswith("worktree ")]
    yield from dict.fromkeys(path.resolve() for path in known if (path / "reports").is_dir())


def named(places: list[Path], store: Store) -> Named:
    """All that the plans, searches and explorations of these folders reference."""
    found = Named()
    for place in places:
        for path in sorted((place / "reports").glob("*/plan.json")):
            try:
                plan, tuning = read(path, PlanFile), path.parent / "tuning"
            except InputError as error:
                raise InputError(f"{error}, or delete that report if nothing of it is to be kept") from error
            found.add(plan)
            found.runs |= {key_of_confusion(training) for training in headline.segmenting(plan).values()}
            if (tuning / "search.json").is_file():
                tuned = read(tuning / "plan.json", PlanFile) if (tuning / "plan.json").is_file() else plan
                found.add(tuned, read(tuning / "search.json", SearchFile))
            if (path.parent / "explored" / "explored.json").is_file():
                explored = read(path.parent / "explored" / "explored.json", ExploredFile)
                found.runs |= {trial["key"] for trial in explored.get("trials", ())}
                again = (*explored.get("winners", ()), *explored.get("controls", ()))
                found.runs |= {key for one in again for key in one["keys"].values()}
            _cached(found, plan, place, store)
    return found


def _cached(found: Named, plan: PlanFile, place: Path, store: Store) -> None:
    """Add the cached data, the features and the receptive fields of a plan. If its tier can no longer be read, all of
    these kinds are kept."""
    if found.cached is None or found.looks is None:
        return
    for facts in plan["data"].values():
        found.cached.add(folder_of(store.cache, facts["fingerprint"], facts["streamed"]).name)
        if facts["name"] == "coco":  # its masks, drawn once, are next to the cached data
            found.cached |= {path.name for path in store.cache.glob("coco-*")}
    try:
        chosen = tiers.load(tiers.read(place / "params.yaml"), plan["tier"])
        for name, setting in chosen.settings.items():
            if setting.network.frozen and name in plan["data"]:
                from study.training.batches import features_folder  # imports torch

                flip = setting.recipe.flip
                found.cached.add(features_folder(setting.network, plan["data"][name], store.cache, flip).name)
        found.looks |= {key for _, _, key in looks(chosen.receptive, chosen.seeds, plan)}
    except (InputError, OSError):
        found.cached = found.looks = None


def _stages(place: Path) -> Iterator[int]:
    """Process ids of DVC's stages that run in a folder."""
    lock = place / ".dvc" / "tmp" / "rwlock"
    for pid in re.findall(r'"pid": *(\d+)', lock.read_text(encoding="utf-8")) if lock.is_file() else ():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:  # the process was killed and left its entry
            continue
        except PermissionError:
            pass
        yield int(pid)
