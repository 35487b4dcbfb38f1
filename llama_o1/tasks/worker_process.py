"""One symbolic checker: reads a JSON line {gold, given, seconds}, writes one {reply}. Runs as a script.

Started by workers.py in a process of its own, with nothing of ours imported. It may be killed at any
time: a comparison that is too slow is ended by the kernel (an interval timer with its default action), which
needs no Python code to run and works where a signal handler or a thread would wait for a computation to end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

MAX_ITEMS = 2000  # then a fresh process takes over, whatever the libraries have kept
CLEAR_EVERY = 50  # items between two clearings of sympy's caches
DIGITS = 50  # of numeric comparisons
TOLERANCE_DIGITS = 30  # relative: equal numbers agree in so many digits
POINTS = (("7/5", "13/11"), ("-19/17", "23/29"))  # where expressions with letters are compared, in turn


def main() -> None:
    """Serve until the pipe closes, the item limit is reached or memory runs out."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    import math_verify
    import sympy  # noqa: F401  loaded before the first item, not within its time

    math_verify.parser.TIMEOUT_WARNING_SHOWN = math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    os.write(replies, b"ready\n")
    for number, line in zip(range(1, MAX_ITEMS + 1), sys.stdin, strict=False):
        item = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, item["seconds"])
        reply = _reply(item["gold"], item["given"])
        if number % CLEAR_EVERY == 0:
            _forget()
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(replies, json.dumps({"reply": reply, "last": number == MAX_ITEMS}).encode() + b"\n")
        if reply == "memory":
            return


def _reply(gold: str, given: str) -> str:
    try:
        return "equal" if equal(gold, given) else "different"
    except MemoryError:
        return "memory"
    except Exception:  # the libraries raise anything on what they cannot read
        return "different"


def equal(gold: str, given: str) -> bool:
    """Whether two LaTeX expressions mean the same: math-verify, then its own "yes" is checked.

    math-verify rounds to six decimals, so that pi is 3.14159265, and takes an equation for its right
    side. Here constants are equal when they agree in `TOLERANCE_DIGITS` digits (decimals are exact), and a
    relation is only equal to a relation.
    """
    import math_verify
    from sympy import Basic, Expr
    from sympy.core.relational import Relational

    first, second = _parsed(gold), _parsed(given)
    if not isinstance(first, Basic) or not isinstance(second, Basic):
        return False
    if isinstance(first, Relational) != isinstance(second, Relational):
        return False
    if isinstance(first, Expr) and isinstance(second, Expr):
        if not first.free_symbols and not second.free_symbols:
            return _same_number(first, second)
        if not _agree_at_points(first, second):
            return False
    return bool(
        math_verify.verify(first, second, float_rounding=40, numeric_precision=DIGITS, timeout_seconds=None)
    )


def _parsed(latex: str) -> Any:
    """The expression, with decimals as exact fractions; None when it does not parse."""
    import math_verify
    from latex2sympy2_extended import NormalizationConfig
    from sympy import Float, MatrixBase, Rational

    plain = NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
    config = math_verify.LatexExtractionConfig(normalization_config=plain)
    found = math_verify.parse(f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None)
    if not found or isinstance(found[0], str | MatrixBase):
        return None
    exact = {number: Rational(str(number)) for number in found[0].atoms(Float)}
    return found[0].xreplace(exact) if exact else found[0]


def _same_number(first: Any, second: Any) -> bool:
    from sympy import Float

    if first.is_infinite or second.is_infinite:
        return bool(first == second)
    difference = (first - second).doit()
    if difference == 0:
        return True
    size = abs(first.evalf(DIGITS)) + abs(second.evalf(DIGITS))
    return bool(abs(difference.evalf(DIGITS)) <= size * Float(10, DIGITS) ** -TOLERANCE_DIGITS)


def _agree_at_points(first: Any, second: Any) -> bool:
    """False when the expressions have different letters or differ where both have a real value."""
    from sympy import Rational

    letters = sorted(first.free_symbols | second.free_symbols, key=str)
    for point in POINTS:
        values = {x: Rational(point[i % 2]) + i for i, x in enumerate(letters)}
        a, b = (e.doit().subs(values).evalf(DIGITS) for e in (first, second))
        if a.is_finite and b.is_finite and not _same_number(a, b):
            return False
    return True


def _forget() -> None:
    from sympy.core.cache import clear_cache

    clear_cache()


if __name__ == "__main__":
    main()
