"""The ablation as it runs: Optuna's study, queues of workers, progress, the search."""
