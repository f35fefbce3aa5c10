"""Running the ablation: Optuna studies, queues of workers, progress, the search and the exploration."""
