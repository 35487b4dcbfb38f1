import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.engine.protocol import Draw, FarSighted, Force, Halt, Span
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.play.program import Calculator, ThoughtProgram
from tree.actions import MetaAction

NO_MARKS = BudgetPlan(10_000, ())


@pytest.fixture(scope="module")
def calculator(codec):
    return Calculator(codec)


def program_of(codec, action=None, *, max_text=64, max_answer=32, plan=NO_MARKS, spent=0, calculator=None):
    header = codec.header(0, 1, action)
    return ThoughtProgram(header, max_text, max_answer, codec, plan, spent, calculator)


def play(program, draws):
    """The ids, and which of them were drawn, when the policy draws these; then it ends the thought."""
    draws = iter([*draws, *[program.codec.special.end_of_thought] * 2])
    ids, drawn = [], []
    while not isinstance(step := program(ids), Halt):
        new = [next(draws)] if isinstance(step, Draw) else step.ids
        ids += new
        drawn += [isinstance(step, Draw)] * len(new)
    return ids, drawn


def written(program, ids):
    """What stands after the header."""
    return program.codec.decode(ids[len(program.header) :])


def ids_of(codec, *parts):
    """Ids of texts and of special tokens, which are given as ids."""
    return [i for part in parts for i in (codec.encode(part) if isinstance(part, str) else [part])]


END = "<end_of_thought><start_of_rating>"


def test_a_thought_is_header_text_end_and_rating(codec):
    program = program_of(codec, MetaAction.CRITIC)
    ids, drawn = play(program, codec.encode("1 is 1"))
    assert codec.decode(ids) == codec.decode(codec.header(0, 1, MetaAction.CRITIC)) + "1 is 1" + END
    assert drawn == [False] * len(program.header) + [True] * (len(ids) - len(program.header) - 1) + [False]


def test_a_call_is_completed_with_its_result(codec, calculator):
    program = program_of(codec, calculator=calculator)
    call = codec.encode("<<48/2=")
    ids, drawn = play(program, [*call, *codec.encode(" clips")])
    assert written(program, ids) == "<<48/2=24>> clips" + END
    assert drawn[len(program.header) :][: len(call) + 4] == [True] * len(call) + [False] * 3 + [True]


@pytest.mark.parametrize(
    ("call", "result"),
    [("<<1/3=", "0.3333>>"), ("<<3-10=", "-7>>"), ("a >> b <<2 * (3+4) =", "14>>"), ("<<.5*3=", "1.5>>")],
)
def test_results_are_written_as_the_checker_reads_them(codec, calculator, call, result):
    program = program_of(codec, calculator=calculator)
    ids, _ = play(program, codec.encode(call))
    assert written(program, ids) == call + result + END


@pytest.mark.parametrize("call", ["48/2=", "<<x+1=", "<<1/0=", "<<1+1>> =", "<<=", "<<1+1<2="])
def test_a_call_that_cannot_be_worked_out_is_left_to_the_model(codec, calculator, call):
    program = program_of(codec, calculator=calculator)
    assert written(program, play(program, codec.encode(call + "5>>"))[0]) == call + "5>>" + END


def test_without_a_calculator_results_are_left_to_the_model(codec):
    program = program_of(codec)
    assert written(program, play(program, codec.encode("<<48/2=25>>"))[0]) == "<<48/2=25>>" + END


def test_a_mark_may_stand_between_call_and_result_and_within_the_result(codec, calculator):
    # Thinking positions of "<<48/2=24>>": << 4 8 / 2 = are 1 to 6, and a mark is due at every third position.
    marks = codec.special.remaining
    for spent, expected in (
        (
            2,
            (marks[0], "<<", "4", marks[1], "8", "/", marks[2], "2", "=", marks[3], "2", "4", marks[4], ">>"),
        ),
        (0, ("<<", "4", marks[0], "8", "/", marks[1], "2", "=", marks[2], "2", "4", marks[3], ">>")),
        (
            1,
            ("<<", marks[0], "4", "8", marks[1], "/", "2", marks[2], "=", "2", marks[3], "4", ">>", marks[4]),
        ),
    ):
        program = program_of(codec, plan=BudgetPlan(24, marks), spent=spent, calculator=calculator)
        ids, drawn = play(program, codec.encode("<<48/2="))
        wanted = [i for part in expected for i in ids_of(codec, part)]
        assert ids[len(program.header) :][: len(wanted)] == wanted
        sampled = [i for i, flag in zip(ids, drawn, strict=True) if flag]
        assert sampled == [*codec.encode("<<48/2="), codec.special.end_of_thought]


def test_a_thought_that_is_as_long_as_it_may_be_is_ended(codec):
    program = program_of(codec, max_text=5)
    ids, drawn = play(program, codec.encode("123456"))
    assert written(program, ids) == "1234" + END
    assert drawn[-2:] == [False, False]
    assert program.text_tokens(ids) == 5


def test_a_result_is_cut_where_the_thought_must_end(codec, calculator):
    program = program_of(codec, max_text=8, calculator=calculator)
    assert written(program, play(program, codec.encode("<<48/2="))[0]) == "<<48/2=2" + END


def test_a_mark_due_where_a_cut_result_ends_is_not_lost(codec, calculator):
    marks = codec.special.remaining
    # << 4 8 / 2 = 2 are positions 1 to 7; the next is due for a mark, then the cap ends the thought.
    program = program_of(codec, max_text=8, plan=BudgetPlan(64, marks), calculator=calculator)
    ids, _ = play(program, codec.encode("<<48/2="))
    assert written(program, ids) == "<<48/2=2<remaining>7/8</remaining>" + END
    assert program.text_tokens(ids) == 9


def test_a_conclusion_has_its_own_length_and_no_marks(codec):
    marks = codec.special.remaining
    forced = program_of(codec, MetaAction.CONCLUDE, max_answer=20, plan=None)
    assert written(forced, play(forced, codec.encode("1" * 30))[0]) == "<conclusion>"[12:] + "1" * 19 + END
    drawn = program_of(codec, max_answer=20, plan=BudgetPlan(16, marks), spent=2)
    ids, _ = play(drawn, ids_of(codec, codec.special.tags[MetaAction.CONCLUDE], "1" * 30))
    assert written(drawn, ids) == "<conclusion>" + "1" * 19 + END
    assert drawn.text_tokens(ids) == 20


@pytest.mark.parametrize(
    "action", [MetaAction.DIVIDE, MetaAction.CRITIC, MetaAction.REFINE, MetaAction.CONCLUDE]
)
def test_a_drawn_tag_is_known_and_does_not_count_as_text(codec, action):
    tag = codec.special.tags[action]
    program = program_of(codec)
    ids, drawn = play(program, ids_of(codec, tag, "12"))
    assert program.drawn_tag(ids) == tag
    assert program.text_tokens(ids) == 3  # two digits and the end
    assert drawn[len(program.header)]


def test_a_tag_may_be_drawn_after_the_mark_of_the_first_position(codec):
    tag, marks = codec.special.tags[MetaAction.REFINE], codec.special.remaining
    program = program_of(codec, plan=BudgetPlan(64, marks), spent=7)
    ids, _ = play(program, ids_of(codec, tag, "12"))
    assert written(program, ids) == "<remaining>7/8</remaining><refine>12" + END
    assert program.drawn_tag(ids) == tag
    assert program.text_tokens(ids) == 4


def test_a_forced_tag_leaves_none_to_draw(codec):
    program = program_of(codec, MetaAction.CRITIC)
    ids, _ = play(program, ids_of(codec, codec.special.tags[MetaAction.REFINE], "12"))
    assert program.drawn_tag(ids) is None
    assert written(program, ids) == "<refine>" + END


def test_a_token_that_has_no_place_in_a_text_ends_the_thought(codec):
    for token in sorted(codec.not_in_text):
        for before in ("", "1"):
            program = program_of(codec)
            if token in codec.tag_ids and not before:
                continue
            ids, drawn = play(program, ids_of(codec, before, token, "23"))
            assert written(program, ids) == before + codec.decode([token]) + END
            assert drawn[-2:] == [False, False]


def test_a_second_tag_ends_the_thought(codec):
    tag = codec.special.tags[MetaAction.CRITIC]
    program = program_of(codec)
    assert written(program, play(program, [tag, tag, *codec.encode("1")])[0]) == "<critic><critic>" + END


def adversarial(codec):
    """Draws of an ill-meaning policy: calls, tags, marks and every other special token, in any order."""
    call = codec.encode("<<48/2=9999*(1)->>.")
    special = [*codec.special.remaining, *codec.not_in_text, codec.special.end_of_thought]
    return st.lists(st.sampled_from(call) | st.sampled_from(call) | st.sampled_from(special), max_size=60)


def any_program(codec, calculator, data):
    """A program with any forced kind, lengths, budget and calculator."""
    action = data.draw(
        st.none() | st.sampled_from([MetaAction.EXPAND, MetaAction.CRITIC, MetaAction.CONCLUDE])
    )
    max_text, max_answer = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 20))
    total, spent = data.draw(st.integers(16, 70)), data.draw(st.integers(0, 70))
    plan = None if action is MetaAction.CONCLUDE else BudgetPlan(total, codec.special.remaining)
    return program_of(
        codec, action, max_text=max_text, max_answer=max_answer, plan=plan, spent=spent, calculator=calculator
    )


def draw_ahead(program, ids, tokens):
    """How many of `tokens` are drawn after `ids` before the program answers anything else."""
    counts = range(len(tokens))
    return next((count for count in counts if program([*ids, *tokens[:count]]) != Draw()), len(tokens))


def test_a_program_sees_ahead_to_its_cap(codec):
    program = program_of(codec, max_text=6)
    assert isinstance(program, FarSighted)
    header = list(program.header)
    assert program.ahead(header) == Span(5, codec.not_in_text | {codec.special.end_of_thought})
    assert draw_ahead(program, header, codec.encode("123456")) == 5
    assert program.ahead([*header, *codec.encode("12")]).draws == 3


def test_a_program_sees_ahead_to_the_next_budget_mark(codec):
    # Marks at thinking positions 8, 16, ...: after 5 of the path above and 1 of its own only the 7th is free.
    program = program_of(codec, plan=BudgetPlan(64, codec.special.remaining), spent=5)
    ids = [*program.header, *codec.encode("1")]
    assert program.ahead(ids).draws == 1
    assert draw_ahead(program, ids, codec.encode("234")) == 1
    ids += [*codec.encode("2"), codec.special.remaining[0]]
    assert program.ahead(ids).draws == 7


def test_a_conclusion_sees_ahead_over_the_marks_it_does_not_show(codec):
    plan, tag = BudgetPlan(16, codec.special.remaining), codec.special.tags[MetaAction.CONCLUDE]
    program = program_of(codec, plan=plan, spent=2, max_answer=20)
    assert program.ahead(program.header).draws == 1
    assert tag in program.ahead(program.header).wakes
    assert program.ahead([*program.header, tag]).draws == 19


def test_a_calculator_wakes_where_a_call_may_be_complete(codec, calculator):
    equals = codec.encode("=")[0]
    assert equals in program_of(codec, calculator=calculator).ahead(codec.header(0, 1, None)).wakes
    assert equals not in program_of(codec).ahead(codec.header(0, 1, None)).wakes


@settings(max_examples=200)
@given(st.data())
def test_what_a_program_sees_ahead_is_drawn(codec, calculator, data):
    program = any_program(codec, data.draw(st.sampled_from([None, calculator])), data)
    ids, drawn = play(program, [*data.draw(adversarial(codec)), *codec.encode("1" * 70)])
    for start in (at for at, flag in enumerate(drawn) if flag):
        span = program.ahead(ids[:start])
        assert span.draws >= 1
        tokens = data.draw(adversarial(codec))[: span.draws]
        for count in range(len(tokens)):
            assert program([*ids[:start], *tokens[:count]]) == Draw()
            if tokens[count] in span.wakes:
                break


@settings(max_examples=200)
@given(st.data())
def test_a_program_is_pure_and_its_forced_ids_follow_from_the_ids_alone(codec, calculator, data):
    program = any_program(codec, calculator, data)
    plan, spent = program.plan, program.spent
    ids, drawn = play(program, [*data.draw(adversarial(codec)), *codec.encode("1" * 70)])
    for length, was_drawn in enumerate(drawn):
        step = program(ids[:length])
        assert step == program(tuple(ids[:length]))
        if was_drawn:
            assert step == Draw()
        else:
            assert isinstance(step, Force)
            assert list(step.ids) == ids[length : length + len(step.ids)]
    text = program.text_tokens(ids)
    tag = program.drawn_tag(ids)
    assert len(ids) == len(program.header) + (tag is not None) + text + 1
    concludes = plan is None or tag == codec.special.tags[MetaAction.CONCLUDE]
    assert text <= (program.max_answer if concludes else program.max_text + 1)
    if plan is not None and not concludes:
        own = ids[len(program.header) : -1]
        if tag is not None:
            own.remove(tag)
        for k, token in enumerate(own):
            assert plan.token_at(spent + k + 1) in (None, token)


def test_a_hinted_header_is_forced_whole(tiny_tokenizer, codec):
    hinting = Codec(tiny_tokenizer, codec.special, hints=True)
    program = program_of(hinting, MetaAction.CONCLUDE, plan=None)
    assert program([]) == Force(program.header)
    assert program(program.header[:5]) == Force(program.header[5:])
    assert program(program.header) == Draw()
