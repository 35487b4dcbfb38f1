"""The one rule that says which split a problem belongs to: a hash of its canonical form."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def split_of(key: str) -> Split:
    """The split of a canonical form: 70 % train, 10 % dev, 20 % test."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return "train" if bucket < 70 else "dev" if bucket < 80 else "test"
