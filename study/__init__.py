"""A reproducibility and ablation-study harness for one paper, Peng et al., "Large Kernel Matters" (CVPR 2017).

Two pillars meet only in ``pipelines/`` and on disk: the *paper* pillar (spec, paper, tier, plan, results, report) has
no torch, the *science* pillar (models, data, engine, source, evaluate, worker) no paper, pandas, mlflow or optuna.

Each module imports from lower layers only, and each heavy third-party package has one importer (a test keeps both).
"""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("spec", "metrics", "seeds", "schedule", "code", "regions", "allocator", "views"),
    ("store", "models.backbones", "models.heads"),
    ("paper", "models.fcn", "data", "progress"),
    ("models", "data.pairs", "stage", "tier", "tracking", "ablation"),
    ("data.*", "engine", "plan"),  # data.* are the data sets, one file each: a new one needs no line here
    ("source", "results", "figures"),
    ("evaluate", "report"),
    ("worker", "__main__"),
)
SCIENCE = ("models", "data", "engine", "source", "evaluate", "worker")
SOLE_IMPORTERS = {
    "mlflow": "tracking",
    "optuna": "ablation",
    "ray": "schedule",
    "seaborn": "figures",
    "typst": "report",
    "yaml": "tier",
}
