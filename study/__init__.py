"""A reproducibility and ablation-study harness for one paper, Peng et al., "Large Kernel Matters" (CVPR 2017).

Two pillars meet only in ``pipelines/`` and on disk: the *paper* pillar (spec, paper, tier, plan, results, report) has
no torch, the *science* pillar (models, data, engine, source, evaluate, worker, inference, receptive, anatomy, examiner)
no paper, pandas, mlflow or optuna.

Each module imports from lower layers only, and each heavy third-party package has one importer (a test keeps both).
"""

import os

# Before anything imports matplotlib, which refuses names that it does not know, such as that of a notebook's package.
os.environ["MPLBACKEND"] = "agg"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("spec", "words", "metrics", "seeds", "code", "allocator", "look", "drawings_canvas", "spread", "compare"),
    ("machine", "jobs"),
    ("store", "models.blocks", "models.heads", "values", "paper", "regions", "groups", "drawings_block", "pictures",
     "layouts", "unpack", "pixels", "predicates", "settling", "schedule"),
    ("data_sets",),
    ("schema", "tuning", "labels", "weights", "models.backbones", "models.fcn", "data", "data.pairs", "fetch",
     "progress", "drawings_network", "drivers", "stopping", "checkpoint", "views"),
    ("models", "data.voc", "stage", "execution", "place", "tier", "ablation", "quoted", "inference",
     "drawings", "pages", "resampling", "claims", "identity", "garbage"),
    # data.* are the data sets, one file each
    ("data.*", "work", "tracking", "engine", "commit", "outputs", "changes", "anatomy", "receptive", "evidence",
     "statistics", "deviations", "kept", "questions", "importances", "looks"),
    ("source", "plan", "submission", "results", "figures", "costs", "audit_maps", "audit_scores", "audit_weights"),
    ("evaluate", "loader", "parallel", "workload", "view", "networks", "plates", "audit", "trials", "matched", "best",
     "search", "figures_cost", "figures_search"),
    ("plates_cost", "report_search", "observers", "beside"),
    ("worker", "report", "verdicts"),
    ("examiner", "probe", "comparison", "numbers", "train"),
    ("submit", "replay", "searching"),
    ("__main__",),
)  # fmt: skip
SCIENCE = (
    "models", "data", "engine", "source", "evaluate", "worker", "inference", "receptive", "anatomy", "examiner",
    "checkpoint", "costs", "loader", "observers", "parallel", "probe", "submission", "submit",
)  # fmt: skip
SOLE_IMPORTERS = {
    "mlflow": "tracking",
    "optuna": "ablation",
    "pydantic": "values",
    "ray": "schedule",
    "seaborn": "figures",
    "typst": "report",
    "yaml": "tier",
}
