"""What shape an answer has: a number, a list, an interval, a matrix, an expression, words.

Works on answers in plain dress (clean.py), within limits of depth and length. Compares nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from llama_o1.tasks.arithmetic import evaluate
from llama_o1.tasks.brackets import (
    COMMA,
    COMMA_SPACE,
    CUP,
    MAX_PARTS,
    OR,
    PLUS_MINUS,
    RELATION,
    SEMICOLON,
    closes_at_end,
    parts_of,
    split_top,
)
from llama_o1.tasks.quantity import Based, Quantity, read_based, read_quantity
from llama_o1.tasks.units import Unit, is_known, spelled, unit_of

Kind = Literal["list", "any", "set", "()", "[]", "(]", "[)", "union", "matrix", "row"]

MAX_DEPTH = 8


class Number(NamedTuple):
    """A plain number with its unit."""

    quantity: Quantity
    text: str


class Expression(NamedTuple):
    """Mathematics that is no plain number."""

    text: str
    unit: Unit = Unit()


class Words(NamedTuple):
    """Text."""

    text: str


class Named(NamedTuple):
    """A value with the variable it is assigned to: `x = 5`, `x > 3`."""

    name: str
    value: Form


class Group(NamedTuple):
    """Several answers: `list` as written, `any` joined by or, and the bracketed kinds."""

    kind: Kind
    parts: tuple[Form, ...]


Form: TypeAlias = Number | Based | Expression | Words | Named | Group


def read_form(text: str, depth: int = 0) -> Form:
    """The form of a cleaned answer; what is too deep or has too many parts is words."""
    text = text.strip()
    quantity = read_quantity(text)
    if quantity is not None:
        return Number(quantity, text)
    based = read_based(text)
    if based is not None:
        return based
    if depth >= MAX_DEPTH:
        return Words(text)
    for read in (_alternatives, _matrix, _union, _bracketed, _listed, _plus_minus, _relation):
        found = read(text, depth + 1)
        if found is not None:
            return found
    return _scalar(text)


_MATRIX = re.compile(
    r"[(\[]?\s?\\begin\s?\{(?P<name>[pbB]?matrix|smallmatrix|array)\}\s?(?:\{[^{}]*\})?(?P<cells>.*)\\end\s?\{(?P=name)\}\s?[)\]]?"
)
_VARIABLE = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_\{?\w+\}?|'+)?(?:\([a-z](?:,\s?[a-z])*\))?")
_EMPTY_SET = re.compile(r"\\(?:emptyset|varnothing)|\\\{\s*\\\}|empty set|null set", re.IGNORECASE)
_REALS = re.compile(r"\\mathbb\s?\{?\s?R\s?\}?|\\R|all real numbers|all reals", re.IGNORECASE)
_NUMBERS = re.compile(r"-?[0-9.]+(?:/[0-9]+)?(?:\s-?[0-9.]+(?:/[0-9]+)?){1,63}")  # 3 2 1
_VARIABLES = re.compile(r"\([a-z](?:,\s?[a-z])+\)")
_UNIT_TAIL = re.compile(r"(.*?\S)\s+([A-Za-z°][A-Za-z°^0-9/{} ]{0,30})|(.*\S)\s?(°)")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt max min lim gcd lcm mod arg "
    "det frac binom overline".split()
)
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", r"\le": r"\ge", r"\ge": r"\le"}
_STRICT = {"<", ">"}
_INFINITE = (Expression(r"-\infty"), Expression(r"\infty"))


def _alternatives(text: str, depth: int) -> Form | None:
    if "or" not in text and "\\" not in text:
        return None
    parts = parts_of(text, OR)
    if not parts:
        return None
    forms = [form for part in parts for form in _members(read_form(part, depth))]
    return None if all(isinstance(form, Words) for form in forms) else Group("any", tuple(forms))


def _members(form: Form) -> Iterator[Form]:
    """The parts of a list, or the form itself: `1, 2, or 3` is three answers."""
    if isinstance(form, Group) and form.kind in ("list", "any"):
        yield from form.parts
    else:
        yield form


def _matrix(text: str, depth: int) -> Form | None:
    match = _MATRIX.fullmatch(text) if "\\begin" in text else None
    if match is None or "\\begin" in match["cells"]:
        return None
    rows = [row for row in match["cells"].replace("\\cr", "\\\\").split("\\\\") if row.strip()]
    return Group(
        "matrix",
        tuple(
            Group("row", tuple(read_form(cell, depth) for cell in row.split("&")[:MAX_PARTS]))
            for row in rows[:MAX_PARTS]
        ),
    )


def _union(text: str, depth: int) -> Form | None:
    parts = parts_of(text, CUP)
    return Group("union", tuple(read_form(part, depth) for part in parts)) if parts else None


def _bracketed(text: str, depth: int) -> Form | None:
    """What is in one pair of brackets around the whole text."""
    if _EMPTY_SET.fullmatch(text):
        return Group("set", ())
    if _REALS.fullmatch(text):
        return Group("()", _INFINITE)
    is_set = text.startswith("\\{") and text.endswith("\\}")
    width = 2 if is_set else 1
    if not is_set and (text[:1] not in ("(", "[") or text[-1:] not in (")", "]")):
        return None
    if not closes_at_end(text):
        return None
    inner = text[width:-width].strip()
    parts = next((p for p in (parts_of(inner, s) for s in (SEMICOLON, COMMA_SPACE, COMMA)) if p), [])
    if is_set:
        return Group("set", tuple(read_form(part, depth) for part in parts or [inner]))
    if parts:
        kind: Kind = text[0] + text[-1]  # type: ignore[assignment]  # one of the four
        return Group(kind, tuple(read_form(part, depth) for part in parts))
    return read_form(inner, depth) if text[0] == "(" and text[-1] == ")" and inner else None


def _listed(text: str, depth: int) -> Form | None:
    parts = next((p for p in (parts_of(text, s) for s in (SEMICOLON, COMMA_SPACE, COMMA)) if p), [])
    if not parts and _NUMBERS.fullmatch(text):
        return Group("list", tuple(read_form(part, depth) for part in text.split()))
    if not parts:
        return None
    forms = tuple(read_form(part, depth) for part in parts)
    names = [form.name for form in forms if isinstance(form, Named)]
    is_any = (len(names) == len(forms) and len(set(names)) == 1) or ("," not in text and ";" not in text)
    if is_any and all(isinstance(form, Words) for form in forms):
        return None  # "red and blue"
    return Group("any" if is_any else "list", forms)


def _plus_minus(text: str, depth: int) -> Form | None:
    parts = split_top(text, PLUS_MINUS)
    if len(parts) != 3:
        return None
    left, right = parts[0].strip(), parts[2].strip()
    plus = f"{left}+{right}" if left and not left.endswith("=") else f"{left}{right}"
    return Group("any", tuple(form for t in (plus, f"{left}-{right}") for form in [read_form(t, depth)]))


def _relation(text: str, depth: int) -> Form | None:
    """An assignment, an inequality of one variable as an interval, or an equation as an expression."""
    pieces = split_top(text, RELATION)
    if len(pieces) == 1:
        return None
    sides, signs = [side.strip() for side in pieces[::2]], pieces[1::2]
    if not all(sides):
        return None
    if "\\approx" in signs or "\\sim" in signs:
        first = min(signs.index(sign) for sign in ("\\approx", "\\sim") if sign in signs)
        return read_form(text[: text.index(signs[first])], depth)
    if signs == ["\\in"] and _VARIABLE.fullmatch(sides[0]):
        return Named(_name(sides[0]), read_form(sides[1], depth))
    if signs == ["="] and _VARIABLES.fullmatch(sides[0]):
        return read_form(sides[1], depth)
    if set(signs) == {"="}:
        return _equation(sides, depth)
    return _inequality(sides, signs, depth)


def _equation(sides: list[str], depth: int) -> Form | None:
    name = _name(sides[0]) if _VARIABLE.fullmatch(sides[0]) else ""
    if not name and len(sides) == 2 and _VARIABLE.fullmatch(sides[1]):
        name, sides = _name(sides[1]), sides[::-1]
    values = sides[1:] if name else sides
    forms = [read_form(value, depth) for value in values]
    last = forms[-1]
    if len(forms) > 1:
        if not isinstance(last, Number) or any(_value(form) != last.quantity.value for form in forms[:-1]):
            return None
        if not name and not all(isinstance(form, Number) for form in forms):
            return None
    return Named(name, last) if name else last


def _value(form: Form) -> object:
    """The exact value of a number or a calculation, to be compared with another."""
    if isinstance(form, Number):
        return form.quantity.value
    return evaluate(form.text) if isinstance(form, Expression) else None


def _inequality(sides: list[str], signs: list[str], depth: int) -> Form | None:
    r"""`1 < x \le 2` as x in (1, 2]."""
    if not set(signs) <= set(_FLIPPED):
        return None
    if len(sides) == 2 and _VARIABLE.fullmatch(sides[1]) and not _VARIABLE.fullmatch(sides[0]):
        sides, signs = sides[::-1], [_FLIPPED[signs[0]]]
    if len(sides) == 3 and signs[0][-1] in (">", "e") and _FLIPPED[signs[0]] in ("<", "<=", r"\le"):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
    if len(sides) == 2 and _VARIABLE.fullmatch(sides[0]):
        bound = read_form(sides[1], depth)
        strict = signs[0] in _STRICT
        if signs[0] in (">", ">=", r"\ge"):
            return Named(_name(sides[0]), Group("()" if strict else "[)", (bound, _INFINITE[1])))
        return Named(_name(sides[0]), Group("()" if strict else "(]", (_INFINITE[0], bound)))
    if len(sides) == 3 and _VARIABLE.fullmatch(sides[1]) and not set(signs) & {">", ">=", r"\ge"}:
        kind: Kind = ("(" if signs[0] in _STRICT else "[") + (")" if signs[1] in _STRICT else "]")  # type: ignore[assignment]
        return Named(_name(sides[1]), Group(kind, (read_form(sides[0], depth), read_form(sides[2], depth))))
    return None


def _name(variable: str) -> str:
    return variable.replace("{", "").replace("}", "").replace(" ", "")


def _scalar(text: str) -> Form:
    """An expression, with its unit apart, or words."""
    match = _UNIT_TAIL.fullmatch(text)
    if match is not None:
        head, tail = match[1] or match[3], match[2] or match[4]
        words = spelled(tail.lower().replace("/", " per ").split())
        unit = unit_of(words) if words and is_known(words[0]) else None
        if unit is not None and is_mathematics(head):
            return Expression(head, unit)
    return Expression(text) if is_mathematics(text) else Words(text)


def is_mathematics(text: str) -> bool:
    r"""Whether a text is an expression rather than words: `xy + 2` and `\sqrt{2}`, not `two pens`."""
    if not text.isascii() or not text:
        return False
    bare = re.sub(r"\\[A-Za-z]+", "", text)
    runs = re.findall(r"[A-Za-z]{2,}", bare)
    if len(text) > 1 and _FUNCTIONS.isdisjoint(runs) and re.fullmatch(r"[A-Za-z .,'\"!?:-]+", text):
        return False
    return all(run in _FUNCTIONS or len(run) <= 3 for run in runs)
