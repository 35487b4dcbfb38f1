"""Searches from which a run could not learn, refused before a model is loaded."""

from __future__ import annotations

from llama_o1.config import RunConfig
from llama_o1.errors import RunError


def check_learnable(config: RunConfig) -> None:
    """RunError for thoughts that are no draws of the policy, and for plain lines learned from by ratings."""
    if config.search.tree.likeliest_first:
        raise RunError(
            "search.tree.likeliest_first makes thoughts that are no draws of the policy, from which it "
            "cannot learn; leave it to search and eval"
        )
    if config.search.method != "line":
        return
    wanted = {
        "learner.value_weight": (config.learner.value_weight, "0", config.learner.value_weight == 0),
        "teach.advantage": (
            config.teach.advantage,
            "one that compares lines, as group",
            config.teach.advantage not in ("tree", "gae"),
        ),
        "search.num_lines": (config.search.most_lines, "at least 2", config.search.most_lines >= 2),
    }  # fmt: skip
    for name, (found, expected, fits) in wanted.items():
        if not fits:
            raise RunError(
                f"search.method line writes no ratings and learns from lines that compete: {name} must be "
                f"{expected}, got {found}"
            )
