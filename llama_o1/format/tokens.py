"""The special tokens: their names, in a fixed order, and their ids in one tokenizer.

OpenLongCoT's fifteen (SimpleBerry/OpenLongCoT-Pretrain) and a family of control tokens (marks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from llama_o1.errors import ModelError
from llama_o1.format.marks import MarkSettings
from tree.actions import MetaAction

START_OF_FATHER_ID = "<start_of_father_id>"
END_OF_FATHER_ID = "<end_of_father_id>"
START_OF_LOCAL_ID = "<start_of_local_id>"
END_OF_LOCAL_ID = "<end_of_local_id>"
START_OF_THOUGHT = "<start_of_thought>"
END_OF_THOUGHT = "<end_of_thought>"
START_OF_RATING = "<start_of_rating>"
END_OF_RATING = "<end_of_rating>"
POSITIVE = "<positive_rating>"
NEGATIVE = "<negative_rating>"
UNKNOWN = "<unknown_rating>"

TAGS: dict[MetaAction, str] = {
    MetaAction.PROBLEM: "<problem>",
    MetaAction.EXPAND: "",
    MetaAction.DIVIDE: "<problem>",
    MetaAction.CRITIC: "<critic>",
    MetaAction.REFINE: "<refine>",
    MetaAction.CONCLUDE: "<conclusion>",
}

STRUCTURE = (
    START_OF_FATHER_ID,
    END_OF_FATHER_ID,
    START_OF_LOCAL_ID,
    END_OF_LOCAL_ID,
    START_OF_THOUGHT,
    END_OF_THOUGHT,
    START_OF_RATING,
    END_OF_RATING,
    POSITIVE,
    NEGATIVE,
    UNKNOWN,
    "<problem>",
    "<critic>",
    "<refine>",
    "<conclusion>",
)
REMAINING = MarkSettings().names()
SPECIAL_TOKENS = (*STRUCTURE, *REMAINING)  # of a model that shows budgets by the default family


@runtime_checkable
class Tokenizer(Protocol):
    """What we use of a Hugging Face tokenizer."""

    def __len__(self) -> int:
        """Number of tokens, added ones included."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """Id with which the model ends what it writes; None: it has none."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Ids of a text; `split_special_tokens` reads names of special tokens as plain text."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> Any:
        """Text of ids."""
        ...


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the special tokens in one tokenizer."""

    start_of_father_id: int
    end_of_father_id: int
    start_of_local_id: int
    end_of_local_id: int
    start_of_thought: int
    end_of_thought: int
    start_of_rating: int
    end_of_rating: int
    positive: int
    negative: int
    unknown: int
    tags: dict[MetaAction, int | None]  # None: the meta-action is written without a tag
    remaining: tuple[int, ...]  # control tokens of the budget, the one for most that remains first

    def all(self) -> list[int]:
        """Every id, those of the structure first."""
        structure = (self.start_of_father_id, self.end_of_father_id, self.start_of_local_id)
        ends = (self.end_of_local_id, self.start_of_thought, self.end_of_thought)
        ratings = (
            self.start_of_rating, self.end_of_rating, self.positive, self.negative, self.unknown
        )  # fmt: skip
        tags = dict.fromkeys(tag for tag in self.tags.values() if tag is not None)
        return [*structure, *ends, *ratings, *tags, *self.remaining]

    def action_of(self, first_id: int) -> MetaAction:
        """The meta-action of a thought below the root whose text starts with this id."""
        for action in (MetaAction.DIVIDE, MetaAction.CRITIC, MetaAction.REFINE, MetaAction.CONCLUDE):
            if self.tags[action] == first_id:
                return action
        return MetaAction.EXPAND


def special_ids(tokenizer: Tokenizer, name: str, marks: MarkSettings | None = None) -> SpecialIds:
    """Ids of all special tokens; ModelError with the command that adds them when one is missing.

    Each token must survive the round trip text -> one id -> text. `marks` None: the default family. Of a
    family of mode `every` a vocabulary may hold more or less than another; all that it holds count.
    """
    marks = marks or MarkSettings()
    add = "" if marks == MarkSettings() else f" {marks.flags}"

    def one(token: str) -> int:
        found = _single(tokenizer, token)
        if found is None:
            raise ModelError(
                f"model {name} has no single token for {token}; add the special tokens with "
                f"`llama-o1 init {name} OUT{add}` and use OUT"
            )
        return found

    ids = {token: one(token) for token in STRUCTURE}
    if marks.mode == "ratio":
        remaining = [one(mark) for mark in marks.names()]
    else:
        remaining = [one(marks.name(1))]
        while (more := _single(tokenizer, marks.name(len(remaining) + 1))) is not None:
            remaining.append(more)
        remaining.reverse()
    return SpecialIds(
        start_of_father_id=ids[START_OF_FATHER_ID],
        end_of_father_id=ids[END_OF_FATHER_ID],
        start_of_local_id=ids[START_OF_LOCAL_ID],
        end_of_local_id=ids[END_OF_LOCAL_ID],
        start_of_thought=ids[START_OF_THOUGHT],
        end_of_thought=ids[END_OF_THOUGHT],
        start_of_rating=ids[START_OF_RATING],
        end_of_rating=ids[END_OF_RATING],
        positive=ids[POSITIVE],
        negative=ids[NEGATIVE],
        unknown=ids[UNKNOWN],
        tags={action: ids[tag] if tag else None for action, tag in TAGS.items()},
        remaining=tuple(remaining),
    )


def _single(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of a token that is one, both ways."""
    encoded = tokenizer.encode(token, add_special_tokens=False, split_special_tokens=False)
    whole = len(encoded) == 1 and tokenizer.decode(encoded, skip_special_tokens=False) == token
    return encoded[0] if whole else None
