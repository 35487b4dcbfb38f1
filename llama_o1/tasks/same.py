"""Whether two declared answers are one answer, by the verifier's own equality and without any gold answer."""

from __future__ import annotations

from functools import lru_cache

from llama_o1.tasks.problem import Problem
from llama_o1.tasks.verify import verify


@lru_cache(maxsize=4096)
def same_answer(first: str, second: str) -> bool:
    """Whether the verifier, given either as if it were the gold answer, takes the other for right.

    Both are canonical forms, as `canonical_answer` makes them: two plain numbers are one only if equal.
    """
    if first == second or (_is_plain(first) and _is_plain(second)):
        return first == second
    return _takes(first, second) or _takes(second, first)


def _takes(gold: str, given: str) -> bool:
    problem = Problem(id="vote", question="", answer=gold, source="vote")
    return verify(f"\\boxed{{{given}}}", problem).verdict == "correct"


def _is_plain(answer: str) -> bool:
    return answer.lstrip("-").replace(".", "", 1).isdecimal()
