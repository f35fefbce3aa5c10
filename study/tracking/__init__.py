"""MLflow: runs, experiments, the UI's columns and links."""
