"""Names and numbers that have one home."""

from __future__ import annotations

VOID = 255  # the label of pixels that are neither trained on nor scored


LEAST_DRAWS = 100  # a variance of fewer draws of a bootstrap is mostly noise


MAIN = "main"  # the name of a tier's own setting


PAPER, MECHANISM, NOTHING = "paper", "mechanism", "none"  # the scales of a tier: what it may judge


COSTS = ("macs", "parameters", "memory")  # of a network, that an exploration may bound: see study.plan.exploration
