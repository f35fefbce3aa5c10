"""What the user gave and should not have."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave breaks a rule. The message says the rule, the value and the remedy."""
