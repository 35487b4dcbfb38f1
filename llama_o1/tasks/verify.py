r"""Whether a text's declared final answer is right, whatever the text: it cannot hang, raise or be evaluated.

Three steps, each only where the one before does not decide: equal text, exact comparison of numbers, lists,
intervals, units and the like (equal.py), and for what is left the symbolic checker in processes that
can be killed (symbolic.py). Numbers are compared as fractions, never rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from llama_o1.tasks.arithmetic import evaluate, numbers_in
from llama_o1.tasks.canonical import folded, form_text, is_several
from llama_o1.tasks.clean import clean
from llama_o1.tasks.declared import MAX_ANSWER_CHARS, declared_answer, find_declared
from llama_o1.tasks.equal import FRACTION, same
from llama_o1.tasks.forms import Form, Group, read_form
from llama_o1.tasks.problem import AnswerKind, Problem, Verdict
from llama_o1.tasks.symbolic import Deadline, Undecided
from llama_o1.tasks.workers import WorkerPool

__all__ = ["MAX_ANSWER_CHARS", "canonical_answer", "declared_answer", "failing_golds", "problem_of", "verify"]


def verify(
    text: str,
    gold: str | Problem,
    *,
    answer_is: bool = False,
    bare: bool = False,
    pool: WorkerPool | None = None,
) -> Verdict:
    """Verdict on the answer that a text declares; never raises, whatever the text.

    `answer_is` also takes "the answer is x" for a declaration, `bare` a text without one for the answer
    itself. `rule` names what decided: `none declared`, `negated`, `too long`, `several answers`, `empty`;
    `string`, `number`, `percent`, `unit`, `base`, `text`, `list`, `set`, `tuple`, `interval`, `matrix`,
    `several`, `equation`, `unevaluated`, `unbalanced`, `symbolic`; `choice`, `choice text`, `not a choice`;
    `expression`, `not an expression`, `numbers used`, `target`; `time limit`, `memory limit`, `too large`.
    Only the last three are a `timeout`.
    """
    problem = problem_of(gold) if isinstance(gold, str) else gold
    declared, rule = find_declared(text, answer_is=answer_is, bare=bare)
    if declared is None:
        return Verdict("unparsed", None, rule)
    if problem.kind == "expression":
        return _verify_expression(declared, problem)
    if problem.kind == "choice":
        return _verify_choice(declared, problem)
    return _verify_value(declared, problem, pool)


@lru_cache(maxsize=1024)
def problem_of(gold: str) -> Problem:
    """A gold answer, alone or declared by a worked solution, as a problem without a question."""
    answer = declared_answer(gold) or gold.strip()
    kind: AnswerKind = "choice" if _GOLD_CHOICE.fullmatch(answer) else "number"
    return Problem("gold", "", answer, "gold", kind)


def canonical_answer(text: str, kind: AnswerKind) -> str | None:
    r"""One form for each answer a text may declare, made without the gold: equal answers merge in a vote.

    A number is its plain decimal or "p/q" without unit, an expression loses spaces and what follows "=" (its
    form counts, not its value), a choice is an upper-case letter, lists and sets are of such forms, other
    text is folded. None: nothing that can be read is declared. Nothing is compared symbolically, so
    `2\sqrt{2}` and `\sqrt{8}` stay apart. Grade the text itself, not this form: it has lost the unit.
    """
    declared = declared_answer(text)
    return None if declared is None else _canonical(declared, kind)


def failing_golds(problems: Iterable[Problem]) -> list[tuple[Problem, Verdict]]:
    """The problems whose gold answer does not verify against itself, with what the checker says of it."""
    verdicts = ((problem, verify(f"\\boxed{{{problem.answer}}}", problem)) for problem in problems)
    return [(problem, verdict) for problem, verdict in verdicts if verdict.verdict != "correct"]


_GOLD_CHOICE = re.compile(r"\(([A-Za-z])\)|[A-J]")
_NEGATED = re.compile(
    r"\\?(?:not\b|neq?\b|ne\b)|(?:it(?:'s| is)|this is|(?:the )?answer is|is|definitely) not\b"
    r"|(?:\w+ ){0,3}isn't\b",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*(?:is|:)?\s+)?"
    r"(?:\(\s?([a-z])\s?\)|\[\s?([a-z])\s?\]|([a-z]))"
    r"(?:\s?[).:,-](.*)|\s+(?=[^a-z(]|[a-z]{3})(.*))?",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_CHOICE = re.compile(
    r"\([A-Za-z]\)|(?:^|\b(?:or|and)\b|[,/&])\s*\(?[A-Za-z]\)?\s*(?:$|[,).:/&]|\b(?:or|and)\b)"
)
_TO_CALCULATOR = str.maketrans("×÷−[]", "*/-()")
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")


def _verify_value(declared: str, problem: Problem, pool: WorkerPool | None) -> Verdict:
    """Text, then forms; a unit counts only where the gold has one too, and a percent sign is a unit."""
    if _NUMBER.fullmatch(declared) and _NUMBER.fullmatch(problem.answer):
        right = int(declared) == int(problem.answer)
        return Verdict(
            "correct" if right else "wrong",
            str(int(declared)),
            "string" if declared == problem.answer else "number",
        )
    given = _read(declared)
    gold = _read(problem.answer)
    if given.text == gold.text:
        return Verdict("correct", given.answer or gold.text, "string")
    if not given.text:
        return Verdict("unparsed", None, "empty")
    if given.is_negated:
        return Verdict("unparsed", None, "negated")
    try:
        in_any_order = _ASKS_FOR_ALL.search(problem.question) is not None
        is_same, rule = same(gold.form, given.form, Deadline(pool).same, in_any_order=in_any_order)
    except Undecided as limit:
        return Verdict("timeout", given.answer or given.text, str(limit))
    if is_same:
        return Verdict("correct", given.answer or gold.text, rule)
    if not isinstance(gold.form, Group) and is_several(given.form):
        return Verdict("unparsed", None, "several answers")
    return Verdict("wrong", given.answer or given.text, rule)


_ASKS_FOR_ALL = re.compile(
    r"\b(?:all|both)\b[^.?]*\b(?:values?|solutions?|roots?|numbers?|integers?|primes?|zeros|factors|divisors|points)\b"
    r"|\bin any order\b|\bseparated by commas\b|\bwhat are the (?:roots|solutions|zeros)\b",
    re.IGNORECASE,
)


class _Read(NamedTuple):
    text: str  # folded
    form: Form
    is_negated: bool
    answer: str | None  # canonical; None: there is not one answer


@lru_cache(maxsize=8192)
def _read(answer: str) -> _Read:
    """An answer in all its readings, remembered because golds and common answers come many times."""
    cleaned = clean(answer)
    form = read_form(cleaned)
    is_negated = _NEGATED.match(cleaned) is not None
    is_one = cleaned and not is_negated and not is_several(form)
    return _Read(folded(cleaned), form, is_negated, form_text(form) or folded(cleaned) if is_one else None)


def _verify_choice(declared: str, problem: Problem) -> Verdict:
    """Equal letters, however they are dressed: (A), A., "A) 12"."""
    letter = _letter(declared)
    if letter is None and (found := _option(declared, problem)) is not None:
        return Verdict("correct" if found == _letter(problem.answer) else "wrong", found, "choice text")
    if letter is None:
        if _OTHER_CHOICE.search(clean(declared)):
            return Verdict("unparsed", None, "several answers")
        return Verdict("unparsed", None, "not a choice")
    return Verdict("correct" if letter == _letter(problem.answer) else "wrong", letter, "choice")


def _option(declared: str, problem: Problem) -> str | None:
    """The letter of the only choice whose text is the declared answer."""
    given = _read(declared).form
    found = [letter for letter, text in problem.options if same(_read(text).form, given, _never)[0]]
    return found[0].upper() if len(found) == 1 else None


def _never(gold: str, given: str) -> bool:
    """No expression is compared symbolically with each of the choices."""
    return False


def _verify_expression(declared: str, problem: Problem) -> Verdict:
    """Exactly the target, from every given number used exactly once; "= 24" may stand on either side."""
    sides = _expression(declared).split("=")
    values = [evaluate(side) for side in sides]
    if values[0] is None:
        return Verdict("unparsed", None, "not an expression")
    answer = _canonical(declared, "expression")
    if any(value != values[0] for value in values):
        return Verdict("wrong", answer, "equation")
    if sorted(problem.numbers) not in [sorted(numbers_in(side) or []) for side in sides]:
        return Verdict("wrong", answer, "numbers used")
    if values[0] != problem.target:
        return Verdict("wrong", answer, "target")
    return Verdict("correct", answer, "expression")


def _canonical(declared: str, kind: AnswerKind) -> str | None:
    """Canonical form of a declared answer, see `canonical_answer`."""
    if kind == "choice":
        return _letter(declared)
    if kind == "expression":
        left = _expression(declared).partition("=")[0]
        return None if evaluate(left) is None else "".join(left.split())
    return _read(declared).answer


def _letter(text: str) -> str | None:
    """The choice that a text names, upper case; None when it names none or more than one."""
    match = _CHOICE.fullmatch(clean(text))
    if match is None:
        return None
    rest = match[4] or match[5] or ""
    return None if _OTHER_CHOICE.search(rest) else (match[1] or match[2] or match[3]).upper()


def _expression(declared: str) -> str:
    """A declared expression in the calculator's signs."""
    text = clean(declared)
    for _ in range(3):  # fractions inside of fractions
        text = FRACTION.sub(r"((\1)/(\2))", text)
    return re.sub(r"(?<=[0-9)])\s?[xX]\s?(?=[0-9(])", "*", text).translate(_TO_CALCULATOR)
