from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError, ProblemError
from llama_o1.format.encode import Codec
from llama_o1.play.expand import Expander, ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from tree.actions import MetaAction
from tree.node import Ask, Failed

QUESTION = "What is 48/2?"


def never(text):
    raise AssertionError("only conclusions are graded")


def right(text):
    return Grade(text, 1.0)


def saying(codec, *parts):
    """An engine that writes these texts and tokens wherever it may draw, then ends its thoughts."""
    wanted = [i for part in parts for i in (codec.encode(part) if isinstance(part, str) else [part])]

    def policy(tokens):
        start = len(tokens) - tokens[::-1].index(codec.special.start_of_thought)
        own = [i for i in tokens[start:] if i not in codec.special.remaining]
        forced_tag = bool(own) and own[0] in codec.tag_ids and own[0] != wanted[0]
        said = len(own) - forced_tag
        logits = np.zeros(len(codec.tokenizer))
        logits[wanted[said] if said < len(wanted) else codec.special.end_of_thought] = 100.0
        logits[codec.special.positive] += 1.0
        return logits

    return FakeEngine(len(codec.tokenizer), 1024, policy=policy)


def ask_once(expander, engine, tree, action=None, *, parent=0, local_id=3, judge=never):
    """The request and what was told for one thought."""
    limits = expander.limits(10_000)
    worst = limits.conclusion if action is MetaAction.CONCLUDE else limits.thought
    ask = Ask(parent, action, local_id, worst, seed=1)
    request = expander.request(tree, ask)
    engine.submit("key", request)
    ((_, reply),) = engine.poll()
    return ask, request, expander.told(tree, ask, reply, judge)


def test_a_thought_is_told_with_its_exact_tokens(codec):
    expander = Expander(codec, ThoughtSettings(path_budget=64), 1024)
    tree = expander.tree(QUESTION, seed=0)
    _, request, told = ask_once(expander, saying(codec, "12 a"), tree)
    assert request.context == trail_of(tree, 0).context == codec.root(QUESTION)
    assert request.rating == (codec.special.positive, codec.special.negative)
    own = [*codec.header(0, 3, None), *codec.encode("12 a")]
    own += [codec.special.end_of_thought, codec.special.start_of_rating]
    assert told.payload.context == (*codec.root(QUESTION), *own, *codec.rating(told.value))
    assert told.payload.before == len(codec.root(QUESTION))
    assert told.payload.sample.ids.tolist() == own
    assert (told.action, told.text, told.tokens) == (MetaAction.EXPAND, "12 a", len(own) + 2)
    assert (told.payload.spent, told.thinking_left) == (4, 60)  # 1, 2, a and the end of thought
    assert not told.terminal
    assert told.value == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_ratings_that_are_not_shown_are_read_all_the_same(codec):
    told = {}
    for shown in (True, False):
        expander = Expander(codec, ThoughtSettings(show_ratings=shown), 1024)
        tree = expander.tree(QUESTION, seed=0)
        _, _, told[shown] = ask_once(expander, saying(codec, "12 a"), tree)
    assert told[False].payload.context[-2:] == (codec.special.unknown, codec.special.end_of_rating)
    assert told[True].payload.context[-2:] == (codec.special.positive, codec.special.end_of_rating)
    assert told[False].payload.context[:-2] == told[True].payload.context[:-2]
    assert told[False].value == told[True].value == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_a_child_continues_its_parent(codec):
    expander = Expander(codec, ThoughtSettings(), 1024)
    tree = expander.tree(QUESTION, seed=0)
    engine = saying(codec, "12")
    ask, _, told = ask_once(expander, engine, tree)
    node = tree.add(ask, told)
    _, request, below = ask_once(expander, engine, tree, MetaAction.CRITIC, parent=node.index, local_id=7)
    assert request.context == told.payload.context
    assert below.payload.context[: below.payload.before] == told.payload.context
    assert codec.decode(below.payload.context).count("<start_of_father_id>3<end_of_father_id>") == 1
    assert below.payload.spent == 6


def test_requests_of_one_problem_share_a_group(codec):
    expander = Expander(codec, ThoughtSettings(), 1024)
    engine = saying(codec, "12")
    trees = [expander.tree(QUESTION, seed=0), expander.tree(QUESTION, seed=1), expander.tree("1 + 1?", 0)]
    groups = []
    for tree in trees:
        ask, request, told = ask_once(expander, engine, tree)
        node = tree.add(ask, told)
        below = ask_once(expander, engine, tree, MetaAction.CRITIC, parent=node.index, local_id=7)[1]
        assert request.group == below.group
        groups.append(request.group)
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.parametrize("action", [MetaAction.CRITIC, MetaAction.REFINE])
def test_a_kind_drawn_against_the_grammar_ends_the_line_without_an_answer(codec, action):
    expander = Expander(codec, ThoughtSettings(), 1024)
    tree = expander.tree(QUESTION, seed=0)  # below the problem itself there is nothing to criticise
    engine = saying(codec, codec.special.tags[action], "\\boxed{24}")
    told = ask_once(expander, engine, tree, judge=lambda text: Grade(None, 0.5 if text else 0.0))[2]
    assert (told.action, told.terminal, told.answer, told.outcome) == (action, True, None, 0.0)


@pytest.mark.parametrize("action", [MetaAction.DIVIDE])
def test_a_drawn_tag_decides_the_kind_and_a_forced_one_stands(codec, action):
    expander = Expander(codec, ThoughtSettings(), 1024)
    tree = expander.tree(QUESTION, seed=0)
    told = ask_once(expander, saying(codec, codec.special.tags[action], "12"), tree)[2]
    assert (told.action, told.text, told.payload.spent) == (action, "12", 3)
    told = ask_once(expander, saying(codec, "12"), tree, action)[2]
    assert (told.action, told.text, told.payload.spent) == (action, "12", 3)


@pytest.mark.parametrize("forced", [False, True])
def test_a_conclusion_is_judged_ends_the_line_and_spends_no_thinking(codec, forced):
    expander = Expander(codec, ThoughtSettings(path_budget=64), 1024)
    tree = expander.tree(QUESTION, seed=0)
    tag = codec.special.tags[MetaAction.CONCLUDE]
    engine = saying(codec, "\\boxed{24}") if forced else saying(codec, tag, "\\boxed{24}")
    told = ask_once(expander, engine, tree, MetaAction.CONCLUDE if forced else None, judge=right)[2]
    assert (told.action, told.text, told.answer, told.outcome) == (
        MetaAction.CONCLUDE,
        "\\boxed{24}",
        "\\boxed{24}",
        1.0,
    )
    assert told.terminal
    assert told.payload.spent == 0


def test_the_mean_log_prob_is_over_sampled_tokens_only(codec):
    expander = Expander(codec, ThoughtSettings(calculator=True), 1024)
    tree = expander.tree(QUESTION, seed=0)
    told = ask_once(expander, saying(codec, "<<4/2=2>> a"), tree)[2]
    sample = told.payload.sample
    assert told.text == "<<4/2=2>> a"
    assert sample.sampled.sum() == len(codec.encode("<<4/2= a")) + 1
    assert told.logprob == pytest.approx(float(sample.logprobs[sample.sampled].mean()))
    assert np.isfinite([told.logprob, told.entropy, told.varentropy]).all()


def test_the_likeliest_thought_is_asked_for_at_temperature_zero(codec):
    expander = Expander(codec, ThoughtSettings(temperature=0.7), 1024)
    tree = expander.tree(QUESTION, seed=0)
    ask = Ask(0, None, 3, expander.limits(10_000).thought, seed=1)
    assert expander.request(tree, ask).temperature == 0.7
    likeliest = ask._replace(likeliest=True)
    request = expander.request(tree, likeliest)
    assert request.temperature == 0.0
    engine = saying(codec, "12 a")
    engine.submit("key", request)
    ((_, reply),) = engine.poll()
    assert expander.told(tree, likeliest, reply, never).payload.temperature == 0.0


def test_a_reply_that_was_cut_is_no_thought(codec):
    expander = Expander(codec, ThoughtSettings(), 1024)
    tree = expander.tree(QUESTION, seed=0)
    ask = Ask(0, None, 3, expander.limits(10_000).thought, seed=1)
    engine = saying(codec, "1234")
    engine.submit("key", replace(expander.request(tree, ask), max_tokens=12))
    ((_, reply),) = engine.poll()
    assert reply.samples[0].stopped == "allowance"
    assert expander.told(tree, ask, reply, never) == Failed(12, "cut before its value was read")


def test_a_problem_that_leaves_no_room_for_an_answer_is_refused(codec):
    conclusion = Expander(codec, ThoughtSettings(), 1024).limits(10_000).conclusion
    root = len(codec.root(QUESTION))
    fitting = Expander(codec, ThoughtSettings(), root + conclusion)
    assert fitting.holds(QUESTION)
    assert fitting.tree(QUESTION, 0).root.thinking_left == 0  # an answer and no more
    tight = Expander(codec, ThoughtSettings(), root + conclusion - 1)
    assert not tight.holds(QUESTION)
    with pytest.raises(
        ProblemError, match=f"the problem takes {root} tokens and an answer up to {conclusion}"
    ):
        tight.tree(QUESTION, 0)


def test_a_budget_below_one_conclusion_is_refused(codec):
    expander = Expander(codec, ThoughtSettings(), 1024)
    least = expander.limits(10_000).conclusion
    assert expander.limits(least).tokens == least
    with pytest.raises(ConfigError, match=f"budget_tokens must be at least {least}, .* got {least - 1}"):
        expander.limits(least - 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path_budget": 15}, "path_budget must be at least 16, got 15"),
        ({"max_text": 1}, "thoughts.max_text must be at least 2, got 1"),
        ({"max_answer": 0}, "thoughts.max_answer must be at least 2, got 0"),
        ({"temperature": -0.1}, "thoughts.temperature must be finite and at least 0, got -0.1"),
        ({"temperature": float("nan")}, "got nan"),
        ({"temperature": float("inf")}, "got inf"),
    ],
)
def test_settings_that_write_no_thought_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ThoughtSettings(**wrong)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_policy_makes_a_thought_longer_than_what_is_reserved(tiny_tokenizer, codec, calculating, data):
    thoughts, plain, hinting = data.draw(st.sampled_from(calculating))
    expander = data.draw(st.sampled_from([plain, hinting]))
    special = [*codec.special.remaining, *codec.not_in_text, codec.special.end_of_thought]
    likely = [*codec.encode("<<9/3=99*>>"), *special]
    logits = np.full(len(codec.tokenizer), -20.0)
    logits[likely] = data.draw(st.lists(st.floats(-9, 9), min_size=len(likely), max_size=len(likely)))
    engine = FakeEngine(len(codec.tokenizer), 4096, policy=lambda tokens: logits)
    tree = expander.tree(QUESTION, 0)
    parent, local_id = 0, data.draw(st.integers(1, 9990))
    for _ in range(4):
        action = data.draw(st.none() | st.sampled_from([MetaAction.EXPAND, MetaAction.CRITIC]))
        if tree.nodes[parent].thinking_left == 0:
            action = MetaAction.CONCLUDE
        ask, _, told = ask_once(expander, engine, tree, action, parent=parent, local_id=local_id, judge=right)
        assert told is not None
        assert told.tokens <= ask.max_tokens
        assert told.payload.spent <= thoughts.path_budget
        assert told.tokens == len(told.payload.context) - told.payload.before
        if told.terminal:
            return
        parent, local_id = tree.add(ask, told).index, local_id + 1


@pytest.fixture(scope="module")
def calculating(tiny_tokenizer, codec):
    """Settings with expanders that obey them, with and without hints."""
    hinting = Codec(tiny_tokenizer, codec.special, hints=True)
    made = []
    for path_budget, max_text, max_answer in ((16, 2, 2), (35, 12, 30), (64, 40, 8)):
        thoughts = ThoughtSettings(
            path_budget=path_budget, max_text=max_text, max_answer=max_answer, calculator=True
        )
        made.append((thoughts, Expander(codec, thoughts, 4096), Expander(hinting, thoughts, 4096)))
    return made
