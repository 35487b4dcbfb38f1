r"""Answers as written to answers in plain dress: without LaTeX wrappers, markdown, spacing and typography.

Only dress goes, never meaning: `\dfrac` becomes `\frac`, `\text{cm}` becomes ` cm `,
`½` becomes `\frac{1}{2}`, `x^{2}` becomes `x^2`. Knows nothing of numbers, units or kinds of answers.
"""

from __future__ import annotations

import re
import unicodedata

_PLAIN = re.compile(r"[0-9A-Za-z ,/%+=-]*(?:\.[0-9]+)?\.?")
_DRESS = re.compile(r"\$\$(.*)\$\$|\$(.*)\$|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*(.*)\*\*|`(.*)`", re.DOTALL)
_FORMULA = re.compile(r"(?<!\\)\$(?=\S)([^$]*?)(?<=[^\s\\])\$(?!\d)")  # "$5$ apples", not "$5 and $6"
_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal|color\{[^{}]*\})?|math(?:rm|bf|it|sf|tt|normal|bin|ord)|mbox|hbox|fbox"
    r"|operatorname\*?|boldsymbol|bm|emph|underline|boxed|ensuremath|color\{[^{}]*\})\s?\{([^{}]*)\}"
)
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,\\!|\\[,:; ]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_COMMANDS = dict.fromkeys(
    "displaystyle textstyle limits left right bf rm it quad qquad thinspace enspace".split(), " "
)
_COMMANDS |= {f"{size}{side}": " " for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r")}
_COMMANDS |= {
    "dfrac": r"\frac",
    "tfrac": r"\frac",
    "cfrac": r"\frac",
    "dbinom": r"\binom",
    "tbinom": r"\binom",
}
_COMMANDS |= {"times": "*", "cdot": "*", "ast": "*", "div": "/", "lt": "<", "gt": ">", "neq": r"\ne"}
_COMMANDS |= dict.fromkeys(("leq", "leqq", "leqslant"), r"\le") | dict.fromkeys(
    ("geq", "geqq", "geqslant"), r"\ge"
)
_COMMANDS |= {
    "lbrace": r"\{",
    "rbrace": r"\}",
    "dots": "...",
    "ldots": "...",
    "cdots": "...",
    "textdegree": "°",
}
_LATEX = [
    (re.compile(r"(?<!\\)\\[,!;: ]|~"), " "),
    (re.compile(r"\\frac\s?([0-9])\s?([0-9])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s?([0-9])\s?(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s?\{[^{}]*\})\s?([0-9A-Za-z])"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s?([0-9A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\^?\s?\{?\\(?:circ|degree)(?![A-Za-z])\}?"), "°"),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"(?<=[0-9.])\{\}"), ""),
    (re.compile(r"([\^_])\s?\{\s?([0-9A-Za-z])\s?\}"), r"\1\2"),
    (re.compile(r"\s+([\^_])\s*"), r"\1"),
    (re.compile(r"\\\\\s*$"), ""),
]
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_TYPOGRAPHY = str.maketrans(
    {
        "−": "-",
        "\u2013": "-",
        "\u2014": "-",
        "‐": "-",
        "×": "*",
        "·": "*",
        "⋅": "*",
        "÷": "/",
        "’": "'",
        "‘": "'",
    }
    | {"“": '"', "”": '"', "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∞": r"\infty "}
    | {
        "π": r"\pi ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "\u200b": "",
        "\ufeff": "",
    }
    | {"⁄": "/", "θ": r"\theta ", "ℝ": r"\mathbb{R}", "º": "°", "\u2061": ""}
)
_ROOT = re.compile(r"√\s?(?:\(([^()]*)\)|([0-9]+(?:\.[0-9]+)?|[A-Za-z]))")
_WORD_ROOT = re.compile(r"(?<![A-Za-z\\])sqrt\s?\(([^()]*)\)")
_CLOCK = re.compile(r"\b([ap])\.\s?m\b\.?", re.IGNORECASE)
_WORD_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
_PREFIX = re.compile(
    r"(?:the\s+)?(?:(?:final|correct)\s+)?(?:answer|result)\s*(?:is|:|=)\s*:?\s*(?!not\b)|\\(?:approx|therefore|implies)"
    r"(?![A-Za-z])\s*|[:=]\s*",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Text in plain dress; the same for every dress of one answer, and fixed under a second cleaning."""
    text = text.strip()
    if _PLAIN.fullmatch(text) and "answer" not in text and "sqrt" not in text and "pi" not in text:
        return text[:-1].rstrip() if text.endswith(".") else text.lstrip("= ")
    text = _FORMULA.sub(r"\1", _undressed(text))
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text or "{" in text or "~" in text:
        text = _without_latex(text)
    text = _WORD_PI.sub(r"\\pi", _WORD_ROOT.sub(r"\\sqrt{\1}", text))
    text = _CLOCK.sub(r"\1m", " ".join(text.split()))
    match = _PREFIX.match(text)
    return _undressed(text[match.end() :] if match else text)


def _undressed(text: str) -> str:
    """Without the dollar signs, brackets of formulas, bold marks and full stop around all of it."""
    for _ in range(4):
        text = text.strip()
        if text.endswith((".", "。")) and not text.endswith(".."):
            text = text[:-1].rstrip()
        match = _DRESS.fullmatch(text)
        inner = next((group for group in match.groups() if group is not None), None) if match else None
        if inner is None or (text[0] in inner and text[0] in "$*`"):  # "$1$ and $2$"
            return text
        text = inner
    return text


def _ascii(text: str) -> str:
    """Without typography: signs, raised digits, fractions in one character, full-width digits."""
    text = _THOUSANDS.sub("", text)
    text = _VULGAR.sub(_as_fraction, text)
    text = _RAISED.sub(lambda match: f"^{{{_lowered(match[0])}}}", text)
    text = unicodedata.normalize("NFKC", text.translate(_TYPOGRAPHY)).translate(_TYPOGRAPHY)
    return _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", text)


def _as_fraction(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _lowered(raised: str) -> str:
    return unicodedata.normalize("NFKC", raised).translate(_TYPOGRAPHY)


def _without_latex(text: str) -> str:
    text = _THOUSANDS.sub("", text)
    for _ in range(3):  # wrappers inside of wrappers
        text = _WRAPPER.sub(lambda match: f" {match[1]} ", text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text
