"""Answers that are one answer in a vote, by the verifier's equality."""

import pytest

from llama_o1.tasks.same import same_answer


@pytest.mark.parametrize(("first", "second"), [("7", "7"), ("1/2", "0.5"), ("x", "x"), ("3/4", "0.75")])
def test_answers_that_the_verifier_takes_for_each_other_are_one(first, second):
    assert same_answer(first, second)
    assert same_answer(second, first)


@pytest.mark.parametrize(("first", "second"), [("7", "8"), ("1/2", "0.49"), ("7", "x"), ("0.3", "1/3")])
def test_other_answers_are_two(first, second):
    assert not same_answer(first, second)
    assert not same_answer(second, first)
