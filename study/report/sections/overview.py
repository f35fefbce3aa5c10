"""What was run, in a sentence, and which parts of the paper were not, with the reasons."""

from __future__ import annotations

from study.spec.constants import NOTHING
from study.spec.documents.plan import PlanFile
from study.spec.documents.provenance import ProvenanceFile
from study.spec.words import counted

SECRET = {"T8": ("Table 8", "VOC 2012 test"), "T10": ("Table 10", "Cityscapes test")}
UNDRAWN = {
    "F3": ("Figure 3", "No seed has the trainings whose receptive fields it shows, or the tier does not ask for it."),
    "F6": ("Figure 6", "No seed has sample predictions for all of its columns."),
    "F7": ("Figure 7", "It shows the training of Table 9, which this tier does not have."),
}


def summary(plan: PlanFile, provenance: ProvenanceFile) -> str:
    """One sentence: how many variants were trained on what, with how many seeds, and how many trainings have a
    result."""
    main, done = plan["data"]["main"], provenance["trainings"]
    of_role = {
        role: [name for name, data in plan["data"].items() if data["role"] == role] for role in ("control", "stage")
    }
    seeds: dict[tuple[str, str], int] = {}
    for training in plan["trainings"].values():
        seeds[training["data"], training["label"]] = seeds.get((training["data"], training["label"]), 0) + 1
    fewest, most = min(seeds.values(), default=0), max(seeds.values(), default=0)
    more = f" (and up to {most} for open claims)" if most > fewest else " each"
    text = f"{counted(_variants(plan, 'main'), 'variant')} with {counted(fewest, 'seed')}{more} were trained on "
    text += f"{main['name']} ({main['splits']['train']:,} training images)"
    if of_role["control"]:
        told = (f"{_variants(plan, name)} in the setting {name}" for name in of_role["control"])
        text += " and " + ", ".join(told)
    if of_role["stage"]:
        text += f", more in {counted(len(of_role['stage']), 'other setting')} (stages, pretrainings)"
    text += f"; {done['done']:,} of {done['planned']:,} planned trainings finished, for the "
    return text + f"{counted(len(plan['cells']), 'cell')} of {counted(len(plan['tables']), 'table')}."


def _variants(plan: PlanFile, data: str) -> int:
    return len({training["label"] for training in plan["trainings"].values() if training["data"] == data})


def not_run(plan: PlanFile, drawn: list[str]) -> list[dict[str, str]]:
    """What the paper has and this report does not. ``drawn`` are the names of its figures."""
    tables = {table["id"]: table for table in plan["tables"]}
    found = [(f"Table {n}", "Not among this tier's tables.") for n in range(1, 12) if f"T{n}" not in tables]
    found += [(what, f"Not applicable: {reason}") for what, reason in _not_applicable(plan)]
    found += [
        (name, f"{what}: the labels are secret, and nothing was submitted to the server. The table lists the printed "
               "scores.")
        for table, (name, what) in SECRET.items() if table in tables and tables[table]["submitted"] is None
    ]  # fmt: skip
    found += [told for name, told in UNDRAWN.items() if name not in drawn]
    if plan["scale"] == NOTHING:
        found.append(("Verdicts on the claims", "This tier judges no claim."))
    return [{"what": what, "reason": reason} for what, reason in found]


def _not_applicable(plan: PlanFile) -> list[tuple[str, str]]:
    """Cells that cannot be run here. Cells with the same reason share an entry, and a whole table is named as such."""
    cells: dict[tuple[str, str], list[str]] = {}
    for cell in plan["cells"]:
        if cell["not_applicable"]:
            cells.setdefault((cell["table"], cell["not_applicable"]), []).append(f"{cell['row']}, {cell['column']}")
    found = []
    for (table, reason), names in cells.items():
        every = [cell for cell in plan["cells"] if cell["table"] == table]
        where = "" if len(names) == len(every) else ": " + "; ".join(names)
        found.append((f"Table {table.removeprefix('T')}{where}", reason))
    return found
