"""What every search holds to: any order of replies, cancel anywhere, the budget at every moment."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tree.actions import MetaAction, Transitions, allowed, by_model, refining, uniformly
from tree.baselines import lines
from tree.beam import beam
from tree.best_first import best_first
from tree.budget import Limits
from tree.gumbel import gumbel
from tree.node import Failed, Told, Tree
from tree.rank import by_ucb
from tree.search import SearchSettings, mcts

DEPTH = 8
LIMITS = Limits(tokens=400, thought=20, conclusion=8)
DRAWS = {"model": by_model, "uniform": uniformly, "transitions": Transitions(temperature=0.05)}
SMALL = SearchSettings(simulations=30, max_depth=DEPTH)
FOUR = replace(SMALL, concurrency=4)
WIDE = SearchSettings(
    simulations=20, max_children=7, widening=5, widening_power=0, max_depth=2, concurrency=4
)
NARROW = SearchSettings(simulations=30, max_children=1, exploration=0, max_depth=DEPTH, concurrency=3)
REGROWN = replace(FOUR, max_children=1, max_depth=3, regrow=True)
WHOLE = replace(SMALL, whole_solutions=True, prune=True, max_children=2)


class Shape(NamedTuple):
    """One way to search, and what it may ask for in vain: first thoughts and last conclusions."""

    start: Callable
    tries: int
    depth: int = DEPTH
    at_once: int = 1  # requests in flight


def of_a_tree(search, settings, *more):
    return Shape(
        lambda tree, limits, draw: search(tree, settings, limits, draw, *more),
        settings.max_children * (2 if settings.regrow else 1) + 2,
        settings.max_depth,
        settings.concurrency,
    )


def of_lines(num_lines):
    return Shape(
        lambda tree, limits, draw: lines(tree, num_lines, DEPTH, limits, draw), num_lines, DEPTH, num_lines
    )


def of_beams(width, branch, subtrees):
    # each subtree concludes the problem itself once, then the search twice
    return Shape(
        lambda tree, limits, draw: beam(tree, width, branch, DEPTH, limits, draw, subtrees),
        subtrees * (width * branch + 1) + 2,
        at_once=subtrees * width * branch,
    )


SHAPES = {
    "mcts": of_a_tree(mcts, SMALL),
    "mcts, four at once": of_a_tree(mcts, FOUR),
    "mcts, wide and flat": of_a_tree(mcts, WIDE),
    "mcts, narrow": of_a_tree(mcts, NARROW),
    "mcts, pruned": of_a_tree(mcts, replace(FOUR, prune=True)),
    "mcts, regrown": of_a_tree(mcts, REGROWN),
    "ucb": of_a_tree(mcts, FOUR, by_ucb),
    "gumbel": of_a_tree(gumbel, SMALL),
    "gumbel, four at once": of_a_tree(gumbel, FOUR),
    "best first": of_a_tree(best_first, SMALL),
    "best first, four at once": of_a_tree(best_first, FOUR),
    "whole solutions": of_a_tree(mcts, WHOLE),
    "whole solutions, three at once": of_a_tree(mcts, replace(WHOLE, concurrency=3)),
    "beam": of_beams(3, 2, 1),
    "beam of one": of_beams(1, 1, 1),
    "dvts": of_beams(1, 3, 4),
    "one line": of_lines(1),
    "five lines": of_lines(5),
}
every_search = pytest.mark.parametrize("shape", SHAPES)
every_draw = pytest.mark.parametrize("draw", DRAWS)
shares = st.lists(st.floats(0, 0.999), min_size=1, max_size=8)
orders = st.lists(st.integers(0, 3), min_size=1, max_size=12)
budgets = st.sampled_from([0, 7, 8, 20, 27, 28, 29, 55, 90, 150, 400])
few = settings(deadline=None, max_examples=12)


class World:
    """A scripted evaluator: what comes back depends on the ask alone. Keeps what it saw."""

    def __init__(self, tree, *, lengths=(0.3,), failing=0.1, revises=False):
        self.tree, self.failing, self.revises = tree, failing, revises
        self.lengths = lengths  # shares of what was reserved, one after the other
        self.asked, self.told = [], {}

    def answer(self, ask):
        rng = Random(ask.seed)
        told = self._thought(ask, rng)
        if rng.random() < self.failing:
            told = rng.choice([None, Failed(told.tokens, "cut")])
        self.told[ask.local_id] = told
        return ask.local_id, told

    def _thought(self, ask, rng):
        parent = self.tree.nodes[ask.parent]
        kinds = allowed(parent.action, thinking_left=parent.thinking_left)
        action = rng.choice(kinds) if ask.action is None else ask.action
        tokens = 1 + int(self.lengths[ask.local_id % len(self.lengths)] * ask.max_tokens)
        thinking_left = max(0, parent.thinking_left - tokens)
        concludes = action is MetaAction.CONCLUDE
        return Told(
            action=action,
            text=rng.choice("abc"),
            logprob=-rng.random(),
            value=rng.random(),
            tokens=tokens,
            thinking_left=thinking_left,
            terminal=(concludes and not (self.revises and thinking_left)) or rng.random() < 0.05,
            entropy=rng.choice([None, rng.random()]),
            varentropy=rng.choice([None, rng.random()]),
            answer=rng.choice(["1", "2", None]) if concludes else None,
            outcome=rng.choice([0.0, 1.0, None]) if concludes else None,
        )

    @property
    def spent(self):
        return sum(told.tokens for told in self.told.values() if told is not None)


def make(shape, draw, budget=LIMITS.tokens, limits=None, **world):
    """A new tree, its search and its world."""
    tree = Tree.of("?", seed=7, thinking_left=60)
    limits = replace(LIMITS, tokens=budget, **limits or {})
    draw = refining(DRAWS[draw]) if shape.startswith("whole") else DRAWS[draw]
    search = SHAPES[shape].start(tree, limits, draw)
    return tree, search, World(tree, revises=shape.startswith("whole"), **world)


def steps(search, world, order=(0,)):
    """Run the search to its end; yields the asks that are out before each reply is sent."""
    out = []
    try:
        asks = next(search)
        while True:
            out += asks
            world.asked += asks
            yield out
            ask = out.pop(order[len(world.told) % len(order)] % len(out))
            asks = search.send(world.answer(ask))
    except StopIteration:
        assert not out, "the search ended while requests were out"


def grown(shape, draw, order=(0,), **options):
    tree, search, world = make(shape, draw, **options)
    for _ in steps(search, world, order):
        pass
    return tree, world


def check_at_rest(tree):
    assert tree.tokens_reserved == 0
    assert all(node.pending == 0 for node in tree.nodes)


@every_draw
@every_search
@few
@given(order=orders)
def test_replies_in_any_order_give_the_same_tree(shape, draw, order):
    in_turn, any_order = grown(shape, draw)[0], grown(shape, draw, order)[0]
    assert any_order == in_turn
    assert len(in_turn.nodes) > 1


@every_draw
@every_search
@few
@given(order=orders, cut=st.integers(0, 12))
def test_a_cancelled_search_leaves_no_trace_of_what_was_out(shape, draw, order, cut):
    tree, search, world = make(shape, draw)
    for _ in steps(search, world, order):
        if len(world.told) == cut:
            search.close()
            break
    check_at_rest(tree)
    known = {node.local_id for node in tree.nodes[1:]}
    assert known <= {local_id for local_id, told in world.told.items() if isinstance(told, Told)}


@every_draw
@every_search
@few
@given(order=orders, lengths=shares, budget=budgets)
def test_the_budget_is_never_exceeded(shape, draw, order, lengths, budget):
    tree, search, world = make(shape, draw, budget=budget, lengths=lengths)
    for out in steps(search, world, order):
        # replies are handed on in the order of the asks, so all since the oldest that is out are reserved
        oldest = min(ask.local_id for ask in out)
        assert tree.tokens_reserved == sum(a.max_tokens for a in world.asked if a.local_id >= oldest)
        assert tree.tokens_used + tree.tokens_reserved <= budget
    assert tree.tokens_used == world.spent
    check_at_rest(tree)


@every_draw
@every_search
@few
@given(order=orders, lengths=shares)
def test_a_finished_tree_is_sound(shape, draw, order, lengths):
    tree, world = grown(shape, draw, order, lengths=lengths)
    check_at_rest(tree)
    ids = [node.local_id for node in tree.nodes]
    assert ids == sorted(set(ids))
    asked = [ask.local_id for ask in world.asked]
    assert asked == list(range(1, tree.next_id))
    failed = {i: world.told[i] for i in asked if not isinstance(world.told[i], Told)}
    words = [f"request for thought {i} failed" + (": cut" if told else "") for i, told in failed.items()]
    assert tree.events == words
    assert sum(arrival.tokens for arrival in tree.arrivals) == tree.tokens_used
    assert len(tree.arrivals) == len(asked)
    assert sum(node.failed for node in tree.nodes) == len(tree.events)
    backed_up = values_below(tree)
    for node in tree.nodes:
        children = [tree.nodes[i] for i in node.children]
        assert all(child.parent == node.index < child.index for child in children)
        assert not (node.terminal and children)
        assert node.visits == len(backed_up[node.index]) >= sum(child.visits for child in children)
        assert node.q == pytest.approx(sum(backed_up[node.index]) / node.visits if node.visits else 0.5)
        assert not node.closed or all(child.closed for child in children)


def values_below(tree):
    """What was backed up through each node: its evaluation once for each equal thought, and all below."""
    values = [[node.evaluation] * node.count if node.parent >= 0 else [] for node in tree.nodes]
    for node in reversed(tree.nodes[1:]):
        values[node.parent] += values[node.index]
    return values


@every_draw
@every_search
def test_q_lies_between_the_least_and_the_greatest_value_backed_up(shape, draw):
    tree, _ = grown(shape, draw)
    for node, values in zip(tree.nodes, values_below(tree), strict=True):
        assert not values or min(values) - 1e-12 <= node.q <= max(values) + 1e-12


@every_draw
@every_search
def test_the_same_seed_gives_the_same_tree_and_another_seed_another(shape, draw):
    assert grown(shape, draw)[0] == grown(shape, draw)[0]
    tree, search, world = make(shape, draw)
    tree.seed += 1
    for _ in steps(search, world):
        pass
    assert tree.nodes != grown(shape, draw)[0].nodes


@every_draw
@every_search
def test_a_failed_request_is_an_event_and_changes_no_statistics(shape, draw):
    tree, search, world = make(shape, draw, failing=0.5)
    before, events = facts(tree), 0
    for _ in steps(search, world):
        last = list(world.told.values())[-1:]
        if last and not isinstance(last[0], Told):
            assert facts(tree) == before
            assert len(tree.events) == events + 1
        before, events = facts(tree), len(tree.events)


def facts(tree):
    nodes = [
        (n.index, n.text, n.count, n.visits, n.value_sum, n.answer, tuple(n.children)) for n in tree.nodes
    ]
    return deepcopy(nodes)


@every_draw
@every_search
def test_an_engine_that_always_fails_ends_the_search_soon(shape, draw):
    tree, world = grown(shape, draw, failing=1)
    assert len(tree.nodes) == 1
    assert tree.tokens_used == world.spent
    assert 1 <= len(world.asked) <= SHAPES[shape].tries


@every_draw
@every_search
def test_a_reply_longer_than_its_reservation_is_an_error_and_leaves_the_tree_at_rest(shape, draw):
    tree, search, world = make(shape, draw, lengths=[1.0], failing=0)
    with pytest.raises(ValueError, match=r"thought 1 took 21 tokens, 20 were reserved"):
        for _ in steps(search, world):
            pass
    check_at_rest(tree)
    assert len(tree.nodes) == 1


@every_search
def test_a_reply_nobody_waits_for_is_an_error(shape):
    tree, search, _ = make(shape, "model")
    next(search)
    with pytest.raises(ValueError, match="reply for thought 99, which is not outstanding"):
        search.send((99, None))
    check_at_rest(tree)


@every_draw
@every_search
def test_a_spent_path_and_the_depth_limit_leave_only_conclusions(shape, draw):
    tree, world = grown(shape, draw, failing=0)
    depth = SHAPES[shape].depth
    parents = [(ask, tree.nodes[ask.parent]) for ask in world.asked]
    over = [ask for ask, parent in parents if parent.thinking_left == 0 or parent.depth + 1 == depth]
    assert all(ask.action is MetaAction.CONCLUDE for ask in over)
    assert max(node.depth for node in tree.nodes) <= depth


@every_draw
@every_search
@few
@given(order=orders, lengths=shares, budget=budgets)
@example(order=[0], lengths=[0.375], budget=90)  # the model concludes by itself, and may revise it
def test_a_budget_that_pays_one_conclusion_gives_one(shape, draw, order, lengths, budget):
    tree, world = grown(shape, draw, order, budget=budget, lengths=lengths, failing=0)
    asked = any(ask.action is MetaAction.CONCLUDE for ask in world.asked)
    ended = any(node.terminal or node.action is MetaAction.CONCLUDE for node in tree.nodes)
    assert (asked or ended) == (budget >= LIMITS.conclusion)
