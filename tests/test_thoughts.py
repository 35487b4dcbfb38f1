import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.errors import RecordError
from llama_o1.format.thoughts import Rating, Thought, parse, render
from llama_o1.format.tokens import REMAINING, SPECIAL_TOKENS
from tree.actions import DRAWABLE, MetaAction

THREE = [
    Thought(-1, 0, MetaAction.PROBLEM, "What is 48/2?"),
    Thought(0, 1, MetaAction.EXPAND, "<<48/2=24>>", Rating.POSITIVE),
    Thought(1, 4, MetaAction.CONCLUDE, "\\boxed{25}", Rating.NEGATIVE),
]
THREE_TEXT = (
    "<start_of_father_id>-1<end_of_father_id><start_of_local_id>0<end_of_local_id>"
    "<start_of_thought><problem>What is 48/2?<end_of_thought>\n"
    "<start_of_father_id>0<end_of_father_id><start_of_local_id>1<end_of_local_id>"
    "<start_of_thought><<48/2=24>><end_of_thought><start_of_rating><positive_rating><end_of_rating>\n"
    "<start_of_father_id>1<end_of_father_id><start_of_local_id>4<end_of_local_id>"
    "<start_of_thought><conclusion>\\boxed{25}<end_of_thought><start_of_rating><negative_rating><end_of_rating>"
)
ROOT = render(THREE[:1])

texts = st.text(max_size=20).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS))
marked_texts = st.lists(texts | st.sampled_from(REMAINING), max_size=4).map("".join)


@st.composite
def records(draw):
    ids = draw(st.lists(st.integers(0, 9999), min_size=1, max_size=8, unique=True))
    thoughts = [Thought(-1, ids[0], MetaAction.PROBLEM, draw(marked_texts))]
    for number, local in enumerate(ids[1:], start=1):
        father = draw(st.sampled_from(ids[:number]))
        rating = draw(st.none() | st.sampled_from(Rating))
        thoughts.append(Thought(father, local, draw(st.sampled_from(DRAWABLE)), draw(marked_texts), rating))
    return thoughts


def test_a_record_of_three_thoughts_is_written_and_read_exactly():
    assert render(THREE) == THREE_TEXT
    assert parse(THREE_TEXT) == THREE


@given(records())
def test_what_is_rendered_is_parsed_again(thoughts):
    assert parse(render(thoughts)) == thoughts


@given(records(), st.sampled_from(["", " ", "\n", "\r\n\t "]))
def test_white_space_between_thoughts_does_not_matter(thoughts, space):
    record = space + space.join(render([thought]) for thought in thoughts) + space
    assert parse(record) == thoughts
    assert render(parse(record)) == render(thoughts)


def test_white_space_around_ids_does_not_matter():
    assert parse(THREE_TEXT.replace("id>1<", "id> 1 <")) == THREE


@pytest.mark.parametrize(
    ("action", "tag"),
    [
        (MetaAction.EXPAND, ""),
        (MetaAction.DIVIDE, "<problem>"),
        (MetaAction.CRITIC, "<critic>"),
        (MetaAction.REFINE, "<refine>"),
        (MetaAction.CONCLUDE, "<conclusion>"),
    ],
)
def test_every_kind_has_its_tag(action, tag):
    thoughts = [THREE[0], Thought(0, 1, action, "text", Rating.UNKNOWN)]
    assert render(thoughts).endswith(
        f"<start_of_thought>{tag}text<end_of_thought><start_of_rating><unknown_rating><end_of_rating>"
    )
    assert parse(render(thoughts)) == thoughts


def test_a_budget_mark_before_a_drawn_tag_belongs_to_the_text():
    drawn = THREE_TEXT.replace("<conclusion>", f"{REMAINING[0]}<conclusion>")
    assert parse(drawn)[2].action is MetaAction.CONCLUDE
    assert parse(drawn)[2].text == REMAINING[0] + "\\boxed{25}"


def test_a_value_of_a_half_and_more_is_rated_positive():
    assert [Rating.of(v) for v in (0.0, 0.49, 0.5, 1.0)] == [
        Rating.NEGATIVE,
        Rating.NEGATIVE,
        Rating.POSITIVE,
        Rating.POSITIVE,
    ]


@pytest.mark.parametrize("token", [token for token in SPECIAL_TOKENS if token not in REMAINING])
def test_a_text_that_holds_a_special_token_is_refused(token):
    with pytest.raises(RecordError, match=f"thought 7 holds {token} in its text"):
        render([Thought(-1, 7, MetaAction.PROBLEM, f"a{token}b")])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "the record holds no thought"),
        (" \n", "the record holds no thought"),
        (ROOT + "\nand more", f"at character {len(ROOT)} of the record, found 'and more'"),
        (ROOT + ROOT[:-5], f"at character {len(ROOT)} "),
        (THREE_TEXT.replace("id>1<end_of_l", "id>x<end_of_l"), f"at character {len(ROOT)} "),
        (
            THREE_TEXT.replace("<positive_rating>", ""),
            f"at character {THREE_TEXT.index('<start_of_rating>')} ",
        ),
        (ROOT.replace("id>0<", f"id>{'9' * 5000}<"), "at character 0 "),
        (ROOT + ROOT, "thought 1 has local id 0, which an earlier one has"),
        (THREE_TEXT.replace("id>4<", "id>1<"), "thought 2 has local id 1, which"),
        (ROOT + ROOT.replace("id>0<", "id>1<"), "thought 1 has father -1; only the first"),
        (ROOT.replace("id>-1<", "id>0<"), "thought 0 has father 0; only the first"),
        (THREE_TEXT.replace("id>1<end_of_f", "id>4<end_of_f"), "thought 2 has father 4, which comes later"),
        (THREE_TEXT.replace("id>1<end_of_f", "id>3<end_of_f"), "thought 2 has father 3, which comes later"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(record, message):
    with pytest.raises(RecordError, match=re.escape(message)):
        parse(record)
