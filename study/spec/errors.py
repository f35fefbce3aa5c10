"""The error for invalid user input."""

from __future__ import annotations


class InputError(ValueError):
    """Invalid user input. The message gives the rule, the value and the remedy."""
