"""The selection: uniform over domains, in them long traces before short ones (s1 section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

RANKS = 64  # ranks beyond have less than 2^-63 of the weight


def select(domains: Sequence[str], lengths: Sequence[int], count: int, rng: Random) -> list[int]:
    """At most `count` indices in the order in which they were drawn; any first part is a selection, too.

    Until there are enough, a domain is drawn uniformly among those that have problems left, and in it a
    problem with weight 2^-rank, rank 0 the longest trace among those that are left. Equal lengths stand in
    the order given. s1 draws its last 300 from the domains of AIME and GPQA, which we leave out.
    """
    left: dict[str, list[int]] = {}
    for index in sorted(range(len(domains)), key=lambda i: -lengths[i]):
        left.setdefault(domains[index], []).append(index)
    names = sorted(left)
    drawn: list[int] = []
    while names and len(drawn) < count:
        name = rng.choice(names)
        ranked = left[name]
        drawn.append(ranked.pop(_rank(len(ranked), rng)))
        if not ranked:
            names.remove(name)
    return drawn


def _rank(size: int, rng: Random) -> int:
    ranks = range(min(size, RANKS))
    return rng.choices(ranks, [2.0**-rank for rank in ranks])[0]
