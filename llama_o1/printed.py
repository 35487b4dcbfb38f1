"""What commands print: lines on stdout, whatever it can hold."""

from __future__ import annotations

import sys


def printed(text: str) -> None:
    """Write a line; signs that stdout's encoding lacks become escapes."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
