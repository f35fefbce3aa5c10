"""A reproducibility and ablation-study harness for one paper, Peng et al., "Large Kernel Matters" (CVPR 2017).

Packages stand on six floors and import from the floors below only; `make check` keeps it (pyproject.toml):

    commands
    ablation    inference
    training    plan    tracking    report
    config      models  data        statistics
    paper       store
    spec        metrics seeds

Two pillars meet in ``ablation``, in ``plan.networks`` and on disk: the *paper* pillar (paper, config, plan, statistics,
report) has no torch, the *science* pillar (models, data, training, inference) knows neither the paper nor params.yaml.
"""

import os

# Before anything imports matplotlib, which refuses names that it does not know, such as that of a notebook's package.
os.environ["MPLBACKEND"] = "agg"
