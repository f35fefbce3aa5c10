"""params.yaml and the machine: tiers, execution, the address of MLflow, the state of git, the outputs DVC keeps."""
