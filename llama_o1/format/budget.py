"""The token budget a model can see: control tokens at exact positions of a path's thinking.

BudgetThinker section 3.1: with K parts of a budget B, y_t is control token k when t = k * floor(B / K).
Ours: they are inserted (a sampled token is never overwritten) and count as thinking tokens, so
position t of the path *is* the control token. t starts at 1 and counts the text of every thought
below the root that is not a conclusion, `<end_of_thought>` included, headers, tags and ratings not.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_o1.errors import ConfigError
from llama_o1.format.tokens import BUDGET_PARTS

LEAST_BUDGET = 2 * BUDGET_PARTS


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """Where the control tokens of one path stand."""

    total: int  # thinking tokens of a path
    remaining: tuple[int, ...]  # ids of the control tokens, 7/8 first; () shows no budget

    def __post_init__(self) -> None:
        """Refuse a budget whose parts cannot hold a control token and a thought token."""
        if self.total < LEAST_BUDGET:
            raise ConfigError(
                f"path budget must be at least {LEAST_BUDGET} tokens, {BUDGET_PARTS} parts of two, "
                f"got {self.total}"
            )

    def token_at(self, position: int) -> int | None:
        """Id of the control token at this thinking position, counted from 1; None: none is there."""
        part, rest = divmod(position, self.total // BUDGET_PARTS)
        if rest or not 1 <= part <= len(self.remaining):
            return None
        return self.remaining[part - 1]

    def free_from(self, position: int) -> int | None:
        """How many positions from this one on hold no control token; None: none comes any more."""
        size = self.total // BUDGET_PARTS
        part = max(1, -(-position // size))
        return part * size - position if part <= len(self.remaining) else None

    def weave(self, ids: tuple[int, ...], position: int) -> tuple[int, ...]:
        """These ids with control tokens inserted, the first id wanting thinking position `position`."""
        out: list[int] = []
        for token in ids:
            while (control := self.token_at(position + len(out))) is not None:
                out.append(control)
            out.append(token)
        return tuple(out)
