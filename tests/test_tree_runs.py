"""Whole searches over scripted thoughts: simulations, budget, conclusions, depth, lines."""

from dataclasses import replace
from random import Random

import pytest

from tree.actions import MetaAction, by_model
from tree.baselines import lines
from tree.budget import Limits
from tree.node import Told, Tree
from tree.search import SearchSettings, mcts

EXPAND, CONCLUDE = MetaAction.EXPAND, MetaAction.CONCLUDE
AMPLE = Limits(tokens=100_000, thought=10, conclusion=5)


def a_tree(thinking_left=100):
    return Tree.of("?", seed=1, thinking_left=thinking_left)


def thought(text="t", *, value=0.5, action=EXPAND, tokens=1, thinking_left=100, **fields):
    fields = {"logprob": -1.0, "terminal": action is CONCLUDE} | fields
    return Told(action, text, value=value, tokens=tokens, thinking_left=thinking_left, **fields)


def finish(search, evaluate):
    """Run a search over an evaluator, replies in turn; what was asked."""
    asks, out = [], []
    try:
        out += next(search)
        while out:
            asks.append(out[0])
            ask = out.pop(0)
            out += search.send((ask.local_id, evaluate(ask)))
    except StopIteration:
        pass
    return asks


def numbered(ask):
    """Every thought another text, worth 0.5."""
    return thought(f"t{ask.local_id}", action=ask.action or EXPAND)


def test_no_node_gets_more_children_than_allowed():
    tree = a_tree()
    finish(mcts(tree, SearchSettings(simulations=200, max_children=3), AMPLE, by_model), numbered)
    assert max(len(node.children) for node in tree.nodes) == 3


@pytest.mark.parametrize(
    ("follow", "parents"),
    [
        # 0.5 >= 0.5 * 0.9; 0.2 < half of the tree's mean of 0.53: back to the root, where N = 3 allows two
        (0.5, [0, 1, 2, 0]),
        (0.0, [0, 1, 2, 3]),
        # 0.5 falls short of 0.9
        (1.0, [0, 1, 0]),
    ],
)
def test_a_thought_that_holds_its_parents_promise_is_followed(follow, parents):
    tree = a_tree()
    values = iter([0.9, 0.5, 0.2, 0.1])
    settings = SearchSettings(simulations=len(parents), exploration=0, follow=follow)
    asks = finish(
        mcts(tree, settings, AMPLE, by_model),
        lambda ask: thought(f"t{ask.local_id}", value=next(values, 0.0)),
    )
    assert [ask.parent for ask in asks[: len(parents)]] == parents


@pytest.mark.parametrize("likeliest_first", [True, False])
def test_the_first_thought_below_a_thought_may_be_its_likeliest(likeliest_first):
    tree = a_tree()
    settings = SearchSettings(simulations=40, max_children=3, likeliest_first=likeliest_first)
    asks = finish(mcts(tree, settings, AMPLE, by_model), numbered)
    seen = set()
    for ask in asks[:40]:
        assert ask.likeliest is (likeliest_first and ask.parent not in seen)
        seen.add(ask.parent)
    assert len(seen) < 40


def test_simulations_of_one_tree_are_in_flight_at_once():
    tree = a_tree()
    search = mcts(tree, SearchSettings(simulations=40, concurrency=4), AMPLE, by_model)
    out, most = list(next(search)), 0
    while len(tree.nodes) < 20:
        most = max(most, len(out))
        ask = out.pop(0)
        out += search.send((ask.local_id, numbered(ask)))
    assert most == 4
    search.close()


def test_repeats_use_up_the_tries_of_a_node():
    tree = a_tree()
    settings = SearchSettings(simulations=50, max_children=3, max_depth=1)
    asks = finish(
        mcts(tree, settings, AMPLE, by_model), lambda ask: thought("same", action=CONCLUDE, answer="1")
    )
    assert (len(asks), len(tree.nodes), tree.nodes[1].count) == (3, 2, 3)
    assert tree.root.closed


def test_a_search_ends_when_its_tree_is_exhausted():
    tree = a_tree()
    settings = SearchSettings(simulations=1000, max_children=2, max_depth=3)

    def evaluate(ask):
        answer = str(ask.local_id) if ask.action is CONCLUDE else None
        return thought(f"t{ask.local_id}", action=ask.action or EXPAND, answer=answer)

    finish(mcts(tree, settings, AMPLE, by_model), evaluate)
    # 2 + 4 + 8 thoughts of a full tree with two children a node
    assert tree.simulations == len(tree.nodes) - 1 == 14
    assert all(node.closed for node in tree.nodes)


def test_a_node_below_which_every_request_fails_is_given_up():
    tree = a_tree()
    settings = SearchSettings(simulations=60, max_children=3)

    def evaluate(ask):
        if tree.nodes[ask.parent].text == "barren":
            return None
        return thought("barren" if ask.local_id == 1 else f"t{ask.local_id}", action=ask.action or EXPAND)

    finish(mcts(tree, settings, AMPLE, by_model), evaluate)
    barren = tree.nodes[1]
    assert (barren.failed, barren.closed, barren.children) == (3, True, [])
    assert tree.simulations == 60
    # the conclusions asked for at the end, which declare nothing, are no simulations
    assert len(tree.nodes) == 1 + 60 - 3 + 2


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_simulations_are_counted_with_those_in_flight(concurrency):
    tree = a_tree()
    settings = SearchSettings(simulations=17, concurrency=concurrency)
    asks = finish(mcts(tree, settings, AMPLE, by_model), numbered)
    thoughts = [ask for ask in asks if ask.action is not CONCLUDE]
    assert len(thoughts) == tree.simulations == 17


def test_a_search_without_an_answer_concludes_its_most_visited_line():
    tree = a_tree()
    # worth less and less, so that after two thoughts in a row the root gets a second child: 0-1-2 and 0-3
    values = iter([0.9, 0.5, 0.2])
    settings = SearchSettings(simulations=3, exploration=0, follow=1)
    asks = finish(
        mcts(tree, settings, AMPLE, by_model),
        lambda ask: concluding(ask) if ask.action else thought(f"t{ask.local_id}", value=next(values)),
    )
    assert [ask.parent for ask in asks] == [0, 1, 0, 2]
    assert (asks[-1].action, asks[-1].max_tokens) == (CONCLUDE, AMPLE.conclusion)
    assert (tree.nodes[-1].answer, tree.simulations) == ("1", 3)


def concluding(ask):
    """Steps never end by themselves; a conclusion declares 1."""
    if ask.action is CONCLUDE:
        return thought("so 1", action=CONCLUDE, answer="1", tokens=5)
    return thought(f"t{ask.local_id}", tokens=10)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("budget", [*range(5, 60, 3), 100])
def test_what_a_conclusion_costs_is_kept_back_until_there_is_an_answer(budget, concurrency):
    tree = a_tree()
    settings = SearchSettings(simulations=1000, concurrency=concurrency)
    asks = finish(mcts(tree, settings, Limits(budget, thought=10, conclusion=5), by_model), concluding)
    # every thought takes all it may; one conclusion of 5 is always left
    num_thoughts = (budget - 5) // 10
    assert [ask.action for ask in asks] == [None] * num_thoughts + [CONCLUDE]
    assert tree.tokens_used == 10 * num_thoughts + 5


def test_unspent_tokens_pay_further_thoughts():
    tree = a_tree()
    settings = SearchSettings(simulations=1000, concurrency=4, max_depth=1000)
    limits = Limits(100, thought=10, conclusion=5)
    finish(mcts(tree, settings, limits, by_model), numbered)
    # thoughts of 1 token are asked for while 10 + 5 are left: at 85 spent the last one; then 2 conclusions
    assert tree.simulations == 86
    assert tree.tokens_used == 88


def test_an_answer_frees_what_was_kept_back():
    tree = a_tree()
    limits = Limits(30, thought=10, conclusion=5)

    def evaluate(ask):
        if ask.parent == 0:
            return thought("done", action=CONCLUDE, answer="1", tokens=10)
        return thought(f"t{ask.local_id}", tokens=10)

    asks = finish(mcts(tree, SearchSettings(), limits, by_model), evaluate)
    assert [ask.action for ask in asks] == [None] * 3
    assert tree.tokens_used == 30


def test_conclusions_that_declare_nothing_are_asked_for_twice_at_most():
    tree = a_tree()
    asks = finish(mcts(tree, SearchSettings(simulations=3), AMPLE, by_model), numbered)
    assert [ask.action for ask in asks] == [None, None, None, CONCLUDE, CONCLUDE]


class Chain:
    """The answer stands at the end of one chain of right steps; values know a right start from a wrong one.

    Each thought is right with the given probability; one right step more is worth a little more.
    """

    def __init__(self, tree, length, right):
        self.tree, self.length, self.right = tree, length, right

    def __call__(self, ask):
        rng, parent = Random(ask.seed), self.tree.nodes[ask.parent]
        on_track = parent.index == 0 or parent.text.startswith("right")
        steps = parent.depth + 1
        if on_track and steps <= self.length and rng.random() < self.right:
            ends = steps == self.length
            value = 1.0 if ends else 0.4 + 0.5 * steps / self.length
            kind, answer = (CONCLUDE, "7") if ends else (EXPAND, None)
            return thought(f"right {steps}", value=value, action=kind, answer=answer, logprob=-rng.random())
        return thought(f"wrong {rng.randrange(99)}", value=0.3 * rng.random(), logprob=-rng.random())


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("length", [6, 9])
def test_a_search_reaches_an_answer_that_only_a_long_chain_of_right_steps_gives(length, concurrency):
    found = 0
    for seed in range(20):
        tree = Tree.of("?", seed=seed, thinking_left=100)
        settings = SearchSettings(simulations=10 * length, max_children=8, concurrency=concurrency)
        finish(mcts(tree, settings, AMPLE, by_model), Chain(tree, length, right=0.5))
        found += any(node.answer == "7" for node in tree.nodes)
    # ten lines of 6 steps cost as much and hold the answer with probability 1 - (1 - 0.5 ** 6) ** 10 = 0.15
    assert found >= 12


def test_widening_does_not_cap_the_depth():
    tree = a_tree()
    finish(mcts(tree, SearchSettings(simulations=64), AMPLE, by_model), Chain(tree, 30, right=0.9))
    assert max(node.depth for node in tree.nodes) >= 12


def lines_of(tree):
    """The texts of every line that ends in a conclusion."""
    return [[tree.nodes[i].text for i in tree.path(node.index)[1:]] for node in tree.terminals()]


def stepping(tree, steps, tokens=10):
    """Lines conclude after so many thoughts."""

    def evaluate(ask):
        ends = ask.action is CONCLUDE or tree.nodes[ask.parent].depth == steps
        spent = 5 if ends else tokens
        kind = CONCLUDE if ends else EXPAND
        return thought(f"t{ask.local_id}", action=kind, tokens=spent, answer="1" if ends else None)

    return evaluate


def test_a_line_runs_from_the_root_to_a_conclusion():
    tree = a_tree()
    asks = finish(lines(tree, 1, 8, AMPLE, by_model), stepping(tree, 3))
    assert [ask.parent for ask in asks] == [0, 1, 2, 3]
    assert lines_of(tree) == [["t1", "t2", "t3", "t4"]]


def test_lines_share_equal_beginnings_and_sample_every_thought():
    tree = a_tree()

    def evaluate(ask):
        step = tree.nodes[ask.parent].depth
        return thought(f"step {step}", action=CONCLUDE if step == 2 else EXPAND, answer="1")

    asks = finish(lines(tree, 4, 8, AMPLE, by_model), evaluate)
    assert len(asks) == 12
    assert [(node.count, node.visits) for node in tree.nodes[1:]] == [(4, 12), (4, 8), (4, 4)]


@pytest.mark.parametrize("num_lines", [2, 5])
def test_lines_keep_to_the_budget_and_there_is_an_answer(num_lines):
    for budget in range(5, 200, 7):
        tree = a_tree()
        limits = Limits(budget, thought=10, conclusion=5)
        finish(lines(tree, num_lines, 8, limits, by_model), stepping(tree, 3))
        assert 1 <= len(tree.terminals()) <= num_lines
        assert tree.tokens_used <= budget


@pytest.mark.parametrize(("budget", "complete"), [(74, 1), (75, 2), (109, 2), (110, 3), (1000, 9)])
def test_no_line_but_the_first_is_begun_unless_the_budget_pays_it_whole(budget, complete):
    tree = a_tree()
    # each line takes 3 thoughts of 10 and a conclusion of 5, for which a thought's 10 must be left: 35, 40
    finish(lines(tree, 9, 8, Limits(budget, thought=10, conclusion=5), by_model), stepping(tree, 3))
    assert [len(line) for line in lines_of(tree)] == [4] * complete
    assert tree.tokens_used == 35 * complete


@pytest.mark.parametrize("spread", [0, 6])
def test_lines_are_as_long_as_the_policy_makes_them_however_many_the_budget_pays(spread):
    """Thoughts may take four times what they do, and conclusions three times: none ends for that."""
    tree, rng, budget = a_tree(), Random(0), 1000
    evaluate = stepping(tree, 3)

    def varied(ask):
        return replace(told := evaluate(ask), tokens=told.tokens + rng.randint(-spread // 2, spread // 2))

    finish(lines(tree, 64, 8, Limits(budget, thought=40, conclusion=15), by_model), varied)
    assert {len(line) for line in lines_of(tree)} == {4}
    assert len(lines_of(tree)) >= 25  # of 35 tokens each
    assert tree.tokens_used <= budget


def test_a_line_that_meets_the_end_of_the_budget_has_no_answer_beside_one_that_has():
    tree = a_tree()
    evaluate = stepping(tree, 3, tokens=2)

    def longer(ask):
        return replace(evaluate(ask), tokens=10) if ask.line else evaluate(ask)

    # the first takes 11 of 31 and needed 16, the other has 20 for two thoughts
    asks = finish(lines(tree, 2, 8, Limits(31, thought=10, conclusion=5), by_model), longer)
    assert [ask.line for ask in asks] == [0, 0, 0, 0, 1, 1]
    assert [len(line) for line in lines_of(tree)] == [4]


def test_lines_wait_for_reserved_tokens_rather_than_conclude_early():
    tree = a_tree()
    # each line takes 3 thoughts of 2 and a conclusion of 5, 11 in all; 4 of them take 44
    limits = Limits(60, thought=10, conclusion=5)
    finish(lines(tree, 4, 8, limits, by_model), stepping(tree, 3, tokens=2))
    assert [len(line) for line in lines_of(tree)] == [4, 4, 4, 4]


def test_a_line_whose_request_fails_ends_and_the_others_go_on():
    tree = a_tree()
    evaluate = stepping(tree, 2)
    finish(lines(tree, 3, 8, AMPLE, by_model), lambda ask: None if ask.local_id == 2 else evaluate(ask))
    assert len(tree.terminals()) == 2
    assert tree.events == ["request for thought 2 failed"]
