"""How alpha is divided among the claims of a family, and what a decided claim passes on (D149).

Each claim has a share of alpha. A decided claim passes its share on, in equal parts, to the undecided claims of its own
group (the primary claims, or the others), and to the other group once its own claims are all decided: a graph of
weighted Bonferroni tests (Bretz, Maurer, Brannath and Posch 2009). In a family of one group this is Holm's procedure.
However the tests depend on each other, at most alpha of all families have a wrong rejection.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

PRIMARY_SHARE = 0.8  # of alpha, for the primary claims if there are others too


class Levels:
    """Shares of alpha by claim of a ``family``; the ``primary`` claims come first."""

    def __init__(self, family: Sequence[str], primary: Collection[str] = ()) -> None:
        first = [name for name in family if name in primary]
        rest = [name for name in family if name not in primary]
        both = bool(first and rest)
        self.shares: dict[str, float] = {}
        for group, share in ((first, PRIMARY_SHARE), (rest, 1 - PRIMARY_SHARE)):
            self.shares |= dict.fromkeys(group, (share if both else 1.0) / max(1, len(group)))
        self.groups = [first, rest]
        self.initial = dict(self.shares)
        self.reached = 0.0  # the largest adjusted p of those that were decided

    def decide(self, name: str) -> None:
        """Pass a decided claim's share on."""
        share = self.shares.pop(name)
        own, other = sorted(self.groups, key=lambda group: name not in group)
        heirs = [one for one in own if one in self.shares] or [one for one in other if one in self.shares]
        for heir in heirs:
            self.shares[heir] += share / len(heirs)

    def copy(self) -> Levels:
        """A copy of the shares that can change on its own."""
        found = Levels(())
        found.shares, found.groups, found.initial = dict(self.shares), self.groups, self.initial
        found.reached = self.reached
        return found

    def decided(self, ps: Mapping[str, float], alpha: float) -> dict[str, float]:
        """Decide the claims with these p values (nan: not tested) that can be decided at ``alpha``, the clearest first.
        Returns, by claim of ``ps``, the smallest alpha at which it would be decided now; nan where p is."""
        adjusted = self.adjusted(ps)
        for name in sorted((name for name in ps if adjusted[name] <= alpha), key=lambda name: adjusted[name]):
            self.decide(name)
            self.reached = max(self.reached, adjusted[name])
        return adjusted

    def adjusted(self, ps: Mapping[str, float]) -> dict[str, float]:
        """By claim of ``ps``, the smallest alpha at which it is decided: p values adjusted for the whole family."""
        found, left, least = dict.fromkeys(ps, math.nan), self.copy(), self.reached
        known = [name for name, p in ps.items() if not math.isnan(p)]
        while known:
            name = min(known, key=lambda one: (ps[one] / left.shares[one], one))
            least = max(least, min(1.0, ps[name] / left.shares[name]))
            found[name] = least
            known.remove(name)
            left.decide(name)
        return found
