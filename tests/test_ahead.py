"""Steps made in a process beside are the same in the same order, and its errors come through."""

import os
from collections.abc import Iterator

import pytest

from llama_o1.errors import ProblemError
from llama_o1.learn.ahead import ahead
from llama_o1.learn.rows import Line


def steps(count: int) -> Iterator[list[Line]]:
    for step in range(count):
        yield [Line([step, os.getpid()], [0.5, 1.0]), Line((7,), (1.0,), (8,))]


def test_steps_come_in_order_as_they_were_made_and_from_another_process():
    found = list(ahead(steps(30)))
    makers = {lines[0].ids[1] for lines in found}
    assert len(makers) == 1
    assert makers != {os.getpid()}
    assert [lines[0].ids[0] for lines in found] == list(range(30))
    assert all(lines[1] == Line((7,), (1.0,), (8,)) and lines[0].weights == [0.5, 1.0] for lines in found)


def test_what_making_them_raises_comes_through_after_the_steps_before_it():
    def broken() -> Iterator[list[Line]]:
        yield from steps(2)
        raise ProblemError("no such split")

    made = ahead(broken())
    assert [next(made)[0].ids[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ProblemError, match=r"^no such split$"):
        next(made)


def test_no_more_is_made_than_a_few_steps_ahead():
    made = ahead(steps(10**9))
    assert next(made)[0].ids[0] == 0
    del made  # ends the process
