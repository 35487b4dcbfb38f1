"""Searches over a fake engine become trials: honest budgets, every token accounted, no grade told."""

import dataclasses
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.engine.fake import FakeEngine
from llama_o1.measure.contest import Entry, checksum, contest
from llama_o1.measure.trial import Key, without_time
from llama_o1.play.expand import Expander, ThoughtSettings
from llama_o1.play.methods import Method, MethodSettings
from llama_o1.tasks.problem import Problem
from tree.actions import MetaAction
from tree.search import SearchSettings

PROBLEMS = [
    Problem(id=f"p{i}", question=f"What is {i} + 2?", answer=f"{i + 2}", source="here") for i in range(1, 7)
]
THOUGHTS = ThoughtSettings(path_budget=48, max_text=12, max_answer=16)
MANY = SearchSettings(simulations=10_000)  # tokens are the only limit
METHODS = get_args(Method)


@pytest.fixture(scope="module")
def solver(codec, writer):
    """The writer, but its conclusions declare a digit from 3 to 8, some likelier than others."""
    special = codec.special
    before, after = codec.encode("\\boxed{"), [*codec.encode("}"), special.end_of_thought]
    digits = [codec.encode(str(digit))[-1] for digit in range(3, 9)]

    def policy(tokens):
        logits = writer(tokens)
        if special.start_of_thought not in tokens:
            return logits  # a line of plain text
        own = tokens[len(tokens) - list(reversed(tokens)).index(special.start_of_thought) :]
        if not own or own[0] != special.tags[MetaAction.CONCLUDE] or special.end_of_thought in own:
            return logits
        logits -= 50.0
        if len(own) - 1 == len(before):
            logits[digits] = [2.0, 1.0, 0.5, 0.0, 0.0, 0.0]
        else:
            logits[[*before, 0, *after][len(own) - 1]] = 0.0
        return logits

    return policy


def run(
    codec, solver, method, budget=260, seeds=(0,), problems=PROBLEMS, scramble=None, thoughts=THOUGHTS, **over
):
    engine = FakeEngine(len(codec.tokenizer), 512, policy=solver, scramble_seed=scramble)
    entries = [Entry(Key("here", p.id, method, budget, seed), p) for seed in seeds for p in problems]
    lines = 3 if method == "dvts" else 64
    method_settings = MethodSettings(
        method=method, budget_tokens=budget, num_lines=lines, stop_decided=False, tree=MANY, **over
    )
    trials = []
    contest(engine, entries, Expander(codec, thoughts, 512), method_settings, trials.append)
    return {trial.key: trial for trial in trials}, engine.figures()


@pytest.mark.parametrize("method", METHODS)
def test_every_token_is_accounted_and_no_budget_exceeded(codec, solver, method):
    trials, figures = run(codec, solver, method)
    assert set(trials) == {Key("here", p.id, method, 260, 0) for p in PROBLEMS}
    for trial in trials.values():
        assert trial.tokens == trial.sampled + trial.forced <= 260
        assert trial.curve[-1].tokens <= trial.tokens
        assert trial.failed == 0
    all_of = list(trials.values())
    assert sum(t.sampled for t in all_of) == figures.sampled_tokens == sum(t.work.sampled for t in all_of)
    assert sum(t.prefilled + t.cached for t in all_of) == figures.prefilled_tokens + figures.cached_tokens
    assert sum(t.work.forced for t in all_of) == figures.forced_tokens
    # Each thought ends in a rating and its end, which no engine makes; they are paid for as forced ones.
    assert (sum(t.forced for t in all_of) - figures.forced_tokens) % 2 == 0


@pytest.mark.parametrize("method", ["majority", "best_of_n", "value_vote"])
def test_a_larger_budget_pays_more_lines(codec, solver, method):
    def lines(budget):
        trials = run(codec, solver, method, budget=budget)[0].values()
        assert all(trial.tokens <= budget for trial in trials)
        return [sum(found.lines for found in trial.found) for trial in trials]

    assert all(more >= fewer + 2 for fewer, more in zip(lines(260), lines(900), strict=True))


def test_methods_that_only_count_otherwise_draw_the_same_lines(codec, solver):
    drawn = [run(codec, solver, method)[0] for method in ("majority", "best_of_n", "value_vote")]
    for trials in zip(*(found.values() for found in map(sorted_by_problem, drawn)), strict=True):
        assert len({(trial.problem, trial.tokens, trial.found) for trial in trials}) == 1


@pytest.mark.parametrize("source", ["model", "uniform", "transitions"])
@pytest.mark.parametrize("off", [("divide",), ("critic", "refine")])
def test_a_kind_that_is_switched_off_stands_in_no_tree(grow, codec, solver, source, off):
    engine = FakeEngine(len(codec.tokenizer), 512, policy=solver)
    method = MethodSettings(budget_tokens=900, stop_decided=False, tree=MANY, actions=source, without=off)
    (tree,) = grow(["What is 1 + 2?"], THOUGHTS, method, engine)
    kinds = {node.action.value for node in tree.nodes}
    assert not kinds & set(off)
    assert {"expand", "conclude", "divide", "critic"} - set(off) <= kinds
    assert tree.tokens_used <= 900
    drawn = [event for event in tree.events if "is switched off" in event]
    assert drawn or source != "model"  # a step has no tag, so also there the model may draw another kind


def test_a_kind_that_is_drawn_though_it_is_off_costs_its_header_and_is_counted_as_failed(codec, solver):
    trials = run(codec, solver, "mcts", without=("divide",))[0].values()
    wasted = sum(trial.failed for trial in trials)
    assert 0 < wasted < sum(trial.tokens for trial in trials) / 2
    assert all(trial.tokens == trial.sampled + trial.forced <= 260 for trial in trials)


def test_a_search_that_reads_no_value_weighs_answers_by_count(codec, solver):
    blind = replace(THOUGHTS, read_value=False)
    voted, counted = (run(codec, solver, name, thoughts=blind)[0] for name in ("value_vote", "majority"))
    for one, other in zip(voted.values(), counted.values(), strict=True):
        assert (one.answer, one.found, one.tokens) == (other.answer, other.found, other.tokens)


def sorted_by_problem(trials):
    return dict(sorted(trials.items(), key=lambda item: item[0].problem))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(METHODS))
def test_the_order_of_replies_changes_no_trial(codec, solver, scramble, method):
    plain, scrambled = (run(codec, solver, method, scramble=order)[0] for order in (None, scramble))
    assert {key: without_time(trial) for key, trial in plain.items()} == {
        key: without_time(trial) for key, trial in scrambled.items()
    }


def test_a_trial_does_not_depend_on_those_made_beside_it(codec, solver):
    together, _ = run(codec, solver, "mcts", seeds=(0, 1))
    alone, _ = run(codec, solver, "mcts", seeds=(1,), problems=PROBLEMS[3:4])
    for key, trial in alone.items():
        assert without_time(trial) == without_time(together[key])
    assert (
        len({trial.tokens for key, trial in together.items() if key.problem == "p4"}) > 1
    )  # other seed, other tree


def test_the_gold_answer_changes_verdicts_and_nothing_else(codec, solver):
    plain, _ = run(codec, solver, "mcts")
    assert all(trial.answer is not None for trial in plain.values())
    golds = {key.problem: trial.answer for key, trial in plain.items()}
    known = [dataclasses.replace(problem, answer=golds[problem.id]) for problem in PROBLEMS]
    for key, trial in run(codec, solver, "mcts", problems=known)[0].items():
        assert trial.correct
        before = plain[key]
        assert (trial.answer, trial.tokens, trial.nodes) == (before.answer, before.tokens, before.nodes)
        assert before.correct == (before.answer == str(int(key.problem[1:]) + 2))


def test_the_answer_is_the_last_of_its_curve(codec, solver):
    for method in METHODS:
        for trial in run(codec, solver, method)[0].values():
            assert (trial.curve[-1].answer, trial.curve[-1].verdict) == (trial.answer, trial.verdict)
            assert trial.correct_at(trial.tokens) == trial.correct
            assert not trial.correct_at(0)
            assert {point.answer for point in trial.curve} <= {None, *(found.answer for found in trial.found)}


def test_a_problem_is_told_from_another_by_question_and_gold():
    problem = PROBLEMS[0]
    changed = [
        {"question": "Else?"},
        {"answer": "9"},
        {"kind": "expression"},
        {"numbers": (1, 2)},
        {"target": 3},
    ]
    sums = {checksum(problem), *(checksum(dataclasses.replace(problem, **one)) for one in changed)}
    assert len(sums) == 6
    assert checksum(dataclasses.replace(problem, id="other", num_steps=4)) == checksum(problem)
