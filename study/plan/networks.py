"""Structure and costs of a plan's networks and of the paper's: sizes, weights, multiply-adds."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from study.config import tiers
from study.paper.labels import labels
from study.plan.planner import Plan
from study.spec.constants import MAIN
from study.spec.digest import digest
from study.spec.documents.data import size_of
from study.spec.documents.networks import AnatomyFile, CostsFile, NetworksFile
from study.spec.documents.plan import PlanFile
from study.spec.heads import Variant, dense, gcn
from study.spec.training import Network, freeze
from study.store import code_digest
from study.store.runs import Store, read_json_or_none, write_json

COUNTED_AT = 224  # side of the input of Table 11
PAPER_NETWORK = Network(
    "resnet", ("res2", "res3", "res4", "res5"), freeze({"depth": 152, "weights": None, "frozen_norm": True})
)
PAPER_VARIANT, PAPER_CLASSES, PAPER_SIZE = Variant(gcn(15), refine=True), 21, (512, 512)


def remembered(planned: Plan, manifest: PlanFile, store: Store) -> NetworksFile:
    """Structure and costs of the plan's networks, cached in the store: they depend only on the code and the plan, and
    counting is the slowest part of this stage. `make verify` counts them again."""
    modules = code_digest.imports("study.models.anatomy") | code_digest.imports("study.models.costs")
    files = [Path(__file__), *filter(None, map(code_digest.path_of, sorted(modules)))]
    texts = [path.read_text(encoding="utf-8") for path in files]
    sets = {name: [facts["classes"], facts["size"]] for name, facts in manifest["data"].items()}
    value = [texts, version("torch"), version("torchvision"), sorted(planned.trainings), sets]
    path = store.cache / f"networks-{digest(value)[:16]}.json"
    known: NetworksFile | None = read_json_or_none(path)
    if known is None:
        known = {"anatomy": anatomy_of(planned.tier, manifest), "costs": costs_of(planned, manifest)}
        write_json(path, known)
    return known


def anatomy_of(chosen: tiers.Tier, manifest: PlanFile) -> AnatomyFile:
    """The structure of the paper's networks and of this tier's, read from the modules as they are built."""
    from study.models import anatomy

    main = manifest["data"][MAIN]
    own = anatomy.describe(PAPER_VARIANT, chosen.main.network, len(main["classes"]), size_of(main))
    return {
        "paper": anatomy.describe(PAPER_VARIANT, PAPER_NETWORK, PAPER_CLASSES, PAPER_SIZE),
        "paper_local": anatomy.describe(Variant(dense(1)), PAPER_NETWORK, PAPER_CLASSES, PAPER_SIZE),
        "tier": own,
        "receptive": anatomy.receptive_fields(PAPER_NETWORK),
        "blocks": anatomy.blocks(),
        "table11": anatomy.table11(COUNTED_AT),
    }


def costs_of(planned: Plan, manifest: PlanFile) -> CostsFile:
    """setting -> label -> costs of the network of these trainings on one whole image (D97)."""
    from study.models.costs import costs

    found: CostsFile = {}
    for key, training in planned.trainings.items():
        name, label = planned.data_of[key], labels(training.variant)["label"]
        if label not in found.setdefault(name, {}):
            facts = manifest["data"][name]
            found[name][label] = costs(training.variant, training.network, len(facts["classes"]), size_of(facts))
    return found
