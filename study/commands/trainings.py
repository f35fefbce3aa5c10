"""`study status`, `stop` and `force`: shows a tier's trainings, stops them, and marks some to be run again."""

from __future__ import annotations

import time

from study.ablation import progress
from study.config import tiers
from study.config.execution import execution_of
from study.spec.documents.plan import PlanFile, restricted
from study.spec.documents.reading import read
from study.spec.errors import InputError
from study.statistics import sequence
from study.store import drivers, stage
from study.store.runs import Store


def called_for(plan: PlanFile, store: Store) -> PlanFile:
    """A plan without the seeds that no open claim has called for so far (D149)."""
    return restricted(plan, sequence.first_keys(plan) | store.drawn(plan["tier"])) if "sequence" in plan else plan


def status(tier: str | None) -> None:
    """Print which trainings of a tier are done, running, failed and left."""
    params = tiers.read()
    name = tiers.load(params, tier).name
    store, plan = Store(), read(stage.folder(name) / "plan.json", PlanFile)
    plan = called_for(plan, store)
    print(progress.status(store, plan, execution_of(params).workers, drivers.running(store, name)))


def stop(tier: str | None) -> None:
    """Ask the drivers of a tier, on any machine, to save checkpoints and end; wait until they have."""
    store, name = Store(), tiers.load(tiers.read(), tier).name
    asked = drivers.running(store, name)
    if not asked:
        print(f"no run of tier {name} is active in {store.root}")
    for driver in asked:
        drivers.ask_to_stop(store, driver)
        print(f"asked {driver['host']} (process {driver['pid']}) to stop; its trainings save a checkpoint", flush=True)
    while asked:
        time.sleep(0.5)
        left = {driver["name"] for driver in drivers.running(store, name)}
        for driver in [driver for driver in asked if driver["name"] not in left]:
            asked.remove(driver)
            print(
                f"{driver['host']} (process {driver['pid']}) has stopped; `make repro` continues from there", flush=True
            )


def forget(what: str, tier: str | None) -> None:
    """Delete the runs of a cell (an address), or one run (its key), so that the next ablation runs them again. Raises
    InputError if nothing matches."""
    name = tiers.load(tiers.read(), tier).name
    plan = read(stage.folder(name) / "plan.json", PlanFile)
    keys = {key for cell in plan["cells"] if cell["address"] == what for key in cell["runs"].values()}
    known = plan["trainings"] | plan["evaluations"]
    keys |= {key for key in known if len(what) >= 8 and key.startswith(what)}
    if not keys:
        raise InputError(
            f"a cell must be an address such as T1/score/15 with trainings, or a run's key, got {what!r}; "
            f"scores.csv of the tier {name} lists both"
        )
    store = Store()
    for key in sorted(key for key in keys if store.run(key).folder.is_dir()):  # seeds not yet called for have no run
        store.run(key).clear()
        print(f"deleted: {progress.named(known[key])}")
