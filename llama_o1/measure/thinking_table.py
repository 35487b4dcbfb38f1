"""What an evaluation says of thinking budgets, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_o1.measure.cells import Table, between, percent, points

PER = 100  # thinking tokens: the slope is shown for so many


def budget_table(result: Mapping[str, Any], name: str) -> Table:
    """How each method kept to each budget."""
    rows: Table = [
        (
            "method", "budget", "right % [95 %]", "within % [95 %]", "follows % [95 %]",
            "follows more [95 %]", "used %", "thinks", "least", "most", "answer", "over", "cut",
            "no answer", "no thinking",
        )
    ]  # fmt: skip
    for budget in result["budgets"]:
        for method, found in result["thinking"][name].items():
            one = found["budget"][str(budget)]
            lengths = one["lengths"]
            rows.append(
                (
                    method,
                    str(budget),
                    percent(*_ends(one["accuracy"])),
                    percent(*_ends(one["control"])),
                    percent(*_ends(one["following"])),
                    points(*_ends(one["follows_more"])) if "follows_more" in one else "",
                    "" if one["utilisation"] is None else f"{100 * one['utilisation']['mean']:.1f}",
                    f"{lengths['mean']:.1f}",
                    str(lengths["least"]),
                    str(lengths["most"]),
                    f"{lengths['answer_tokens']:.1f}",
                    *(str(lengths[kind]) for kind in ("over_limit", "cut")),
                    *(str(lengths[kind]) for kind in ("without_answer", "without_thinking")),
                )
            )
    return rows


def scaling_table(result: Mapping[str, Any], name: str) -> Table:
    """s1's measures of each method over all budgets."""
    rows: Table = [("method", "Control % [95 %]", "Scaling [95 %]", "Performance % [95 %]")]
    for method, found in result["thinking"][name].items():
        slope = found["scaling"]
        shown = "" if slope is None else between(*_ends(slope), 100 * PER, "+.2f")
        rows.append((method, percent(*_ends(found["control"])), shown, percent(*_ends(found["performance"]))))
    return rows


def thinking_notes(result: Mapping[str, Any]) -> list[str]:
    """What the tables show, in words."""
    other = [method for method, found in result["thinking"]["all"].items() if found["counts"] == "tokens"]
    lines = [
        "within: thinking tokens are at most the budget, and at least its minimum where it has one. follows: "
        "at most the budget, and the model ended by itself. used: mean share of the budget of those that "
        "follow. cut: it did not end by itself. over (the budget), cut, no answer, no thinking: trials.",
        "Control, Scaling and Performance as s1 has them: within, over all budgets; the mean slope over all "
        f"pairs of budgets, in points of accuracy for {PER} thinking tokens (mean lengths that hardly differ "
        "make it large); the best accuracy of any budget. Intervals of these: bootstrap over problems.",
    ]
    if other:
        lines.append(f"Budget and length of {', '.join(other)} are all tokens of a tree.")
    return lines


def _ends(one: Mapping[str, float]) -> tuple[float, float, float]:
    return one["mean"], one["low"], one["high"]
