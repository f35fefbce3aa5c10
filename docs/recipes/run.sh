#!/usr/bin/env bash
# Runs `make repro` inside the image of docs/recipes/Dockerfile, on a machine of a running Ray cluster.
# usage: run.sh PROJECT TIER
set -euo pipefail
cd "$1"
if ! grep -Eq '^  address: *auto\b' params.yaml; then
  echo "error: execution.address of params.yaml must be auto on a cluster; edit it as docs/run-on-a-cluster.md says" >&2
  exit 2
fi
# The image has all dependencies, so the environment that make expects only points to them.
if [[ ! -e .venv/ready ]]; then
  python -m venv --system-site-packages .venv
  cp requirements.lock .venv/ready
fi
exec make repro TIER="$2"
