"""Memory as the buffer wants it: in cache lines, in large pages, and there before it is written."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_LINE = 64  # bytes of a cache line
_LARGE = 1 << 21  # bytes of a large page of memory
_PIECE = 1 << 23  # bytes that are asked for at once: others who want memory wait no longer
_POPULATE_WRITE = 23  # of Linux 5.14 and later: brings memory as a write would, and writes nothing


def zeros_in_lines(count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros that begin where a cache line does, so that a block of 64 bytes lies in one line, not in two.

    Written rather than asked for as zeros: numpy gives large arrays large pages of memory only so.
    """
    array = _aligned(count * np.dtype(dtype).itemsize, _LINE)
    array[:] = 0
    return array.view(dtype)


def page_of_bytes(size: int) -> Bytes:
    """About so many bytes, not written yet; many begin and end where large pages of memory do.

    Numpy asks the system for large pages in arrays of 4 MB and more; the ends of others lie in small ones.
    The system brings memory when it is first used, on a virtual machine at no more than half a GB a second,
    so a thread has it bring the page while its beginning is filled.
    """
    if size < 2 * _LARGE:
        return np.empty(size, np.uint8)
    page = _aligned(size // _LARGE * _LARGE, _LARGE)
    advise = _advise()
    if advise is not None:
        Thread(target=_bring, args=(advise, page), name="replay memory", daemon=True).start()
    return page


def _bring(advise: Callable[[int, int, int], int], page: Bytes) -> None:
    for begin in range(0, page.nbytes, _PIECE):
        if advise(page.ctypes.data + begin, min(_PIECE, page.nbytes - begin), _POPULATE_WRITE):
            return  # an older system, or no memory left: then it comes when it is used


@cache
def _advise() -> Callable[[int, int, int], int] | None:
    """The system's madvise; None: it has none that knows how."""
    if sys.platform != "linux":
        return None
    advise: Callable[[int, int, int], int] = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)  # type: ignore[attr-defined]
    return advise


def _aligned(size: int, line: int) -> Bytes:
    raw = np.empty(size + line, dtype=np.uint8)  # what is never written takes no memory
    begin = -raw.ctypes.data % line
    return raw[begin : begin + size]
