"""Memory of pages: aligned, there before it is written, and never changed by being brought."""

import threading

import numpy as np
import pytest

from replay import ram


def wait_for_memory():
    for thread in threading.enumerate():
        if thread.name == "replay memory":
            thread.join()


@pytest.mark.parametrize("size", [8, 1 << 14, 5 << 20, 9 << 20])
def test_what_is_written_while_a_page_is_brought_stays(size):
    for _ in range(5):
        page = ram.page_of_bytes(size)
        assert size - (1 << 21) < len(page) <= size
        pattern = np.resize(np.arange(251, dtype=np.uint8), len(page))
        page[:] = pattern
        wait_for_memory()
        assert np.array_equal(page, pattern)


def test_a_large_page_is_brought_in_pieces_to_its_end(monkeypatch):
    asked = []
    monkeypatch.setattr(ram, "_advise", lambda: lambda *where: asked.append(where) or 0)
    page = ram.page_of_bytes(19 << 20)
    wait_for_memory()
    begin = page.ctypes.data
    assert begin % (1 << 21) == 0
    assert asked == [
        (begin, 8 << 20, 23),
        (begin + (8 << 20), 8 << 20, 23),
        (begin + (16 << 20), 2 << 20, 23),
    ]


@pytest.mark.parametrize("advise", [None, lambda *where: -1])
def test_a_system_that_cannot_bring_memory_gives_it_all_the_same(monkeypatch, advise):
    monkeypatch.setattr(ram, "_advise", lambda: advise)
    page = ram.page_of_bytes(9 << 20)
    wait_for_memory()
    page[:] = 7
    assert int(page.sum(dtype=np.int64)) == 7 * len(page)


def test_zeros_begin_at_a_cache_line():
    for count in (1, 3, 1000):
        zeros = ram.zeros_in_lines(count, np.float64)
        assert zeros.ctypes.data % 64 == 0
        assert zeros.tolist() == [0.0] * count
