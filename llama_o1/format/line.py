"""Settings of a line of plain text: the prompt, and what stands around thinking and answer.

Must not import torch: the command line reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_o1.errors import ConfigError


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
