"""Whether two answers are the same, form against form; only expressions are left to a symbolic checker.

Known false positives of symbolic checkers cannot come up here: numbers are compared as fractions, a base is
part of a number, the order of a list counts, an equation equals no number, and units must agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from llama_o1.tasks.arithmetic import evaluate, operations_in
from llama_o1.tasks.brackets import is_balanced
from llama_o1.tasks.canonical import folded, form_text
from llama_o1.tasks.forms import Expression, Form, Group, Kind, Named, Number, Words, read_form
from llama_o1.tasks.quantity import Based, same_quantity
from llama_o1.tasks.units import Unit, ratio

Symbolic = Callable[[str, str], bool]  # whether two expressions, in LaTeX, are equal


def same(gold: Form, given: Form, symbolic: Symbolic, *, in_any_order: bool = False) -> tuple[bool, str]:
    """Whether two answers are the same, and the rule that decided.

    `in_any_order`: a list without brackets is a set. Whatever `symbolic` raises passes through.
    """
    if isinstance(gold, Named) or isinstance(given, Named):
        return _same_named(gold, given, symbolic, in_any_order)
    if isinstance(gold, Group) or isinstance(given, Group):
        return _same_group(gold, given, symbolic, in_any_order)
    if isinstance(gold, Based) or isinstance(given, Based):
        return _in_base(gold) == _in_base(given) and _in_base(gold) is not None, "base"
    if isinstance(gold, Words) or isinstance(given, Words):
        return form_text(gold) == form_text(given), "text"
    if isinstance(gold, Number) and isinstance(given, Number):
        rule = same_quantity(gold.quantity, given.quantity)
        differ = ratio(gold.quantity.unit, given.quantity.unit) != 1
        return rule is not None, rule or ("unit" if differ else "number")
    return _same_expression(gold, given, symbolic)


_UNORDERED: tuple[Kind, ...] = ("set", "any", "union")
_LOOSE: tuple[Kind, ...] = ("list", "any", "set")
_NAKED: tuple[Kind, ...] = ("list", "()")


def _same_named(gold: Form, given: Form, symbolic: Symbolic, in_any_order: bool) -> tuple[bool, str]:
    """`x = 5` is 5, but not `y = 5`."""
    if isinstance(gold, Named) and isinstance(given, Named) and gold.name != given.name:
        return False, "equation"
    gold = gold.value if isinstance(gold, Named) else gold
    given = given.value if isinstance(given, Named) else given
    return same(gold, given, symbolic, in_any_order=in_any_order)


def _same_group(gold: Form, given: Form, symbolic: Symbolic, in_any_order: bool) -> tuple[bool, str]:
    if not isinstance(gold, Group) or not isinstance(given, Group):
        group, other = (gold, given) if isinstance(gold, Group) else (given, gold)
        assert isinstance(group, Group)
        if group.kind in ("set", "any") and len({form_text(part) for part in group.parts}) == 1:
            return same(group.parts[0], other, symbolic)
        is_list = group is gold and group.kind == "list"
        if is_list and isinstance(other, Number) and "," in other.text:  # 100,200 for 100, 200
            return same(gold, read_form(other.text.replace(",", ", ")), symbolic, in_any_order=in_any_order)
        return False, "several"
    if not _fits(gold, given) or len(gold.parts) != len(given.parts):
        return False, group_rule(gold)
    if _is_unordered(gold, given, in_any_order):
        return _matches(list(gold.parts), list(given.parts), symbolic), group_rule(gold)
    pairs = zip(gold.parts, given.parts, strict=True)
    return all(same(a, b, symbolic)[0] for a, b in pairs), group_rule(gold)


def group_rule(group: Group) -> str:
    """What a group is called as the deciding rule."""
    is_interval = group.kind in ("[]", "(]", "[)")
    names = {"list": "list", "any": "list", "set": "set", "()": "tuple", "union": "set"}
    return "interval" if is_interval else names.get(group.kind, "matrix")


def _fits(gold: Group, given: Group) -> bool:
    """Whether the brackets mean the same: a list may stand without its brackets."""
    kinds = (gold.kind, given.kind)
    if set(kinds) == {"list", "[]"} and len(gold.parts) > 2:  # no interval
        return True
    if gold.kind == given.kind or all(k in _LOOSE for k in kinds) or all(k in _NAKED for k in kinds):
        return True
    if "matrix" in kinds:
        other = given if gold.kind == "matrix" else gold
        return other.kind in ("[]", "()") and all(isinstance(part, Group) for part in other.parts)
    return "row" in kinds and all(k in ("row", "[]", "()") for k in kinds)


def _is_unordered(gold: Group, given: Group, in_any_order: bool) -> bool:
    """A list against a set is unordered when the gold is the set; a list against a list is not."""
    if all(isinstance(part, Named) for part in (*gold.parts, *given.parts)):
        return True
    if gold.kind == "list":
        return given.kind == "any" or (in_any_order and given.kind in _LOOSE)
    return gold.kind in _UNORDERED


def _matches(gold: list[Form], given: list[Form], symbolic: Symbolic) -> bool:
    """Whether each part of one list has an equal of its own in the other."""
    for part in gold:
        found = next((i for i, other in enumerate(given) if same(part, other, symbolic)[0]), None)
        if found is None:
            return False
        del given[found]
    return True


def _in_base(form: Form) -> tuple[str, int] | None:
    """A number with its base, ten where none is named; None for anything else."""
    if isinstance(form, Based):
        return form.digits, form.base
    if isinstance(form, Number) and form.quantity.value.denominator == 1 and form.quantity.value >= 0:
        return str(form.quantity.value), 10
    return None


def _same_expression(gold: Form, given: Form, symbolic: Symbolic) -> tuple[bool, str]:
    """Exactly where both are calculations, by text, or by the symbolic checker."""
    if ratio(_unit(gold), _unit(given)) != 1:
        return False, "unit"
    first, second = _text(gold), _text(given)
    if folded(first) == folded(second):
        return True, "string"
    if isinstance(gold, Number) and is_unevaluated(second):
        return False, "unevaluated"
    left, right = _exact(gold), _exact(given)
    if left is not None and right is not None:
        return left == right, "number"
    if not (is_balanced(first) and is_balanced(second)):
        return False, "unbalanced"
    if _SUBSCRIPTED.search(first) or _SUBSCRIPTED.search(second):
        return False, "base"
    if _SIDE_BY_SIDE.search(first) or _SIDE_BY_SIDE.search(second):  # read as a product
        return False, "text"
    return symbolic(_latex(first), _latex(second)), "symbolic"


def is_unevaluated(text: str) -> bool:
    """Whether a text is a sum, difference or product of numbers that is left to be calculated."""
    operations = operations_in(_calculation(text))
    return operations is not None and any(operation.sign in "+-*" for operation in operations)


def _exact(form: Form) -> Fraction | None:
    if isinstance(form, Number):
        percent = Fraction(1, 100) if form.quantity.is_percent else 1
        return form.quantity.value * percent
    return evaluate(_calculation(form.text)) if isinstance(form, Expression) else None


def _calculation(text: str) -> str:
    """A LaTeX calculation in the calculator's signs."""
    for _ in range(3):  # fractions inside of fractions
        text = FRACTION.sub(r"((\1)/(\2))", text)
    return text


FRACTION = re.compile(r"\\frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_SUBSCRIPTED = re.compile(r"[0-9]\s?_")
_SIDE_BY_SIDE = re.compile(r"(?<![_^])[0-9]\s+[0-9.]|[0-9]'")
_FUNCTION = re.compile(r"(?<![A-Za-z\\])(sin|cos|tan|log|ln|exp)(?=[\s(^_{])")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?°")


def _unit(form: Form) -> Unit:
    if isinstance(form, Number):
        return form.quantity.unit
    return form.unit if isinstance(form, Expression) else Unit()


def _text(form: Form) -> str:
    assert isinstance(form, Number | Expression)
    is_exact = isinstance(form, Number) and not form.quantity.unit.is_none
    return str(form.quantity.value) if is_exact and isinstance(form, Number) else form.text


def _latex(text: str) -> str:
    """An expression as the symbolic checker reads it."""
    return _DEGREES.sub(r"(\\frac{\1\\pi}{180})", _FUNCTION.sub(r"\\\1", text))
