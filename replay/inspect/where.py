"""Conditions over named columns: a small safe grammar, turned into SQL with parameters.

    condition  = both { OR both }
    both       = one { AND one }
    one        = NOT one | ( condition ) | column operator literal | column IS [NOT] NULL
               | column [NOT] IN ( literal {, literal} ) | column [NOT] BETWEEN literal AND literal
               | column [NOT] LIKE literal          (text only: % any text, _ any letter)
    operator   = == | = | != | <> | < | <= | > | >=
    literal    = a number, or text in single or double quotes

Words bind as in SQL, so the SQL has the same shape. Only known column names, marks and these words reach
it; every literal is a parameter.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import NamedTuple

from replay.errors import ReplayError

TEXT_COLUMNS = ("problem", "tree", "action")
NUMBER_COLUMNS = (
    "id",
    "node",
    "parent",
    "version",
    "age",
    "priority",
    "draws",
    "temperature",
    "advantage",
    "value",
    "value_target",
    "error",
    "outcome",
    "num_context",
    "num_tokens",
    "num_sampled",
)
MAX_CONDITIONS = 100  # of one text; SQLite itself allows 1,000 in a row
MAX_LITERALS = 10_000  # SQLite's own limit is 32,766
MAX_DEPTH = 20  # SQLite's parser holds 100 symbols

_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark><=|>=|<>|!=|==|[=<>(),])""",
    re.VERBOSE | re.ASCII,
)
_OPERATORS = {"==": "=", "=": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS = ("AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "LIKE")


class Condition(NamedTuple):
    """An SQL expression and its parameters, in order."""

    sql: str
    parameters: tuple[int | float | str, ...]


def parse_where(text: str | None) -> Condition:
    """The condition a text states; None or blank: every row. ReplayError says what does not fit."""
    if text is None or not text.strip():
        return Condition("1", ())
    return _Parser(text).parse()


def known_column(name: str) -> str:
    """The column of this name, in any case; ReplayError names the nearest known one."""
    columns = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
    if name.lower() in columns:
        return name.lower()
    nearest = difflib.get_close_matches(name.lower(), columns, n=1, cutoff=0.0)[0]
    raise ReplayError(f"no column {name[:40]!r}; the nearest is {nearest!r}, all are: {', '.join(columns)}")


class _Token(NamedTuple):
    kind: str  # number, text, word, mark or end
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._parameters: list[int | float | str] = []
        self._num_conditions = 0

    def parse(self) -> Condition:
        sql = self._any()
        if self._peek().kind != "end":
            raise _unexpected(self._peek(), "AND, OR or the end")
        return Condition(f"({sql})", tuple(self._parameters))

    def _any(self) -> str:
        parts = [self._all()]
        while self._take("OR"):
            parts.append(self._all())
        return " OR ".join(parts)

    def _all(self) -> str:
        parts = [self._one()]
        while self._take("AND"):
            parts.append(self._one())
        return " AND ".join(parts)

    def _one(self) -> str:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ReplayError(f"conditions may be nested {MAX_DEPTH} deep, not more")
        if self._take("NOT"):
            sql = f"NOT {self._one()}"
        elif self._take("("):
            sql = f"({self._any()})"
            if not self._take(")"):
                raise _unexpected(self._peek(), "a closing parenthesis")
        else:
            sql = self._comparison()
        self._depth -= 1
        return sql

    def _comparison(self) -> str:
        token = self._advance()
        if token.kind != "word" or token.text.upper() in _WORDS:
            raise _unexpected(token, "a column")
        column = known_column(token.text)
        self._num_conditions += 1
        if self._num_conditions > MAX_CONDITIONS:
            raise ReplayError(f"at most {MAX_CONDITIONS} conditions are read, got more")
        if self._take("IS"):
            negated = self._take("NOT")
            if not self._take("NULL"):
                raise _unexpected(self._peek(), "NULL")
            return f"{column} IS {'NOT ' if negated else ''}NULL"
        negation = "NOT " if self._take("NOT") else ""
        if self._take("IN"):
            return f"{column} {negation}IN ({self._listed(column)})"
        if self._take("BETWEEN"):
            low = self._parameter(column)
            self._need("AND")
            return f"{column} {negation}BETWEEN {low} AND {self._parameter(column)}"
        if column in TEXT_COLUMNS and self._take("LIKE"):
            return f"{column} {negation}LIKE {self._parameter(column)}"
        operator = self._advance()
        if negation or operator.text not in _OPERATORS or operator.kind != "mark":
            words = (
                "IN, BETWEEN, LIKE" if negation else f"one of {' '.join(_OPERATORS)}, IS, IN, BETWEEN or LIKE"
            )
            raise _unexpected(operator, words)
        return f"{column} {_OPERATORS[operator.text]} {self._parameter(column)}"

    def _listed(self, column: str) -> str:
        self._need("(")
        marks = [self._parameter(column)]
        while self._take(","):
            marks.append(self._parameter(column))
        self._need(")")
        return ", ".join(marks)

    def _parameter(self, column: str) -> str:
        """Take a literal as the next parameter; the mark that stands for it."""
        self._parameters.append(_literal(column, self._advance()))
        if len(self._parameters) > MAX_LITERALS:
            raise ReplayError(f"at most {MAX_LITERALS} values are read, got more")
        return "?"

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise _unexpected(self._peek(), repr(text))

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        token = self._peek()
        if token.kind != "end":
            self._next += 1
        return token

    def _take(self, text: str) -> bool:
        found = self._peek().kind in ("word", "mark") and self._peek().text.upper() == text
        self._next += found
        return found


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ReplayError(f"cannot read the condition at character {at + 1}: {text[at : at + 20]!r}")
        tokens.append(_Token(match.lastgroup, match.group(), at))
        at = match.end()
    return [*tokens, _Token("end", "", at)]


def _literal(column: str, token: _Token) -> int | float | str:
    if column in TEXT_COLUMNS:
        if token.kind != "text":
            raise _unexpected(token, f"text in quotes for {column}")
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)
    if token.kind != "number":
        raise _unexpected(token, f"a number for {column}")
    number = float(token.text)
    if not math.isfinite(number):
        raise _unexpected(token, "a finite number")
    is_whole = token.text.lstrip("+-").isdigit() and abs(number) < 2**62
    return int(token.text) if is_whole else number


def _unexpected(token: _Token, expected: str) -> ReplayError:
    found = "the end" if token.kind == "end" else repr(token.text[:40])
    return ReplayError(f"expected {expected} at character {token.at + 1} of the condition, got {found}")
