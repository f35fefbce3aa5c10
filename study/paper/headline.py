"""The headline networks: those that the paper compares last, with the first seed. Their weights are exported from the
run store, and their confusions are counted."""

from __future__ import annotations

from study.spec.documents.plan import PlanFile, trained

# Chosen for what they are, before any score is known. Those that a tier does not train are left out.
HEADLINE = (
    "T5/baseline/overall", "T5/GCN/overall", "T5/GCN+BR/overall", "T7/Stage-3/GCN + BR", "T9/Stage-2/GCN + BR",
)  # fmt: skip


def trainings(plan: PlanFile) -> dict[str, str]:
    """Address of a headline cell -> key of its training with the first seed."""
    cells = {cell["address"]: cell for cell in plan["cells"]}
    runs = {address: next(iter(cells[address]["runs"].values()), "") for address in HEADLINE if address in cells}
    return {address: trained(plan, key) for address, key in runs.items() if key}


def segmenting(plan: PlanFile) -> dict[str, str]:
    """Those of ``trainings`` that give masks; a classifier has no confusion of pixels."""
    tasks = {name: facts["task"] for name, facts in plan["data"].items()}
    return {at: key for at, key in trainings(plan).items() if tasks[plan["trainings"][key]["data"]] == "segment"}


def file_name(address: str) -> str:
    """The name of a headline cell's files, without suffix."""
    return address.replace("/", "-").replace(" ", "")
