"""From counts to scores, intervals and verdicts."""
