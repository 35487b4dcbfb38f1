"""Many problems under one budget, and engines that break their word."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_drive import QUESTIONS, THOUGHTS, Wrapped

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError, EngineError, ProblemError
from llama_o1.play.expand import Expander, ThoughtSettings
from llama_o1.play.judge import Grade
from llama_o1.play.methods import WEIGHTINGS, MethodSettings
from llama_o1.play.purse import Purse, Share
from llama_o1.play.selfplay import play_figures, search_all, tree_row
from tree.actions import MetaAction, Transitions
from tree.record import from_row
from tree.search import SearchSettings

SETTINGS = MethodSettings(budget_tokens=400, tree=SearchSettings(simulations=20, concurrency=2))


def declared(text):
    return Grade(text[:1] or None, None)


@pytest.fixture
def search(codec, writer):
    """Trees of the first questions, over a fake engine unless another is given."""

    def search(settings, engine=None, *, count=6, **options):
        engine = engine or FakeEngine(len(codec.tokenizer), 1024, policy=writer)
        tasks = [
            (str(i), q, lambda text: Grade(text[:1] or None, None)) for i, q in enumerate(QUESTIONS[:count])
        ]
        return search_all(
            engine,
            tasks,
            Expander(codec, THOUGHTS, engine.max_context),
            settings,
            Transitions(),
            seed="test",
            **({"on_tree": lambda index, tree: None} | options),
        )

    return search


@pytest.fixture
def engine(codec, writer):
    return FakeEngine(len(codec.tokenizer), 1024, policy=writer)


def nodes_of(trees):
    return [tree_row(tree)["nodes"] for tree in trees]


def spent(trees):
    return sum(tree.tokens_used for tree in trees)


@pytest.mark.parametrize("budget", [60, 500, 1000, 1900, 2399])
def test_a_run_never_spends_more_than_its_tokens(search, budget):
    trees = search(replace(SETTINGS, run_budget_tokens=budget))
    assert spent(trees) <= budget
    assert any(tree.stopped == "the run's tokens are spent" for tree in trees) or budget > 1000
    for tree in trees:
        assert (len(tree.nodes) > 1) or tree.stopped == "the run's tokens are spent"


def test_what_early_trees_leave_is_there_for_later_ones(search):
    # six trees of 400 would need 2400; each leaves what a thought could not be paid with
    assert all(len(tree.nodes) > 1 for tree in search(replace(SETTINGS, run_budget_tokens=2100)))


def test_a_hopeless_tree_gives_its_tokens_back_to_the_run(search):
    poor = replace(SETTINGS, hopeless=1.0, hopeless_after=3)
    trees = search(replace(poor, run_budget_tokens=1000))
    assert {tree.stopped for tree in trees} == {"hopeless"}
    assert all(len(tree.nodes) > 1 for tree in trees)
    starved = search(replace(SETTINGS, run_budget_tokens=1000))
    assert [tree for tree in starved if len(tree.nodes) == 1]


@pytest.mark.parametrize("scramble", [1, 2, 3])
def test_who_ends_first_changes_nobodys_share_of_a_run(search, codec, writer, scramble):
    settings = replace(SETTINGS, run_budget_tokens=1500)
    expected = [tree_row(tree) for tree in search(settings)]
    engine = FakeEngine(len(codec.tokenizer), 1024, slots=3, policy=writer, scramble_seed=scramble)
    assert [tree_row(tree) for tree in search(settings, engine)] == expected


amounts = st.tuples(st.integers(0, 50), st.integers(0, 9))


@given(
    st.lists(st.tuples(amounts, st.integers(0, 5)), min_size=1, max_size=12),
    st.integers(0, 300),
    st.none() | st.integers(0, 40),
)
def test_each_tree_gets_what_it_would_get_if_all_before_it_had_ended(trees, tokens, nodes):
    # each may take 50 tokens and 9 nodes, spends some of them, and ends after so many others were begun
    purse, running, shares = Purse(Share(tokens, nodes)), [], []
    wanted = Share(50, 9)
    for i, (used, lasts) in enumerate(trees):
        for each in [each for each in running if each[2] <= i]:
            running.remove(each)
            purse.give_back(*each[:2])
        while (share := purse.take(wanted, idle=not running)) is None:
            purse.give_back(*running.pop(0)[:2])
        shares.append(share)
        running.append((share, Share(*used).at_most(share), i + 1 + lasts))
    left, expected = Share(tokens, nodes), []
    for used, _ in trees:
        expected.append(wanted.at_most(left))
        left = left.spent_by(Share(*used).at_most(expected[-1]))
    assert shares == expected


@pytest.mark.parametrize(
    ("limited", "spent"),
    [
        ({"run_budget_nodes": 12, "budget_nodes": 5}, lambda tree: len(tree.nodes) - 1),
        ({"run_budget_simulations": 45}, lambda tree: tree.simulations),
    ],
)
def test_a_run_has_no_more_nodes_and_simulations_than_it_may(search, limited, spent):
    settings = replace(SETTINGS, **limited)
    trees = search(settings)
    what, most = next(iter(limited.items()))
    assert 0 < sum(map(spent, trees)) <= most
    assert trees[-1].stopped == f"the run's {what.removeprefix('run_budget_')} are spent"


def test_nodes_of_a_run_need_a_share_of_one_problem():
    with pytest.raises(ConfigError, match=r"run_budget_nodes needs search.budget_nodes, got 9 and none"):
        MethodSettings(run_budget_nodes=9)


class Clock:
    """Time that passes by a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_after_its_seconds_a_tree_begins_nothing_but_a_conclusion(search):
    whole = search(replace(SETTINGS, stop_decided=False), count=1)[0]
    (tree,) = search(replace(SETTINGS, stop_decided=False, budget_s=5.0), count=1, clock=Clock())
    assert tree.stopped == "out of time"
    assert 1 < len(tree.arrivals) < len(whole.arrivals)
    assert tree.answered or tree.nodes[-1].action is MetaAction.CONCLUDE


def test_after_the_seconds_of_a_run_no_tree_is_begun(search):
    trees = search(replace(SETTINGS, run_budget_s=1.5), clock=Clock())
    assert {tree.stopped for tree in trees} == {"the run's time is over"}
    assert spent(trees) == 0


def test_each_trees_seconds_are_told_before_the_tree(search):
    heard = []
    search(
        SETTINGS,
        count=2,
        clock=Clock(),
        on_seconds=lambda index, seconds: heard.append((index, seconds > 0)),
        on_tree=lambda index, tree: heard.append(index),
    )
    assert sorted(map(str, heard)) == ["(0, True)", "(1, True)", "0", "1"]
    assert [isinstance(each, tuple) for each in heard] == [True, False, True, False]


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_a_tree_holds_no_more_thoughts_than_it_may(search, nodes):
    for method in WEIGHTINGS:
        settings = replace(SETTINGS, method=method, budget_nodes=nodes, budget_tokens=2000, num_lines=3)
        for tree in search(settings, count=2):
            assert 1 <= len(tree.nodes) - 1 <= nodes
            assert any(node.action is MetaAction.CONCLUDE or node.terminal for node in tree.nodes)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("budget_tokens", 0, "search.budget_tokens must be at least 1, got 0"),
        ("budget_tokens", -5, "search.budget_tokens must be at least 1, got -5"),
        ("budget_nodes", 0, "search.budget_nodes must be at least 1, got 0"),
        ("run_budget_tokens", -1, "search.run_budget_tokens must be at least 1, got -1"),
        ("budget_s", 0.0, "search.budget_s must be above 0 and finite, got 0.0"),
        ("run_budget_s", float("nan"), "search.run_budget_s must be above 0 and finite, got nan"),
        ("num_lines", 0, "search.num_lines must be at least 1, got 0"),
        ("beam_width", 0, "search.beam_width must be at least 1, got 0"),
        ("hopeless", 1.5, r"search.hopeless must be in \[0, 1\], got 1.5"),
        ("hopeless_after", 0, "search.hopeless_after must be at least 1, got 0"),
    ],
)
def test_budgets_that_buy_nothing_are_refused(name, value, complaint):
    with pytest.raises(ConfigError, match=complaint):
        MethodSettings(**{name: value})


def test_a_budget_below_one_conclusion_is_refused(search):
    with pytest.raises(ConfigError, match="budget_tokens must be at least"):
        search(replace(SETTINGS, budget_tokens=20))


def test_a_problem_longer_than_the_context_is_refused_and_never_cut(codec, writer):
    engine = Wrapped(FakeEngine(len(codec.tokenizer), 120, policy=writer))
    question = "What is " + "1+" * 200 + "1?"
    with pytest.raises(ProblemError, match=r"the problem takes \d+ tokens .* the model holds 120"):
        search_all(
            engine,
            [
                ("a", "What is 1+1?", declared),
                ("b", question, declared),
            ],
            Expander(codec, THOUGHTS, engine.max_context),
            SETTINGS,
            Transitions(),
            seed="test",
            on_tree=lambda index, tree: None,
        )
    assert not engine.submitted, "nothing is searched before all are known to fit"


class Broken(Wrapped):
    """An engine whose replies are changed on their way."""

    def __init__(self, engine, change):
        super().__init__(engine)
        self.change = change

    def figures(self):
        return self.engine.figures()

    def poll(self):
        return [changed for key, reply in super().poll() for changed in self.change(key, reply)]


def _with_sample(reply, **fields):
    return replace(reply, samples=(replace(reply.samples[0], **fields),))


def test_an_engine_that_loses_a_request_is_an_error_and_no_endless_wait(search, engine):
    lossy = Broken(engine, lambda key, reply: [] if key[1] == 3 else [(key, reply)])
    with pytest.raises(EngineError, match=r"nothing queued, but \d+ requests were not answered"):
        search(SETTINGS, lossy)


def test_a_reply_that_comes_twice_is_an_event_and_changes_no_thought(search, engine):
    expected = search(SETTINGS)
    trees = search(SETTINGS, Broken(engine, lambda key, reply: [(key, reply), (key, reply)]))
    assert nodes_of(trees) == nodes_of(expected)
    assert [tree.tokens_used for tree in trees] == [tree.tokens_used for tree in expected]
    assert all("a reply for thought 1, which is not outstanding" in tree.events for tree in trees)


def test_a_reply_that_comes_after_its_tree_is_over_is_left_alone(search, engine, caplog):
    kept = []

    def late(key, reply):
        kept.append((key, reply))
        return [(key, reply), kept[0]]

    expected = search(SETTINGS)
    trees = search(SETTINGS, Broken(engine, late))
    assert nodes_of(trees) == nodes_of(expected)
    assert "ignored a reply for thought 1 of tree 1, which is over" in caplog.text


def test_a_reply_without_a_sample_is_an_event(search, engine):
    trees = search(SETTINGS, Broken(engine, lambda key, reply: [(key, replace(reply, samples=()))]))
    for tree in trees:
        assert len(tree.nodes) == 1
        assert set(tree.events) == {
            f"request for thought {i} failed: no sample came back" for i in range(1, tree.next_id)
        }


def test_a_value_that_is_no_number_is_an_event_and_its_tokens_are_counted(search, engine):
    def without(key, reply):
        return [(key, _with_sample(reply, value=float("nan")) if key[1] == 2 else reply)]

    for tree in search(SETTINGS, Broken(engine, without)):
        assert any("request for thought 2 failed: its value is nan" in event for event in tree.events)
        assert sum(arrival.tokens for arrival in tree.arrivals) == tree.tokens_used
        (failed,) = [arrival for arrival in tree.arrivals if arrival.node < 0]
        assert failed.tokens > 0


def test_a_reply_longer_than_allowed_is_a_clear_error_and_leaves_no_trace(search, engine):
    def longer(key, reply):
        ids = np.zeros(500, np.int32)
        return [(key, _with_sample(reply, ids=ids))]

    broken = Broken(engine, longer)
    with pytest.raises(EngineError, match=r"returned 500 tokens for a thought that was allowed \d+"):
        search(SETTINGS, broken)
    assert not broken.in_flight


def test_what_each_meta_action_cost_and_brought_adds_up(search):
    trees = search(SETTINGS)
    figures = play_figures(trees)
    kinds = [name.removesuffix("_tokens") for name in figures if name.endswith("_tokens")]
    assert {"expand", "conclude"} <= set(kinds)
    assert sum(figures[f"{kind}_tokens"] for kind in kinds) == spent(trees) == figures["tokens"]
    rows = [tree_row(tree) for tree in trees]
    for row, tree in zip(rows, trees, strict=True):
        assert sum(entry["tokens"] for entry in row["ledger"].values()) == row["tokens_used"]
        assert sum(entry["thoughts"] for entry in row["ledger"].values()) == len(tree.arrivals)
        assert from_row(row)[1]["curve"] == row["curve"]
        assert row["curve"][-1][0] == row["tokens_used"]
        assert row["curve"][-1][2] == row["answer"]


def test_greedy_lines_take_the_likeliest_tokens_whatever_the_temperature(codec, writer):
    rows = []
    for temperature in (0.0, 1.0):
        engine = FakeEngine(len(codec.tokenizer), 1024, policy=writer)
        (tree,) = search_all(
            engine,
            [("0", QUESTIONS[0], declared)],
            Expander(codec, ThoughtSettings(temperature=temperature), engine.max_context),
            MethodSettings(method="greedy"),
            Transitions(),
            seed="test",
            on_tree=lambda index, tree: None,
        )
        rows.append(tree_row(tree))
    assert rows[0] == rows[1]


def test_an_answer_is_chosen_as_suits_the_method_or_as_the_settings_say():
    assert {method: MethodSettings(method=method).weighting for method in WEIGHTINGS} == WEIGHTINGS
    assert MethodSettings(method="beam", answer="visits").weighting == "visits"
