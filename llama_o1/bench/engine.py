"""`bench engine`: our engine against transformers' generate, vLLM and itself under other conditions.

All in one run over the same weights and prompts. Prompts are new in every repeat, so that nothing is
cached by accident; every system keeps its caches from row to row, as a search would.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from llama_o1.bench import vllm
from llama_o1.bench.measure import Ratio, Row, Spent, measure
from llama_o1.bench.model import bench_model, described
from llama_o1.bench.report import Report
from llama_o1.bench.settings import EngineBench
from llama_o1.bench.systems import Generate, Ours, System
from llama_o1.bench.work import Work, equal, unforced, works
from llama_o1.progress import bar

OURS, GENERATE, VLLM = "llama-o1", "generate", "vllm"
Change = Callable[[Work], Work]


def run(settings: EngineBench) -> Report:
    """Measure the chosen rows."""
    model = bench_model(settings.model, settings.longest, settings.dtype)
    with ExitStack() as stack:
        systems, notes = _systems(model, settings, stack)
        rows = [_row(name, systems, settings, model) for name in settings.chosen]
        progress = stack.enter_context(
            bar(settings.repeats * sum(len(row.systems) for row in rows), "bench engine", "run")
        )
        for system in systems.values():
            _warm_up(system, settings, model.config.get_text_config().vocab_size)
        measured = []
        for row in rows:
            progress.set_postfix_str(row.name)
            measured.append(measure(row, settings.repeats, progress.update))
    return Report("engine", described(model, settings.dtype), asdict(settings), measured, notes=notes)


def _systems(model: Any, settings: EngineBench, stack: ExitStack) -> tuple[dict[str, System], list[str]]:
    """Whoever is there by name, and what the report says of those who are not."""
    ours = Ours(model, slots=settings.slots, cache_bytes=settings.cache_mb << 20, threads=settings.threads)
    systems: dict[str, System] = {OURS: ours, GENERATE: Generate(model, threads=settings.threads)}
    if not settings.vllm:
        return systems, []
    if not vllm.is_there():
        return systems, [vllm.MISSING]
    other = vllm.Vllm(model, settings)
    stack.callback(other.close)
    return systems | {VLLM: other}, []


def _warm_up(system: System, settings: EngineBench, vocab: int) -> None:
    """A system's first and its longest work pay for what is made once; nobody measures them."""
    longest = settings.longest - settings.segment
    (work,) = works("nodes4", replace(settings, nodes=4, prompt=longest, new=settings.segment), vocab, -1)
    system.run(work)


def _row(name: str, systems: dict[str, System], settings: EngineBench, model: Any) -> Row:
    vocab = model.config.get_text_config().vocab_size

    def doing(system: System, change: Change | None = None) -> Callable[[int], Spent]:
        return partial(_do, system, name, settings, vocab, change)

    ours = doing(systems[OURS])
    if name == "ragged":
        others = {"equal": doing(systems[OURS], equal)}
        ratios = [Ratio("ragged_cost", "ragged", "equal", "goal <= 0.15", is_cost=True)]
        return Row(name, "tokens", {"ragged": ours} | others, tuple(ratios))
    if name == "forced":
        others = {"unforced": doing(systems[OURS], unforced)}
        ratios = [Ratio("forced_cost", "forced", "unforced", is_cost=True)]
        return Row(name, "tokens", {"forced": ours} | others, tuple(ratios))
    if name == "prefix_sharing":
        without = Ours(model, slots=settings.slots, cache_bytes=0, threads=settings.threads)
        _warm_up(without, settings, vocab)
        ratios = [Ratio("prefix_sharing", "shared", "unshared")]
        return Row(name, "tokens", {"shared": ours, "unshared": doing(without)}, tuple(ratios))
    found = {OURS: ours}
    ratios = []
    short = name.removeprefix("generate_")
    if short != name:
        found[GENERATE] = doing(systems[GENERATE])
        goal = "goal >= 1.5" if short == "b64" else ""
        ratios.append(Ratio(f"vs_{name}", OURS, GENERATE, goal))
    if VLLM in systems:
        found[VLLM] = doing(systems[VLLM])
        goal = {"nodes4": "goal >= 1"}.get(name, "" if short != name else "goal >= 0.9")
        ratios.append(Ratio(f"vs_vllm_{short}", OURS, VLLM, goal))
    unit = {"leaf_scoring": "prompts", "prefill": "prompt tokens"}.get(name, "tokens")
    return Row(name, unit, found, tuple(ratios))


def _do(
    system: System, row: str, settings: EngineBench, vocab: int, change: Change | None, repeat: int
) -> Spent:
    """Do a row's work of this repeat; `units` become the row's."""
    total = Spent(0, 0.0, 0.0)
    for work in works(row, settings, vocab, repeat):
        work = work if change is None else change(work)
        spent = system.run(work)
        wanted = work.sampled or len(work.prompts)
        assert spent.units == wanted, f"{row}: {spent.units} units came back, {wanted} were wanted"
        if row == "prefill":
            spent = spent._replace(units=sum(map(len, work.prompts)))
        total = total + spent
    return total
