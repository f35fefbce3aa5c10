"""A reproducibility and ablation-study harness for one paper, Peng et al., "Large Kernel Matters" (CVPR 2017).

Packages form six floors. Each imports only from the floors below it; `make check` enforces that (pyproject.toml):

    commands
    ablation    inference
    training    plan    tracking    report
    config      models  data        statistics
    paper       store
    spec        metrics seeds

Two pillars meet in ``ablation``, in ``plan.networks`` and on disk. The *paper* pillar (paper, config, plan, statistics,
report) imports no torch. The *science* pillar (models, data, training, inference) knows neither the paper nor
params.yaml.
"""

import os

# Set before anything imports matplotlib: it refuses backends that it does not know, such as the one of a notebook.
os.environ["MPLBACKEND"] = "agg"
