"""Units: which quantity a unit measures and how large it is, so that 100 cm is 1 m and no 10 m is 10 cm.

A word that is no known unit is a name of what is counted. Knows nothing of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """What a number counts or measures."""

    dimensions: tuple[tuple[str, int], ...] = ()  # ("length", 2) for an area, sorted
    factor: Fraction = Fraction(1)  # in units of the first one of its dimension below
    names: frozenset[str] = frozenset()  # what is counted: "apple"

    @property
    def is_none(self) -> bool:
        """Whether there is no unit at all."""
        return not self.dimensions and not self.names


def unit_of(words: Sequence[str]) -> Unit | None:
    """The unit that lower-case words spell: `square feet`, `m per s`, `apples per day`; None: it is none."""
    dimensions: dict[str, int] = {}
    factor, names = Fraction(1), set()
    sign = power = 1
    known, last = "", Fraction(1)  # the last word's dimension and size
    for word in words:
        if word in ("per", "/", "a", "each", "every"):
            sign = -1
        elif word in _POWERS_BEFORE:
            power = _POWERS_BEFORE[word]
        elif word in _POWERS_AFTER and known:
            dimensions[known] += sign * (_POWERS_AFTER[word] - 1)
            factor *= last ** (sign * (_POWERS_AFTER[word] - 1))
        elif word not in ("of", "*", "the"):
            stem, raised = _raised(word)
            known, size, dimension_power = _KNOWN.get(stem, ("", Fraction(1), 1))
            if known:
                exponent = sign * power * raised
                last = size
                dimensions[known] = dimensions.get(known, 0) + exponent * dimension_power
                factor *= size**exponent
            else:
                names.add(("per " if sign < 0 else "") + _PLURAL.sub("", word))
            power = 1
    found = {name: exponent for name, exponent in dimensions.items() if exponent}
    return Unit(tuple(sorted(found.items())), factor, frozenset(names))


def is_known(word: str) -> bool:
    """Whether a lower-case word is a unit of measure."""
    return _raised(word)[0] in _KNOWN or word in _POWERS_BEFORE


def ratio(gold: Unit, given: Unit) -> Fraction | None:
    """What `given` is in units of `gold`: 1/100 for cm and m; None when they measure or count something else.

    No unit agrees with any, `red apples` with `apples`, and `dollars per hour` with `dollars`.
    """
    if gold.is_none or given.is_none:
        return Fraction(1)
    first, second = _counted(gold), _counted(given)
    if not (first <= second or second <= first):
        return None
    if gold.dimensions == given.dimensions:
        return given.factor / gold.factor
    if _money_only(gold) and _money_only(given):
        return Fraction(1)
    return None


def _counted(unit: Unit) -> frozenset[str]:
    """What is counted, without what it is counted per."""
    return frozenset(name for name in unit.names if not name.startswith("per "))


def _money_only(unit: Unit) -> bool:
    """Whether all that is not below a fraction line is dollars."""
    return [(name, power) for name, power in unit.dimensions if power > 0] == [("dollar", 1)]


def _raised(word: str) -> tuple[str, int]:
    """A word without its power: ("cm", 2) for `cm^2` and `cm2`."""
    match = _RAISED.fullmatch(word)
    return (match[1], int(match[2])) if match else (word, 1)


_RAISED = re.compile(r"([a-z°'\"]+)\^?\{?(-?[123])\}?")
_PLURAL = re.compile(r"(?<=ch|sh|ss)es$|(?<=[a-rt-z])s$")
_POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
# One line a dimension: names of each unit and its size in the first one.
_TABLE = {
    "length": "1 m meter meters metre metres; 1/1000 mm millimeter millimeters millimetre millimetres; "
    "1/100 cm cms centimeter centimeters centimetre centimetres; 1/10 dm; "
    "1000 km kms kilometer kilometers kilometre "
    "kilometres; 254/10000 in inch inches; 3048/10000 ft foot feet; 9144/10000 yd yard "
    "yards; 1609344/1000 mi mile miles",
    "mass": "1 g gram grams gm; 1/1000 mg milligram milligrams; 1000 kg kgs kilogram kilograms kilo kilos; "
    "1000000 t tonne tonnes; 45359237/100000 lb lbs pound pounds; 45359237/1600000 oz ounce ounces",
    "time": "1 s sec secs second seconds; 1/1000 ms millisecond milliseconds; 60 min mins minute minutes; "
    "3600 h hr hrs hour hours; 86400 day days; 604800 week weeks",
    "dollar": "1 dollar dollars usd buck bucks; 1/100 cent cents",
    "euro": "1 euro euros eur",
    "rupee": "1 rupee rupees rs inr",
    "yen": "1 yen jpy",
    "angle": "1 ° degree degrees deg",
    "celsius": "1 °c c celsius",
    "fahrenheit": "1 °f f fahrenheit",
}
_KNOWN = {
    name: (dimension, Fraction(size), 1)
    for dimension, row in _TABLE.items()
    for size, *names in (entry.split() for entry in row.split(";"))
    for name in names
}
_KNOWN |= {name: ("length", Fraction(1, 1000), 3) for name in "l liter liters litre litres".split()}
_KNOWN |= {
    name: ("length", Fraction(1, 10**6), 3)
    for name in "ml milliliter milliliters millilitre millilitres cc".split()
}
_SPEEDS = {
    "mph": ["mile", "per", "hour"],
    "kph": ["km", "per", "h"],
    "kmh": ["km", "per", "h"],
    "kmph": ["km", "per", "h"],
}


def spelled(words: Sequence[str]) -> list[str]:
    """Words with abbreviated speeds and temperatures written out."""
    out: list[str] = []
    for word in words:
        if word in ("celsius", "fahrenheit") and out and out[-1] in ("degree", "degrees", "°"):
            out.pop()
        out += _SPEEDS.get(word, [word])
    return out
