"""The token budget a model can see: control tokens at exact positions of a path's thinking.

BudgetThinker section 3.1, mode `ratio`: with K parts of a budget B, y_t is control token k when
t = k * floor(B / K). Mode `every`: one at every n-th position, which names the largest multiple of n that
remains; BudgetThinker counts down from the multiple above B and so promises up to n tokens too many.
Ours: they are inserted (a sampled token is never overwritten) and count as thinking tokens, so
position t of the path *is* the control token. t starts at 1 and counts the text of every thought
below the root that is not a conclusion, `<end_of_thought>` included, headers, tags and ratings not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llama_o1.errors import ConfigError
from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """Where the control tokens of one path stand."""

    total: int  # thinking tokens of a path
    remaining: tuple[int, ...]  # ids of the control tokens, most that remains first; () shows no budget
    marks: MarkSettings = field(default_factory=MarkSettings)

    def __post_init__(self) -> None:
        """Refuse a budget too small for the family, or too large for its tokens."""
        marks = self.marks
        if self.total < marks.least_budget:
            raise ConfigError(
                f"path_budget must be at least {marks.least_budget}, got {self.total}; "
                "raise it or lower marks.size"
            )
        most = self.total // marks.size - 1
        if marks.mode == "every" and 0 < len(self.remaining) < most:
            raise ConfigError(
                f"path_budget {self.total} needs the control token {marks.name(most)}, the vocabulary has "
                f"them up to {marks.name(len(self.remaining))}; lower the budget, or add more by "
                f"`llama-o1 init MODEL OUT {marks.flags} --marks.longest {self.total}`"
            )

    def token_at(self, position: int) -> int | None:
        """Id of the control token at this thinking position, counted from 1; None: none is there."""
        part, rest = divmod(position, self._step)
        if rest or not 1 <= part <= self._last:
            return None
        if self.marks.mode == "ratio":
            return self.remaining[part - 1]
        return self.remaining[len(self.remaining) - (self.total - position) // self.marks.size]

    def free_from(self, position: int) -> int | None:
        """How many positions from this one on hold no control token; None: none comes any more."""
        part = max(1, -(-position // self._step))
        return part * self._step - position if part <= self._last else None

    def weave(self, ids: tuple[int, ...], position: int) -> tuple[int, ...]:
        """These ids with control tokens inserted, the first id wanting thinking position `position`."""
        out: list[int] = []
        for token in ids:
            while (control := self.token_at(position + len(out))) is not None:
                out.append(control)
            out.append(token)
        return tuple(out)

    @property
    def _step(self) -> int:
        """Positions from one control token to the next."""
        return self.total // self.marks.size if self.marks.mode == "ratio" else self.marks.size

    @property
    def _last(self) -> int:
        """How many control tokens there are."""
        most = len(self.remaining) if self.marks.mode == "ratio" else self.total // self.marks.size - 1
        return min(most, len(self.remaining))


def budget_words(plan: BudgetPlan, codec: Codec) -> str:
    """The budget in words, as BudgetThinker puts them after a question; names the control tokens to come."""
    there = [token for t in range(1, plan.total + 1) if (token := plan.token_at(t)) is not None]
    return budget_sentence(plan.total, [codec.decode([token]) for token in there], plan.marks)


def budget_sentence(total: int, names: Sequence[str], marks: MarkSettings) -> str:
    """The sentence about a budget of `total` tokens in which these control tokens will stand."""
    within = f"(Complete thinking within {total} tokens or fewer"
    if not names:
        return f"{within}.)"
    shown = f"{len(names)} special tokens ( {' '.join(names)} )"
    split = f"into {marks.size} parts" if marks.mode == "ratio" else f"every {marks.size} tokens"
    return f"{within}, {shown} will split the thinking process {split}.)"
