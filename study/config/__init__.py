"""params.yaml and the machine: tiers, execution, where MLflow is, the state of git, what DVC keeps."""
