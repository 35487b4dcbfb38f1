"""One text for each answer, made without a gold answer, so that equal answers merge in a vote."""

from __future__ import annotations

import re

from llama_o1.tasks.arithmetic import exact_text
from llama_o1.tasks.forms import Form, Group, Named, Number
from llama_o1.tasks.quantity import Based


def form_text(form: Form) -> str:
    """The value of a form as text, without unit, variable and spaces; the order of a set is sorted away."""
    if isinstance(form, Number):
        return exact_text(form.quantity.value)
    if isinstance(form, Based):
        return f"{form.digits}_{form.base}"
    if isinstance(form, Named):
        return form_text(form.value)
    if not isinstance(form, Group):
        return folded(form.text)
    parts = [form_text(part) for part in form.parts]
    brackets = _BRACKETS.get(form.kind, form.kind)
    ordered = sorted(parts) if form.kind in ("any", "set", "union") else parts
    return f"{brackets[0]}{', '.join(ordered)}{brackets[1]}".strip()


def folded(text: str) -> str:
    """Words in lower case without articles and punctuation; mathematics without spaces."""
    if _WORD.search(text) is None:
        return _SPACE.sub("", text)
    bare = _PUNCTUATION.sub(" ", text.casefold())
    return " ".join(_ARTICLE.sub("", " ".join(bare.split())).split())


def is_several(form: Form) -> bool:
    """Whether a declaration leaves the choice between different answers: "17 or 18"."""
    if isinstance(form, Named):
        return is_several(form.value)
    return (
        isinstance(form, Group) and form.kind == "any" and len({form_text(part) for part in form.parts}) > 1
    )


_BRACKETS = {"list": "  ", "any": "  ", "set": "{}", "union": "UU", "matrix": "[]", "row": "[]"}
_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
# Two numbers stay two numbers, and `1, 234` is not 1,234.
_SPACE = re.compile(r"(?<![0-9A-Za-z,])\s+|(?<=,)\s+(?![0-9]{3}(?![0-9]))|\s+(?![0-9A-Za-z])(?<!,\s)")
_PUNCTUATION = re.compile(r"[\"“”!?]|(?<=\D)[.](?=\s|$)|(?<=[a-z])-(?=[a-z])")
_ARTICLE = re.compile(r"^(?:the|a|an) (?=\w)")
