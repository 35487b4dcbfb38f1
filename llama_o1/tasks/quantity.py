"""Quantity: a number with what it counts, read exactly from an answer in plain dress (clean.py)."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from llama_o1.tasks.arithmetic import parse_number
from llama_o1.tasks.units import Unit, is_known, ratio, spelled, unit_of


class Quantity(NamedTuple):
    """A number and its unit; `50%` is 50 with `is_percent`."""

    value: Fraction
    is_percent: bool = False
    unit: Unit = Unit()


class Based(NamedTuple):
    """A number in a named base: `204_5`."""

    digits: str
    base: int


def read_quantity(text: str) -> Quantity | None:
    """The quantity that a cleaned text is; None when it is more or something else."""
    plain = None if "€" in text or "£" in text else parse_number(text)
    if plain is not None:
        return Quantity(plain, text.endswith("%"), _DOLLARS if "$" in text else Unit())
    if len(text) > MAX_CHARS or not text:
        return None
    return _single(text) or _compound(text)


def read_based(text: str) -> Based | None:
    """The number in a named base that a cleaned text is."""
    match = _BASED.fullmatch(text)
    if match is None:
        return None
    named = (match["base"] or match["word"]).lower()
    base = int(named) if named.isdigit() else _NUMBER_WORDS.get(named, 0)
    digits = (match["digits"] or match["inside"]).replace(" ", "").upper()
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits.replace(".", "")):
        return None
    whole, point, rest = digits.partition(".")
    return Based((whole.lstrip("0") or "0") + point + rest, base)


def same_quantity(gold: Quantity, given: Quantity) -> str | None:
    """The rule by which two quantities are equal, `number` or `percent`; None when they are not."""
    factor = ratio(gold.unit, given.unit)
    if factor is None:
        return None
    if gold.value == given.value * factor:
        return "number"
    if gold.is_percent == given.is_percent:
        return None
    percent, plain = (gold, given) if gold.is_percent else (given, gold)
    return "percent" if percent.value == 100 * plain.value else None


MAX_CHARS = 200
_DOLLARS = Unit((("dollar", 1),))
_BASED = re.compile(
    r"\(?(?:(?P<digits>[0-9A-Z][0-9A-Z ]*(?:\.[0-9A-Z]+)?)|\((?P<inside>[0-9A-Z]+)\))\)?\s?"
    r"(?:_\s?\{?\s?\(?\s?(?:base\s?)?(?P<base>[0-9]{1,2}|[a-z]+)\s?\)?\s?\}?"
    r"|,?\s?(?:in\s)?\(?base[\s-]?(?P<word>[0-9]{1,2}|[a-z]+)\)?)"
)
_ONES_SPELLED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_SPELLED = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: n for n, word in enumerate(_ONES_SPELLED.split())}
_NUMBER_WORDS |= {word: 10 * n for n, word in enumerate(_TENS_SPELLED.split(), start=2)}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SIMPLE_FRACTION = re.compile(r"\\frac\s?\{\s?(-?)\s?([0-9]+)\s?\}\s?\{\s?(-?)\s?([0-9]+)\s?\}")
_POWER_OF_TEN = re.compile(
    r"(?:(?<![0-9.A-Za-z])([-+]?)|(?<=[0-9.])\s?[*x]\s?)10\s?\^\s?(?:\{\s?([-+]?[0-9]+)\s?\}|([-+]?[0-9]+))"
)
_REPEATING = re.compile(
    r"(-?)([0-9]*)\.([0-9]*)(?:\\(?:overline|bar|dot)\s?\{?\s?([0-9]+)\s?\}?|\(([0-9]+)\))"
)
_SPACED = re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?")  # 12 000
_CURRENCY_BEFORE = re.compile(r"([-+]?)\s?(US\$|A\$|C\$|USD|EUR|GBP|INR|Rs\.?|[$€£¥₹])\s?(?=[-+0-9.\\])")
_CURRENCIES = {
    "us$": "dollar",
    "a$": "dollar",
    "c$": "dollar",
    "usd": "dollar",
    "$": "dollar",
    "eur": "euro",
    "€": "euro",
}
_CURRENCIES |= {"gbp": "pound", "£": "pound", "inr": "rupee", "rs": "rupee", "₹": "rupee", "¥": "yen"}
_UNIT_START = re.compile(r"(?!(?<=[0-9.])[eE][-+]?[0-9])[A-Za-z°]")
_UNIT = re.compile(
    r"[A-Za-z°][A-Za-z°.'/ *-]*(?:\^?\{?-?[123]\}?(?:\s?/\s?[A-Za-z]+(?:\^?[123])?)?)?(?:\s[A-Za-z /]+)?"
)
# Words after a number that change its value or its sense, so that it is no plain quantity.
_NOT_UNITS = frozenset(
    "or and not to than minus plus times half halves third thirds fourths fifth fifths sixths more "
    "less greater eighths tenth tenths hundredths hundred hundreds thousand thousands million "
    "millions billion billions trillion factorial root sqrt pi mod base if except sin cos tan cot sec "
    "csc log ln exp lim choose is isn".split()
)
_PERCENT_WORDS = frozenset(("percent", "percents", "percentage", "pct", "points"))


def _single(text: str) -> Quantity | None:
    """One number with a unit."""
    text, money = _without_currency(_plain_number(text))
    start = _UNIT_START.search(text)
    head, tail = (text[: start.start()], text[start.start() :]) if start else (text, "")
    value = parse_number(head) if head.strip() else None
    words = (
        re.sub(r"\s*/\s*", " per ", tail.lower().replace("per cent", "percent"))
        .replace(".", " ")
        .replace("*", " ")
        .split()
    )
    if value is None:
        value, words = _number_words(text)
        head = " "
    if value is None:
        return None
    if words and words[0] in _SCALES and head[-1:] == " ":
        value, words = value * 10 ** _SCALES[words[0]], words[1:]
    elif words[:1] == ["dozen"]:
        value, words = value * 12, words[1:]
    is_percent = head.rstrip().endswith("%") or not _PERCENT_WORDS.isdisjoint(words[:1])
    words = [word for word in words if word not in _PERCENT_WORDS] if is_percent else words
    if words and not _is_unit(tail, words, attached=head[-1] in "0123456789."):
        return None
    unit = unit_of(spelled([*([money] if money else []), *_once(words, money)]))
    return None if unit is None else Quantity(value, is_percent, unit)


def _words(tail: str) -> list[str]:
    """The words of what follows a number, a slash as `per`."""
    return tail.lower().replace("per cent", "percent").replace("/", " per ").translate(_TO_SPACES).split()


_TO_SPACES = str.maketrans(".*", "  ")


def _once(words: list[str], money: str) -> list[str]:
    """`$5 dollars` names its unit twice."""
    return words[1:] if money and words and words[0].rstrip("s") == money else words


def _plain_number(text: str) -> str:
    """Fractions, powers of ten and repeating decimals in the signs that `parse_number` reads."""
    if "\\" in text:
        text = _SIMPLE_FRACTION.sub(_plain_fraction, text).strip()
    if "10" in text:
        text = _POWER_OF_TEN.sub(
            lambda m: f"{m[1]}1e{m[2] or m[3]}" if m[1] is not None else f"e{m[2] or m[3]}", text
        )
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    match = _REPEATING.match(text)
    if match is not None:
        text = f"{_repeating(match)}{text[match.end() :]}"
    return text


def _plain_fraction(match: re.Match[str]) -> str:
    sign = "-" if match[1] != match[3] else ""
    return f" {sign}{match[2]}/{match[4]} "


def _scientific(match: re.Match[str]) -> str:
    """`*10^{-3}` after a number, and `10^{-3}` alone, with an e."""
    mantissa = "" if match[1] is None else f"{match[1]}1"
    return f"{mantissa}e{match[2] or match[3]}"


def _repeating(match: re.Match[str]) -> Fraction:
    r"""Exact value of 0.1\overline{6}."""
    sign, whole, fixed, period = match[1], match[2] or "0", match[3], match[4] or match[5]
    value = Fraction(
        int(whole + fixed + period) - int(whole + fixed), 10 ** len(fixed) * (10 ** len(period) - 1)
    )
    return -value if sign else value


def _without_currency(text: str) -> tuple[str, str]:
    """The text without a currency sign before its number, and the currency's name or nothing."""
    match = _CURRENCY_BEFORE.match(text)
    if match is None:
        return text, ""
    return match[1] + text[match.end() :], _CURRENCIES[match[2].lower().rstrip(".")]


def _number_words(text: str) -> tuple[Fraction | None, list[str]]:
    """The value of a number spelled out up to 99, and the words after it."""
    first, *rest = text.lower().split() or [""]
    tens, _, ones = first.partition("-")
    value = _NUMBER_WORDS.get(tens)
    if value is None or not re.fullmatch(r"[A-Za-z -]+", text):
        return None, []
    if ones or (value >= 20 and rest and 0 < _NUMBER_WORDS.get(rest[0], 0) < 10):
        ones, rest = (ones, rest) if ones else (rest[0], rest[1:])
        if value < 20 or not 0 < _NUMBER_WORDS.get(ones, 0) < 10:
            return None, []
        value += _NUMBER_WORDS[ones]
    return Fraction(value), rest


def _is_unit(tail: str, words: list[str], attached: bool) -> bool:
    """Whether what follows a number only says what it counts: "3x", "3 million" and "3rd" say more."""
    if len(tail) > 60 or _UNIT.fullmatch(tail) is None or not _NOT_UNITS.isdisjoint(words):
        return False
    if not is_known(words[0]) and len(words[0]) < (4 if attached else 2):
        return False
    if attached and len(words[0]) == 1 and words[0] != "°":
        return False
    return not (attached and words[0] in ("st", "nd", "rd", "th"))


def _compound(text: str) -> Quantity | None:
    """Several numbers with units of one kind: `2 hours 30 minutes` is 2.5 hours."""
    parts = _PARTS.split(text)
    if not 2 <= len(parts) <= 4:
        return None
    found = [read for part in parts if (read := _single(part.strip())) is not None]
    if len(found) < len(parts) or not found[0].unit.dimensions or found[0].unit.names:
        return None
    total = Fraction(0)
    for i, part in enumerate(found):
        factor = ratio(found[0].unit, part.unit)
        if factor is None or part.unit.is_none or (i and factor >= 1) or part.is_percent:
            return None
        total += part.value * factor
    return Quantity(total, unit=found[0].unit)


_PARTS = re.compile(r"(?<=[A-Za-z.])(?:,?\s(?:and\s)?|\s?)(?=[0-9])")
read_quantity = lru_cache(maxsize=8192)(read_quantity)
