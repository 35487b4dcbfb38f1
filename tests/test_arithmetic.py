from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.tasks.arithmetic import (
    MAX_CHARS,
    MAX_DEPTH,
    evaluate,
    exact_text,
    format_number,
    numbers_in,
    operations_in,
    parse_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48/2", Fraction(24)),
        ("2+3*4", Fraction(14)),
        ("(2+3)*4", Fraction(20)),
        ("2-3-4", Fraction(-5)),
        ("12/4/3", Fraction(1)),
        ("8/(3-8/3)", Fraction(24)),
        ("0.1+0.2", Fraction(3, 10)),
        (".5*4", Fraction(2)),
        ("3*-2", Fraction(-6)),
        ("-(1+2)", Fraction(-3)),
        ("6÷4×2−1", Fraction(2)),
        (" 1\t+\n1 ", Fraction(2)),
    ],
)
def test_an_expression_is_evaluated_exactly(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "2 3",
        "2(3)",
        "1/0",
        "1/(2-2)",
        "(1",
        "1)",
        "+",
        "9**9",
        "1..2",
        "1,234",
        "x",
        "٣",
        "1_000",
        "5%",
    ],
)
def test_what_is_no_expression_has_no_value(text):
    assert evaluate(text) is None
    assert numbers_in(text) is None
    assert operations_in(text) is None


def test_length_depth_and_magnitude_are_limited():
    assert evaluate("1" + "+1" * ((MAX_CHARS - 1) // 2)) == (MAX_CHARS - 1) // 2 + 1
    assert evaluate("1" + "+1" * MAX_CHARS) is None
    assert evaluate("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == 1
    assert evaluate("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)) is None
    assert evaluate("-" * (MAX_DEPTH + 1) + "1") is None
    assert evaluate("*".join(["9999999999"] * 15)) is not None  # 150 digits
    assert evaluate("*".join(["9999999999"] * 16)) is None


def test_numbers_are_listed_left_to_right_without_signs():
    assert numbers_in("(-3 + 2.5) * 3") == [3, Fraction(5, 2), 3]


def test_operations_are_listed_in_the_order_they_are_done():
    steps = operations_in("10-(4+2)*3") or []
    assert [(s.left, s.sign, s.right, s.result) for s in steps] == [
        (4, "+", 2, 6),
        (6, "*", 3, 18),
        (10, "-", 18, -8),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", Fraction(1234)),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("$5", Fraction(5)),
        ("-$5", Fraction(-5)),
        ("$-5", Fraction(-5)),
        ("50%", Fraction(50)),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("−3", Fraction(-3)),
        ("+3", Fraction(3)),
        ("007", Fraction(7)),
        ("2.50", Fraction(5, 2)),
        ("1e3", Fraction(1000)),
        ("1.6E-19", Fraction(16, 10**20)),
    ],
)
def test_a_number_is_read_exactly(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1,23",
        "1,2345",
        "1,234,5",
        "12,34",
        "1 2",
        "3/0",
        "-$-5",
        "1e2001",
        "1.2.3",
        "5 6/",
        "٣",
        "2+2",
        "1/2/3",
    ],
)
def test_what_is_no_number_is_not_read(text):
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(24), "24"),
        (Fraction(1, 2), "0.5"),
        (Fraction(-3), "-3"),
        (Fraction(0), "0"),
        (Fraction(1, 64), "0.015625"),
        (Fraction(1, 3), "0.3333"),
        (Fraction(-2, 3), "-0.6667"),
        (Fraction(299999, 300000), "1"),
        (Fraction(1, 30000000), None),  # would round to zero
        (Fraction(10**31), None),
    ],
)
def test_a_number_is_written_as_its_shortest_decimal(value, text):
    assert format_number(value) == text


def test_exact_text_never_rounds():
    assert exact_text(Fraction(1, 3)) == "1/3"
    assert exact_text(Fraction(1, 4)) == "0.25"
    assert exact_text(Fraction(1, 10**20)) != exact_text(Fraction(1, 10**21))


@given(st.fractions())
def test_exact_text_is_read_back_as_the_same_value(value):
    text = exact_text(value)
    if len(text) <= MAX_CHARS:
        assert parse_number(text) == value


@given(st.text(alphabet="0123456789+-*/()., $%eE×÷−", max_size=60) | st.text())
def test_no_text_raises(text):
    evaluate(text)
    numbers_in(text)
    value = parse_number(text)
    if value is not None:
        format_number(value)


@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(-99, 99))
def test_evaluation_agrees_with_fractions(a, b, c):
    assert evaluate(f"{a}+{b}*({c}-{a})") == a + b * (c - a)
    assert evaluate(f"({a})/({b})") == (Fraction(a, b) if b else None)
