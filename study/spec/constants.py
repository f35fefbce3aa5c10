"""Names and numbers that several packages share."""

from __future__ import annotations

VOID = 255  # label of pixels that are neither trained on nor scored


GPU_FAULT = "gpu-fault.json"  # of a run: why its last process lost its GPU
WORKER = "STUDY_WORKER"  # variable of processes that an engine starts, and can replace if they end


LEAST_DRAWS = 100  # with fewer bootstrap draws, a variance is mostly noise


MAIN = "main"  # the name of a tier's own setting


# Scales of a tier: it may judge the paper's numbers; the claims that do not depend on them, on the paper's data or on
# others; or nothing (D80).
PAPER, DATA, MECHANISM, NOTHING = "paper", "data", "mechanism", "none"


COSTS = ("macs", "parameters", "memory")  # costs of a network that an exploration may bound; see study.plan.exploration
PAUSES = "pauses.json"  # of a training that pauses: {steps done: {array: counts on the tune split}}
