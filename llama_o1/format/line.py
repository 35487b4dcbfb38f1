"""A line of plain text: its settings, and the one way its prompt and its answer's beginning are written.

Training and inference both write them by `prompt_ids` and `answer_ids`. Must not import torch: the command
line reads the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan, budget_sentence, budget_words
from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings


@dataclass(frozen=True)
class LineSettings:
    """Delimiters are text; special tokens of the model in them are taken as such."""

    prompt: str = "{question}\n"
    """What stands around the question, chat markers and all."""
    tell_budget: bool = True
    """Say the budget in words after the question."""
    begin: str = "<think>\n"
    """Forced before the thinking."""
    end: str = "</think>"
    """Ends the thinking, drawn by the model or forced."""
    answer: str = "\n**Final Answer**\\boxed{"
    """Forced after it."""
    answer_end: str = "}"
    """Ends the answer; a brace waits for those opened in it."""
    wait: str = "\nWait"
    """Appended in place of an end that is drawn too early."""
    waits: int = 0
    """How many ends are not taken (s1's budget forcing)."""
    min_thinking: int = 0
    """Thinking tokens before an end is taken."""

    def __post_init__(self) -> None:
        """Refuse delimiters that end nothing and a prompt without its question."""
        if self.prompt.count("{question}") != 1:
            raise ConfigError(f"thoughts.line.prompt must hold {{question}} once, got {self.prompt!r}")
        for name in ("end", "answer_end", "wait"):
            if not getattr(self, name):
                raise ConfigError(f"thoughts.line.{name} must not be empty")
        for name in ("waits", "min_thinking"):
            if getattr(self, name) < 0:
                raise ConfigError(f"thoughts.line.{name} must be at least 0, got {getattr(self, name)}")


def prompt_ids(question: str, line: LineSettings, plan: BudgetPlan, codec: Codec) -> tuple[int, ...]:
    """What a line begins with: the question in its prompt, the budget in words, the beginning of thinking."""
    before, _, after = line.prompt.partition("{question}")
    words = f"\n{budget_words(plan, codec)}" if line.tell_budget else ""
    return (
        *codec.encode_template(before),
        *codec.encode(question.strip()),  # a name of a special token in a question stays plain text
        *codec.encode_template(words + after + line.begin),
    )


def answer_ids(line: LineSettings, codec: Codec) -> tuple[int, ...]:
    """What stands between thinking and answer: the end of the one, the beginning of the other."""
    return tuple(codec.encode_template(line.end + line.answer))


def template_texts(line: LineSettings, marks: MarkSettings) -> Iterator[str]:
    """The texts that stand around question, thinking and answer: what a new tokenizer should know."""
    yield from line.prompt.split("{question}")
    yield from (line.begin, line.end, line.answer, line.answer_end, line.wait)
    for names in ((), ("", "")):
        yield f"\n{budget_sentence(0, names, marks)}" if line.tell_budget else ""
