"""The shipped pairs: every case with its reason, and rules that hold for any answer."""

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.tasks.verify import canonical_answer, problem_of, verify

PAIRS_FILE = Path(__file__).parent / "data" / "answer_pairs.jsonl"
PAIRS = [json.loads(line) for line in PAIRS_FILE.read_text(encoding="utf-8").splitlines()]
CATEGORIES = sorted({pair["category"] for pair in PAIRS})
SAFE = ("tiny number", "base", "sequence")  # no false positive at all


def boxed(answer):
    return f"\\boxed{{{answer}}}"


def graded(pair):
    return verify(pair["prediction"], replace(problem_of(pair["gold"]), question=pair.get("question", "")))


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_shipped_pair_is_graded_as_it_says(category):
    pairs = [pair for pair in PAIRS if pair["category"] == category]
    wrong = [pair for pair in pairs if graded(pair).verdict != pair["expected"]]
    assert wrong == []


def test_the_shipped_pairs_are_many_and_each_has_a_reason():
    assert len(PAIRS) >= 250
    assert all(pair["reason"] and pair["category"] for pair in PAIRS)
    assert {pair["expected"] for pair in PAIRS} == {"correct", "wrong", "unparsed", "timeout"}
    for category in SAFE:
        assert sum(p["category"] == category and p["expected"] == "wrong" for p in PAIRS) >= 10


def test_no_gold_answer_of_the_pairs_fails_against_itself():
    golds = {pair["gold"] for pair in PAIRS}
    assert [gold for gold in golds if verify(boxed(gold), gold).verdict != "correct"] == []


def test_equal_answers_of_the_pairs_are_mostly_one_vote():
    # Without a gold answer nothing is compared symbolically: surds and expressions stay apart.
    exact = [
        p for p in PAIRS if p["category"] in ("number", "thousands", "fraction", "mixed number", "scientific")
    ]
    for pair in (p for p in exact if p["expected"] == "correct"):
        assert canonical_answer(pair["prediction"], "number") == canonical_answer(
            boxed(pair["gold"]), "number"
        )


NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15).map(str),
    st.decimals(-(10**6), 10**6, allow_nan=False, places=3).map(str),
    st.fractions(-1000, 1000, max_denominator=50).map(str),
    st.builds("{}e{}".format, st.integers(-99, 99), st.integers(-40, 40)),
)
TERMS = st.sampled_from(
    ["x", "2", r"\sqrt{2}", r"\pi", "(1,2)", r"\{1,2\}", "204_5", "10 cm", "50%", "Blue", "B"]
)


@given(NUMBERS)
def test_a_number_equals_itself(number):
    assert verify(boxed(number), number).verdict == "correct"


@given(TERMS, TERMS)
@settings(max_examples=60)
def test_being_right_is_symmetric_where_both_may_be_the_gold(first, second):
    one, other = verify(boxed(first), second), verify(boxed(second), first)
    assert (one.verdict == "correct") == (other.verdict == "correct")
    assert first != second or one.verdict == "correct"


@given(NUMBERS, NUMBERS)
def test_being_right_is_symmetric_on_numbers(first, second):
    right = verify(boxed(first), second).verdict
    assert right == verify(boxed(second), first).verdict
    assert (right == "correct") == (Fraction(first) == Fraction(second))


DRESSES = [
    "${}$",
    " {} ",
    r"\text{{{}}}",
    r"\left({}\right)",
    r"\, {} \,",
    r"\displaystyle {}",
    "{} apples",
    r"{}\text{{ cm}}",
    "x = {}",
    "Answer: {}",
    r"\mathbf{{{}}}",
]


@given(NUMBERS, st.sampled_from(DRESSES))
def test_dress_changes_no_number(number, dress):
    for text in (dress.format(number), dress.format(f"${number}$"), f" {dress.format(number)}."):
        assert verify(boxed(text), number).verdict == "correct", text


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 60))
def test_tiny_numbers_are_equal_only_when_they_are(first, second, exponent):
    gold, given_ = f"{first}e-{exponent}", rf"{second} \times 10^{{-{exponent}}}"
    assert (verify(boxed(given_), gold).verdict == "correct") == (first == second)


@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(2, 10))
def test_a_number_in_a_base_equals_it_in_no_other(value, first, second):
    def digits(base):
        text, rest = "", value
        while rest or not text:
            text, rest = str(rest % base) + text, rest // base
        return text

    gold, given_ = f"{digits(first)}_{first}", f"{digits(first)}_{{{max(first, second)}}}"
    assert (verify(boxed(given_), gold).verdict == "correct") == (max(first, second) == first)


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_a_sequence_equals_itself_in_its_own_order_only(members, rng):
    shuffled = rng.sample(members, len(members))
    text = ", ".join(map(str, members))
    right = verify(boxed(", ".join(map(str, shuffled))), text).verdict == "correct"
    assert right == (members == shuffled)
    assert verify(boxed(r"\{" + ",".join(map(str, shuffled)) + r"\}"), rf"\{{{text}\}}").verdict == "correct"
    assert verify(boxed(re.sub(", ", ",", text)), f"({text})").verdict == "correct"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_denied_or_left_open_is_not_declared(gold, other):
    if gold != other:
        assert verify(boxed(f"{gold} or {other}"), str(gold)).verdict == "unparsed"
    assert verify(f"It is not {boxed(gold)}", str(gold)).verdict == "unparsed"
    assert verify(f"<think>{boxed(gold)}</think>", str(gold)).verdict == "unparsed"
    corrected = f"{boxed(other)}. Wait, {boxed(gold)}"
    assert verify(corrected, str(gold)).verdict == "correct"
    assert (verify(corrected, str(other)).verdict == "correct") == (gold == other)
