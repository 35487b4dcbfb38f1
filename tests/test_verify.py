import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.tasks.problem import Problem
from llama_o1.tasks.verify import MAX_ANSWER_CHARS, canonical_answer, declared_answer, failing_golds, verify


def number(gold):
    return Problem("p", "How many?", gold, "test")


def expression(numbers=(1, 1, 4, 6), target=24):
    return Problem("p", "Make 24.", "1*1*4*6", "test", "expression", numbers, target)


def choice(gold="A"):
    return Problem("p", "Which?", gold, "test", "choice")


def boxed(answer):
    return f"So it is \\boxed{{{answer}}}."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{17}. Wait, \boxed{18}", "18"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{4} and \boxed{5", "4"),
        (r"} \boxed {5} {", "5"),
        (r"\boxed{7}. Put it in \boxed{}.", "7"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        ("#### 5\n#### 6\n", "6"),
        ("#### 1,234\r\n", "1,234"),
        ("#### 5\n\\boxed{6}\n#### 7", "6"),
        ("<think>\\boxed{3}</think> #### no\n#### 4", "4"),
        ("The answer is 18.", None),
        ("18", None),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        ("It is #### 5", None),
        ("##### 5", None),
        ("####", None),
        ("<think>\\boxed{3}</think>", None),
        ("<think>\\boxed{3}", None),
        ("", None),
    ],
)
def test_the_last_declaration_counts_and_nothing_else(text, answer):
    assert declared_answer(text) == answer


def test_a_declaration_beyond_the_limit_is_none():
    assert declared_answer(boxed("1" * MAX_ANSWER_CHARS)) is not None
    assert declared_answer(boxed("1" * (MAX_ANSWER_CHARS + 1))) is None


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("18", "18", "string"),
        ("18", "18.", "string"),
        ("18", "$18$", "string"),
        ("18", "18.0", "number"),
        ("18", "018", "number"),
        ("18", "+18", "number"),
        ("18", r"\$18.00", "number"),
        ("18", "18 dollars", "number"),
        ("18", r"18\text{ cm}^2", "number"),
        ("18 dollars", "$18", "number"),
        ("$18", "18 dollars per hour", "number"),
        ("10 cm", r"10\,\text{cm}", "string"),
        ("1234", "1,234", "number"),
        ("1234", "1{,}234", "string"),
        ("1234", r"1\,234", "string"),
        ("1,234", "1234", "number"),
        ("-3", "−3", "string"),
        ("0.75", "3/4", "number"),
        ("0.75", r"\frac{3}{4}", "number"),
        ("3/4", r"\dfrac{6}{8}", "number"),
        ("-1.5", r"-1\frac{1}{2}", "number"),
        ("1000", "1e3", "number"),
        ("1.6e-19", r"1.60 \times 10^{-19}", "number"),
        ("50", r"50\%", "number"),
        ("50%", "50 percent", "number"),
        ("50%", "0.5", "percent"),
        ("0.5", "50%", "percent"),
        ("60", r"60^\circ", "number"),
        ("3", "3 quarters", "number"),
        ("Blue", "blue", "string"),
        ("1, 2, 3", r"1,\ 2,\ 3", "string"),
        ("x^2+1", r"x^2+1", "string"),
    ],
)
def test_an_equal_answer_is_correct(gold, answer, rule):
    verdict = verify(boxed(answer), number(gold))
    assert (verdict.verdict, verdict.rule) == ("correct", rule)
    assert verdict.answer is not None


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("234", "1,234", "number"),
        ("18", "-18", "number"),
        ("0.3333", "1/3", "number"),
        ("1e-20", "1e-21", "number"),
        ("1.6e-19", r"1.7\times 10^{-19}", "number"),
        ("5", "50%", "number"),
        ("204_5", "204_6", "base"),
        ("204_5", "204", "base"),
        ("204", "204_5", "base"),
        ("10 cm", "10 m", "unit"),
        ("10 square feet", "10 square meters", "unit"),
        ("5", "x = 6", "number"),
        ("3", "3 million", "number"),
        ("3", "3 dozen", "number"),
        ("4", "2+2", "unevaluated"),
        ("3", "1, 2, 3", "several"),
        ("1, 2, 3", "1, 2, 4", "list"),
        ("1234", "1,23,4", "several"),
        ("2", "2 hours 30 minutes", "number"),
    ],
)
def test_another_answer_is_wrong(gold, answer, rule):
    verdict = verify(boxed(answer), number(gold))
    assert (verdict.verdict, verdict.rule) == ("wrong", rule)


@pytest.mark.parametrize("answer", ["17 or 18", "18 or 17", r"18 \pm 1", "$17 and $18"])
def test_two_answers_in_one_declaration_are_none(answer):
    verdict = verify(boxed(answer), number("18"))
    assert verdict == ("unparsed", None, "several answers")
    assert canonical_answer(boxed(answer), "number") is None


def test_a_right_number_that_is_not_declared_is_not_graded():
    assert verify("The result is 18", number("18")) == ("unparsed", None, "none declared")


@pytest.mark.parametrize(
    ("answer", "state", "rule"),
    [
        ("(1 - 1) + (4 * 6)", "correct", "expression"),
        (r"4 \times 6 \cdot 1 \div 1", "correct", "expression"),
        (r"\frac{4 \cdot 6}{1} \times 1", "correct", "expression"),
        (r"\left[1 \times 1\right] 4 * 6", "unparsed", "not an expression"),
        ("1 - 1 + 4*6 = 24", "correct", "expression"),
        ("1 - 1 + 4*6 = 25", "wrong", "equation"),
        ("4*6", "wrong", "numbers used"),
        ("4*6*1", "wrong", "numbers used"),
        ("4*6*1*1*1", "wrong", "numbers used"),
        ("14 + 6 + 1 + 3", "wrong", "numbers used"),
        ("24", "wrong", "numbers used"),
        ("1+1+4+6", "wrong", "target"),
        ("(4*6", "unparsed", "not an expression"),
        ("4*6*1**1", "unparsed", "not an expression"),
        ("4*6/(1-1)", "unparsed", "not an expression"),
    ],
)
def test_an_expression_must_use_every_number_once_and_hit_the_target(answer, state, rule):
    verdict = verify(boxed(answer), expression())
    assert (verdict.verdict, verdict.rule) == (state, rule)


def test_an_expression_is_exact_where_floats_are_not():
    assert verify(boxed("8/(3-8/3)"), expression((3, 3, 8, 8))).verdict == "correct"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("A", "correct"),
        ("(a)", "correct"),
        ("A.", "correct"),
        ("A) 32400", "correct"),
        ("Option A", "correct"),
        (r"\text{A}", "correct"),
        ("B", "wrong"),
        ("(A) or (B)", "unparsed"),
        ("A or B", "unparsed"),
        ("32400", "unparsed"),
        ("Apple", "unparsed"),
    ],
)
def test_a_choice_is_one_letter(answer, state):
    assert verify(boxed(answer), choice()).verdict == state


@pytest.mark.parametrize(
    ("kind", "answers", "form"),
    [
        ("number", ["1,234", "1234.0", "$1234", "1234 apples", "1.234e3"], "1234"),
        ("number", ["1/3", "2/6", r"\frac{1}{3}"], "1/3"),
        ("number", ["Blue sky", "blue  SKY."], "blue sky"),
        ("expression", ["4*6 + 1", r"4 \times 6+1", "4*6+1 = 25"], "4*6+1"),
        ("choice", ["A", "(a)", "A) 12"], "A"),
    ],
)
def test_equal_answers_have_one_canonical_form(kind, answers, form):
    assert {canonical_answer(boxed(a), kind) for a in answers} == {form}


def test_an_unreadable_answer_has_no_canonical_form():
    assert canonical_answer("18", "number") is None
    assert canonical_answer(boxed("4*"), "expression") is None
    assert canonical_answer(boxed("none"), "choice") is None


def test_gold_answers_that_cannot_be_reached_are_found():
    bad_target = Problem("bad", "q", "1+1", "test", "expression", (1, 1), 3)
    unbalanced = Problem("odd", "q", "}", "test")
    good = [number("1,234"), choice(), expression(), number("blue")]
    assert [p for p, _ in failing_golds([*good, bad_target, unbalanced])] == [bad_target, unbalanced]


HOSTILE = st.text() | st.text(alphabet="\\boxed{}#$%0123456789 .,/-=()or\n\0\ud800", max_size=80)


@given(HOSTILE, st.sampled_from([number("18"), number("x"), expression(), choice()]))
def test_no_text_raises(text, problem):
    for written in (text, boxed(text), f"#### {text}"):
        verdict = verify(written, problem)
        assert (verdict.answer is None) == (verdict.verdict == "unparsed") or problem.answer == "x"
        assert verdict.answer == canonical_answer(written, problem.kind) or verdict.rule == "string"


@given(HOSTILE)
def test_any_gold_without_braces_verifies_against_itself(gold):
    answer = gold.translate(str.maketrans("", "", "{}\\"))
    if answer.strip() and "think>" not in answer:
        assert verify(boxed(answer), number(answer)).verdict == "correct"


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_numbers_are_equal_exactly_when_their_fractions_are(a, b):
    assert (verify(boxed(b), number(str(a))).verdict == "correct") == (a == b)
    assert (verify(boxed(a), number(str(b))).verdict == "correct") == (a == b)


@given(st.integers(-(10**12), 10**12))
def test_dress_does_not_change_a_number(n):
    for dressed in (f"{n:,}", f"{n}.0", f"{n} apples", f"{n}%", f"\\text{{{n}}}", f"{n}/1", f" {n}."):
        assert verify(boxed(dressed), number(str(n))).verdict == "correct"
    assert verify(boxed(str(n + 1)), number(str(Fraction(n)))).verdict == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 150_000,
        "\\boxed{}" * 125_000,
        "\\boxed{ " * 100_000 + "}" * 100_000,
        "\\boxed{" + "9" * 10**6 + "}",
        "\\boxed" + " " * 10**6,
        "#### " * 200_000,
        "####\n" * 200_000,
        "<think>" * 140_000,
        "{" * 10**6,
        boxed("9" * 490),
        boxed("1 " * 240),
        boxed("1,2" * 160),
        boxed("a " * 240),
        boxed("1 a or " * 70),
        boxed(r"\frac{" * 80 + "}" * 80),
        boxed("9**9**9**9"),
        boxed("99999999!"),
    ],
)
def test_a_hostile_text_is_graded_at_once(text):
    start = time.process_time()
    for problem in (number("18"), expression(), choice()):
        assert verify(text, problem).verdict != "correct"
    assert time.process_time() - start < 2.0  # a quadratic rule takes minutes
