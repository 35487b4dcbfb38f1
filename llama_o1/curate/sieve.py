"""The cheap stages: each says of every candidate why it is dropped, or None. Pure, no model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from llama_o1.curate.candidate import Candidate
from llama_o1.curate.quality import Limits, Texts, broken_rules
from llama_o1.curate.settings import CurateConfig
from llama_o1.tasks.overlap import Question, overlaps
from llama_o1.tasks.problems import canonical
from llama_o1.tasks.same import same_answer
from llama_o1.tasks.verify import declared_answer, verify

Reasons = list[str | None]
Told = Callable[[], object]  # called once a candidate, for a bar


def duplicated(pool: Sequence[Candidate], by: Literal["text", "story"], told: Told = lambda: None) -> Reasons:
    """Questions that stand earlier in the pool; those with another gold answer are counted apart."""
    first: dict[str, Candidate] = {}
    reasons: Reasons = []
    for one in pool:
        question = one.problem.question
        text = canonical(question) if by == "story" else " ".join(question.lower().split())
        before = first.setdefault(text, one)
        told()
        if before is one:
            reasons.append(None)
        elif by == "story" or same_answer(before.problem.answer, one.problem.answer):
            reasons.append("again")
        else:
            reasons.append("again, with another answer")
    return reasons


def contaminated(
    pool: Sequence[Candidate], name: str, held_out: Iterable[Question], words: int, told: Told = lambda: None
) -> Reasons:
    """Questions that share so many words in a row with a held-out one, or all words of a shorter one."""
    held = list(held_out)
    folded = {" ".join(question.text.lower().split()) for question in held}
    reasons: Reasons = [
        f"in {name}" if " ".join(one.problem.question.lower().split()) in folded else None for one in pool
    ]
    for found in overlaps(_asked(pool, told), held, words):
        reasons[int(found.train)] = f"in {name}"
    return reasons


def _asked(pool: Sequence[Candidate], told: Told) -> Iterable[Question]:
    for index, one in enumerate(pool):
        yield Question(str(index), one.problem.question)
        told()


def unfit(pool: Sequence[Candidate], config: CurateConfig, told: Told = lambda: None) -> list[list[str]]:
    """The format rules that each breaks."""
    found = []
    for one in pool:
        limits = Limits(config.least_words, config.longest_trace, one.length)
        found.append(broken_rules(_texts(one), limits, config.rules))
        told()
    return found


def _texts(one: Candidate) -> Texts:
    problem = one.problem

    def is_right() -> bool:
        return declared_answer(one.trace) is None or verify(one.trace, problem).verdict == "correct"

    def gold_verifies() -> bool:
        return verify(f"\\boxed{{{problem.answer}}}", problem).verdict == "correct"

    return Texts(problem.question, one.trace, is_right, gold_verifies)
