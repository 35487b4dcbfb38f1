"""The comparison as tables: aligned for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_o1.measure.cells import Table, aligned, percent, pipes, points
from llama_o1.measure.compare import ALL
from llama_o1.measure.thinking_table import budget_table, scaling_table, thinking_notes
from llama_o1.measure.trial import VERDICTS

_STATES = "/".join(state[0] for state in VERDICTS)  # c/w/u/t


def terminal_table(result: Mapping[str, Any]) -> str:
    """Accuracies and costs on all problems as one, accuracies on each set, and what the words mean."""
    parts = [_title(result, ALL), aligned(accuracy_table(result, ALL)), "", aligned(cost_table(result, ALL))]
    if len(result["sets"]) > 1:
        parts += ["", "right % [95 %] by set", aligned(sets_table(result))]
        if result["paired"]:
            parts += ["", "less the best baseline of each set [95 %]", aligned(sets_paired_table(result))]
    if "thinking" in result:
        parts += ["", "thinking budgets", *(aligned(one) for one in _thinking_tables(result, ALL))]
    return "\n".join([*parts, "", *notes(result)])


def markdown(result: Mapping[str, Any]) -> str:
    """Every set in every figure, and the samples of each method at k."""
    lines = ["# Methods at equal tokens", "", *notes(result)]
    for name in (ALL, *result["sets"]) if len(result["sets"]) > 1 else result["sets"]:
        lines += ["", f"## {_title(result, name)}"]
        tables = [accuracy_table(result, name), cost_table(result, name), at_k_table(result, name)]
        for table in (*tables, *_thinking_tables(result, name)):
            if len(table) > 1:
                lines += ["", *pipes(table)]
    return "\n".join(lines) + "\n"


def accuracy_table(result: Mapping[str, Any], name: str) -> Table:
    """What each method got right at each budget on the problems of one set, or of all."""
    paired = {(row["method"], row["budget"]): row for row in result["paired"] if row["set"] == name}
    rows: Table = [
        ("method", "budget", "right % [95 %]", "less best baseline [95 %]", "p", "tokens", "holds %", _STATES)
    ]
    for method, budget, one in _each(result, name):
        test = paired.get((method, budget))
        rows.append(
            (
                method,
                str(budget),
                percent(one["accuracy"], one["low"], one["high"]),
                "" if test is None else points(test["difference"], test["low"], test["high"]),
                "" if test is None else _p(test["p"]),
                f"{one['tokens_used']:.0f}",
                f"{100 * one['holds_right']:.1f}",
                "/".join(str(one["verdicts"][state]) for state in VERDICTS),
            )
        )
    return rows


def cost_table(result: Mapping[str, Any], name: str) -> Table:
    """What each method spent at each budget: tokens a problem, seconds, and how the engine was used."""
    parts = ("sampled", "forced", "prefilled", "cached")
    rows: Table = [
        ("method", "budget", *parts, "nodes", "p50 s", "p95 s", "tokens/s", "nodes/s", "busy", "reuse")
    ]
    for method, budget, one in _each(result, name):
        engine, trials = result["engine"][method][str(budget)], sum(one["verdicts"].values())
        rows.append(
            (
                method,
                str(budget),
                *(f"{one['tokens'][part] / trials:.0f}" for part in parts),
                f"{one['nodes']:.1f}",
                f"{one['seconds_p50']:.2f}",
                f"{one['seconds_p95']:.2f}",
                f"{engine['tokens_per_s']:.0f}",
                f"{engine['nodes_per_s']:.0f}",
                f"{engine['occupancy']:.0%}",
                f"{engine['prefix_reuse']:.0%}",
            )
        )
    return rows


def sets_table(result: Mapping[str, Any]) -> Table:
    """A column for each set, with accuracies alone."""
    sets = result["sets"]
    rows: Table = [("method", "budget", *(f"{name} ({one['problems']})" for name, one in sets.items()))]
    for method, budget, _ in _each(result, ALL):
        found = [one["methods"][method]["budget"][str(budget)] for one in sets.values()]
        cells = [percent(one["accuracy"], one["low"], one["high"]) for one in found]
        rows.append((method, str(budget), *cells))
    return rows


def sets_paired_table(result: Mapping[str, Any]) -> Table:
    """A column for each set, with differences alone; a baseline that is the best one is named."""
    paired = {(row["set"], row["method"], row["budget"]): row for row in result["paired"]}
    rows: Table = [("method", "budget", *result["sets"])]
    for method, budget, _ in _each(result, ALL):
        found = [paired.get((name, method, budget)) for name in result["sets"]]
        cells = [
            "best" if one is None else points(one["difference"], one["low"], one["high"]) for one in found
        ]
        rows.append((method, str(budget), *cells))
    return rows


def at_k_table(result: Mapping[str, Any], name: str) -> Table:
    """pass@k and maj@k of seeds and of lines, where there are several; headings alone where there are not."""
    rows: Table = [("method", "budget", "samples are", "avg %", "pass@k %", "maj@k %")]
    for method, budget, one in _each(result, name):
        for samples in ("seeds", "lines"):
            found = one[samples]
            if found["least"] > 1:
                chances = [
                    ", ".join(f"{k}: {100 * chance:.1f}" for k, chance in found[kind].items())
                    for kind in ("pass_at", "maj_at")
                ]
                rows.append((method, str(budget), samples, f"{100 * found['avg']:.1f}", *chances))
    return rows


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the tables show, in words."""
    seeds = result["seeds"]
    tests = "exact McNemar tests" if len(seeds) == 1 else "exact sign tests of means over seeds"
    lines = [
        f"Model {result['model']}, seeds {', '.join(map(str, seeds))}, same problems, engine and verifier.",
        "tokens: generated for a problem (mean), sampled and forced; prefilled and cached: context tokens "
        "that were fed, and that were not.",
        f"holds: trees with a right answer anywhere. {_STATES}: {', '.join(VERDICTS)}. busy: slots of the "
        "engine. reuse: context tokens that were cached. Methods that only count otherwise share "
        "trees and times.",
        "[95 %]: Wilson's interval over problems; of differences, the paired bootstrap over problems. "
        f"p: {tests}, not corrected for being many.",
    ]
    against = [f"{r['budget']}: {r['against']}" for r in result["paired"] if r["set"] == ALL]
    if against:
        lines.append(
            f"Best baseline (of {', '.join(result['baselines'])}) on all problems by budget: "
            f"{', '.join(dict.fromkeys(against))}."
        )
    repaired = [
        f"{method} at {budget}: {r['compared']} of {r['pairs']}, "
        f"fixed {r['fixed']:.1f}, broke {r['broken']:.1f}"
        for method, budget, one in _each(result, ALL)
        if (r := one["repairs"])["pairs"]
    ]
    if repaired:
        lines.append(
            "Critics followed by a refine that could be compared, answers that were wrong without and right "
            f"with them, and the other way round: {'; '.join(repaired)}."
        )
    return [
        *lines,
        *(thinking_notes(result) if "thinking" in result else ()),
        *(
            f"{count} problems of {name} do not fit the model's context and are left out."
            for name, count in result["left_out"].items()
            if count
        ),
    ]


def _each(result: Mapping[str, Any], name: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Every budget and method with its figures, budget by budget."""
    held = result[ALL] if name == ALL else result["sets"][name]
    for budget in result["budgets"]:
        for method in result["methods"]:
            yield method, budget, held["methods"][method]["budget"][str(budget)]


def _thinking_tables(result: Mapping[str, Any], name: str) -> list[Table]:
    """Of thinking budgets; none where no method is told one."""
    return [budget_table(result, name), scaling_table(result, name)] if "thinking" in result else []


def _title(result: Mapping[str, Any], name: str) -> str:
    if name != ALL:
        return f"{name}, {result['sets'][name]['problems']} problems"
    names = ", ".join(f"{one['problems']} of {n}" for n, one in result["sets"].items())
    return f"{result[ALL]['problems']} problems ({names})"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<.001"
