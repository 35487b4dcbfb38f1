"""Who writes for each method at each budget of an evaluation."""

from __future__ import annotations

from functools import cached_property

from llama_o1 import assemble
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import special_ids
from llama_o1.measure.settings import EvalConfig
from llama_o1.play.expand import Expander
from llama_o1.play.selfplay import fitted
from llama_o1.play.writer import Writer


def families(config: EvalConfig) -> list[MarkSettings]:
    """The families of control tokens that the methods show; the settings' own where none shows any."""
    shown = [config.thoughts_of(method, max(config.budgets)) for method in config.methods]
    return list(dict.fromkeys(one.marks for one in shown if one.show_budget)) or [config.thoughts.marks]


class Writers:
    """The expander of every method at every budget, all of one model."""

    def __init__(self, config: EvalConfig, system: assemble.System) -> None:
        """ModelError where the model has not the control tokens of a method, ConfigError where a budget is
        more than its context or its control tokens hold, or too few tokens for an answer.
        """
        self._config, self._system = config, system
        tokenizer = system.loaded.tokenizer
        self._special = {
            marks: special_ids(tokenizer, config.model.path, marks) for marks in families(config)
        }
        for method in config.methods:
            for budget in {min(config.budgets), max(config.budgets)}:
                writer = fitted(self.expander(method, budget), config.settings_of(method, budget))
                writer.limits(config.settings_of(method, budget).budget_tokens)

    def expander(self, method: str, budget: int) -> Expander:
        """Who writes for a method at a budget."""
        thoughts = self._config.thoughts_of(method, budget)
        special = self._special.get(thoughts.marks) if thoughts.show_budget else None
        return assemble.expander(self._system, thoughts, special)

    def holds(self, question: str) -> bool:
        """Whether the context has room for the question with every method at every budget."""
        return all(writer.holds(question) for writer in self._widest)

    @cached_property
    def _widest(self) -> list[Writer]:
        """Each method's writer at the greatest budget."""
        config, most = self._config, max(self._config.budgets)
        return [
            fitted(self.expander(method, most), config.settings_of(method, most)) for method in config.methods
        ]
