"""The special tokens: their names, in a fixed order, and their ids in one tokenizer.

OpenLongCoT's fifteen (SimpleBerry/OpenLongCoT-Pretrain) and BudgetThinker's seven (section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from llama_o1.errors import ModelError
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

BUDGET_PARTS = 8
REMAINING = tuple(f"<remaining>{i}/{BUDGET_PARTS}</remaining>" for i in range(BUDGET_PARTS - 1, 0, -1))

SPECIAL_TOKENS = (
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
    *REMAINING,
)


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
    remaining: tuple[int, ...]  # 7/8 first, 1/8 last

    def action_of(self, first_id: int) -> MetaAction:
        """The meta-action of a thought below the root whose text starts with this id."""
        for action in (MetaAction.DIVIDE, MetaAction.CRITIC, MetaAction.REFINE, MetaAction.CONCLUDE):
            if self.tags[action] == first_id:
                return action
        return MetaAction.EXPAND


def special_ids(tokenizer: Tokenizer, name: str) -> SpecialIds:
    """Ids of all special tokens; ModelError with the command that adds them when one is missing.

    Each token must survive the round trip text -> one id -> text.
    """
    ids: dict[str, int] = {}
    for token in SPECIAL_TOKENS:
        encoded = tokenizer.encode(token, add_special_tokens=False, split_special_tokens=False)
        if len(encoded) != 1 or tokenizer.decode(encoded, skip_special_tokens=False) != token:
            raise ModelError(
                f"model {name} has no single token for {token}; add the special tokens with "
                f"`llama-o1 init {name} OUT` and use OUT"
            )
        ids[token] = encoded[0]
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
        remaining=tuple(ids[token] for token in REMAINING),
    )
