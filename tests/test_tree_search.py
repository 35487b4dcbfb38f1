"""The tree search by hand: PUCT, backup, widening, closing, conclusions, depth, budget."""

import math
from random import Random

import pytest

from tree.actions import MetaAction, by_model
from tree.baselines import lines
from tree.budget import Limits, derive
from tree.node import Ask, Told, Tree
from tree.scores import puct
from tree.search import SearchSettings, backup, close, mcts, select

EXPAND, CRITIC, CONCLUDE = MetaAction.EXPAND, MetaAction.CRITIC, MetaAction.CONCLUDE
AMPLE = Limits(tokens=100_000, thought=10, conclusion=5)


def a_tree(thinking_left=100):
    return Tree.of("?", seed=1, thinking_left=thinking_left)


def thought(text="t", *, value=0.5, action=EXPAND, tokens=1, thinking_left=100, **fields):
    fields = {"logprob": -1.0, "terminal": action is CONCLUDE} | fields
    return Told(action, text, value=value, tokens=tokens, thinking_left=thinking_left, **fields)


def grow(tree, parent, *told):
    """Make thoughts below a node and back them up; the nodes."""
    made = []
    for each in told:
        ask = Ask(parent, each.action, tree.next_id, 10, 0)
        tree.next_id += 1
        made.append(tree.add(ask, each))
        backup(tree, made[-1])
    return made


def finish(search, evaluate, told=None):
    """Run a search by an evaluator of asks, replies in turn; the asks."""
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


def three_nodes():
    """Left: values 0.5 and below it 0.3 and 0.7; right: 0.6 once. exp of log-probs 0.5 and 0.25."""
    tree = a_tree()
    left, right = grow(
        tree,
        0,
        thought("left", value=0.5, logprob=math.log(0.5)),
        thought("right", value=0.6, logprob=math.log(0.25)),
    )
    grow(tree, left.index, thought("a", value=0.3), thought("b", value=0.7))
    return tree, left, right


def test_puct_is_q_plus_prior_times_root_of_parent_visits_over_own_visits():
    # 0.5 + 2 * 0.25 * sqrt(9) / (1 + 2)
    assert puct(q=0.5, prior=0.25, parent_visits=9, visits=2, exploration=2) == 1.0
    assert puct(q=0.5, prior=0.25, parent_visits=0, visits=0, exploration=2) == 0.5


def test_a_backup_adds_the_value_to_every_ancestor_once():
    tree, left, right = three_nodes()
    assert [(node.visits, node.q) for node in (left, right)] == [(3, 0.5), (1, 0.6)]
    assert (tree.root.visits, tree.root.q) == (4, pytest.approx((0.5 + 0.6 + 0.3 + 0.7) / 4))


def test_a_grade_is_backed_up_in_place_of_the_models_value():
    tree = a_tree()
    (node,) = grow(tree, 0, thought(value=0.9, action=CONCLUDE, outcome=0.0))
    assert (node.q, tree.root.q) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("exploration", "expected"),
    [
        # c = 1: left 0.5 + 2/3 * 2 / 4 = 0.83, right 0.6 + 1/3 * 2 / 2 = 0.93
        (1.0, "right"),
        # c = 0.5 keeps the order: 0.67 and 0.77; so does c = 0: 0.5 and 0.6
        (0.5, "right"),
        (0.0, "right"),
    ],
)
def test_selection_follows_puct(exploration, expected):
    tree, left, right = three_nodes()
    settings = SearchSettings(exploration=exploration, max_children=2)
    assert select(tree, settings).text == expected
    assert tree.prior(left) == pytest.approx(2 / 3)
    assert tree.prior(right) == pytest.approx(1 / 3)


def test_a_likely_thought_is_selected_when_exploration_is_strong():
    tree, left, right = three_nodes()
    # a fourth value below right: 2 visits, q 0.6; N = 5
    grow(tree, right.index, thought("c", value=0.6))
    # c = 1: left 0.5 + 2/3 * sqrt(5) / 4 = 0.873, right 0.6 + 1/3 * sqrt(5) / 3 = 0.848
    # c = 0.5: left 0.686, right 0.724
    for exploration, expected in ((1.0, left), (0.5, right)):
        chosen = select(tree, SearchSettings(exploration=exploration, max_children=2))
        assert expected.index in tree.path(chosen.index)


def test_a_request_in_flight_counts_as_a_visit_worth_nothing():
    tree, left, right = three_nodes()
    settings = SearchSettings(exploration=0.0, max_children=2)
    assert select(tree, settings) is right
    tree.root.pending = right.pending = 1
    # right now counts 0.6 / 2 = 0.3, left 0.5; left has its two children, the better one is b
    assert select(tree, settings).text == "b"


def test_the_first_of_equal_scores_is_selected():
    tree = a_tree()
    first, _ = grow(tree, 0, thought("x"), thought("y"))
    assert select(tree, SearchSettings(max_children=2)) is first


@pytest.mark.parametrize(
    ("widening", "power", "visits_at"),
    [
        # fewer than ceil(sqrt(N)) children: the 2nd at N = 2 (1.41), the 3rd at 5 (2.24), the 4th at 10 (3.16)
        (1.0, 0.5, [2, 5, 10]),
        # ceil(2 sqrt(N)): 2 at once, the 3rd at N = 2 (2.83), the 4th at 3 (3.46)
        (2.0, 0.5, [1, 2, 3]),
        # no progress with power 0: up to two children, whatever N
        (2.0, 0.0, [1, None, None]),
    ],
)
def test_progressive_widening_allows_a_child_more_as_visits_grow(widening, power, visits_at):
    settings = SearchSettings(widening=widening, widening_power=power, max_children=4)
    for children, wanted in enumerate(visits_at, start=1):
        tree = a_tree()
        grow(tree, 0, *(thought(f"t{i}") for i in range(children)))
        allowed_at = []
        for visits in range(1, 40):
            tree.root.visits = visits
            if select(tree, settings) is tree.root:
                allowed_at.append(visits)
        assert allowed_at == ([] if wanted is None else list(range(wanted, 40)))


def test_no_node_gets_more_children_than_allowed():
    tree = a_tree()
    finish(mcts(tree, SearchSettings(simulations=200, max_children=3), AMPLE, by_model), numbered)
    assert max(len(node.children) for node in tree.nodes) == 3


def test_a_node_whose_children_are_all_closed_may_be_widened_at_once():
    tree = a_tree()
    grow(tree, 0, thought(action=CONCLUDE))
    # one visit allows one child, but that one ends the line
    assert select(tree, SearchSettings()) is tree.root


def test_a_request_in_flight_is_a_child_to_be():
    tree = a_tree()
    tree.root.pending = 1
    assert select(tree, SearchSettings(widening=4, max_children=4)) is tree.root
    assert select(tree, SearchSettings(widening=4, max_children=1)) is None
    assert select(tree, SearchSettings()) is None


def test_where_all_below_waits_for_replies_the_next_best_is_selected():
    tree, _left, right = three_nodes()
    settings = SearchSettings(exploration=0.0, max_children=2)
    assert select(tree, settings) is right
    # one child of right is in flight and one visit allows no second: right's score still leads at 0.9
    right.value_sum, right.pending, tree.root.pending = 1.8, 1, 1
    right.children = []
    assert select(tree, SearchSettings(exploration=0.0, max_children=2, widening=0.1)).text == "b"


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


def test_equal_siblings_are_merged_and_counted():
    tree = a_tree()
    first, second = grow(tree, 0, thought("same", value=0.2, tokens=3), thought("same", value=0.9, tokens=5))
    assert second is first
    assert (first.count, first.visits, first.q, first.tokens) == (2, 2, 0.2, 3)
    (other,) = grow(tree, 0, thought("same", action=CRITIC))
    assert other is not first
    # 2 e^-1 against 1 e^-1
    assert tree.prior(first) == pytest.approx(2 / 3)


def test_repeats_use_up_the_tries_of_a_node():
    tree = a_tree()
    settings = SearchSettings(simulations=50, max_children=3, max_depth=1)
    asks = finish(mcts(tree, settings, AMPLE, by_model), lambda ask: thought("same", action=CONCLUDE, answer="1"))
    assert (len(asks), len(tree.nodes), tree.nodes[1].count) == (3, 2, 3)
    assert tree.root.closed


def test_an_exhausted_subtree_is_closed_and_not_entered():
    tree = a_tree()
    settings = SearchSettings(max_children=2, exploration=0)
    good, poor = grow(tree, 0, thought("good", value=0.9), thought("poor", value=0.1))
    for text in ("a", "b"):
        assert select(tree, settings) is good
        (end,) = grow(tree, good.index, thought(text, value=0.9, action=CONCLUDE))
        close(tree, end, settings)
    assert good.closed
    assert not tree.root.closed
    assert select(tree, settings) is poor
    for text in ("c", "d"):
        (end,) = grow(tree, poor.index, thought(text, action=CONCLUDE))
        close(tree, end, settings)
    assert tree.root.closed
    assert select(tree, settings) is None


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
        if ask.parent and tree.nodes[ask.parent].text == "barren":
            return None
        return thought("barren" if len(tree.nodes) == 1 else f"t{ask.local_id}", value=0.99)

    finish(mcts(tree, settings, AMPLE, by_model), evaluate)
    barren = tree.nodes[1]
    assert (barren.failed, barren.closed, barren.children) == (3, True, [])
    assert len(tree.nodes) == 1 + 60 - 3


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_simulations_are_counted_with_those_in_flight(concurrency):
    tree = a_tree()
    settings = SearchSettings(simulations=17, concurrency=concurrency)
    asks = finish(mcts(tree, settings, AMPLE, by_model), numbered)
    thoughts = [ask for ask in asks if ask.action is not CONCLUDE]
    assert len(thoughts) == tree.simulations == 17


def test_at_the_depth_limit_only_conclusions_are_asked_for():
    tree = a_tree()
    settings = SearchSettings(simulations=60, max_depth=3)
    asks = finish(mcts(tree, settings, AMPLE, by_model), numbered)
    for ask in asks[:60]:
        assert (ask.action is CONCLUDE) == (tree.nodes[ask.parent].depth == 2)
    assert max(node.depth for node in tree.nodes) == 3


def test_a_path_without_thinking_left_is_concluded():
    tree = a_tree(thinking_left=3)

    def evaluate(ask):
        left = tree.nodes[ask.parent].thinking_left - 1
        return thought(f"t{ask.local_id}", action=ask.action or EXPAND, thinking_left=left)

    asks = finish(mcts(tree, SearchSettings(simulations=60), AMPLE, by_model), evaluate)
    assert {tree.nodes[ask.parent].depth for ask in asks[:60] if ask.action is CONCLUDE} == {3}
    assert max(node.depth for node in tree.nodes) == 4


def test_a_search_without_an_answer_concludes_its_most_visited_line():
    tree = a_tree()
    asks = finish(mcts(tree, SearchSettings(simulations=9, max_children=2), AMPLE, by_model), concluding)
    node, line = tree.root, []
    while node.children and len(line) < 9:
        node = max((tree.nodes[i] for i in node.children if not tree.nodes[i].terminal), key=lambda n: n.visits)
        line.append(node.index)
        if any(tree.nodes[i].terminal for i in node.children):
            break
    last = asks[-1]
    assert (last.action, last.parent, last.max_tokens) == (CONCLUDE, line[-1], 5)
    assert (tree.nodes[-1].answer, tree.simulations) == ("1", 9)


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
    settings = SearchSettings(simulations=1000, concurrency=4)
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
        settings = SearchSettings(simulations=10 * length, concurrency=concurrency)
        finish(mcts(tree, settings, AMPLE, by_model), Chain(tree, length, right=0.4))
        found += any(node.answer == "7" for node in tree.nodes)
    # one line of as many thoughts as the chain is long comes through with probability 0.4 ** 6 = 0.004;
    # ten such lines cost the same and one of them comes through with probability 0.04
    assert found >= 16


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
def test_lines_that_are_begun_conclude_within_the_budget(num_lines):
    for budget in range(5, 200, 7):
        tree = a_tree()
        limits = Limits(budget, thought=10, conclusion=5)
        finish(lines(tree, num_lines, 8, limits, by_model), stepping(tree, 3))
        inner = [node for node in tree.nodes if node.index and not node.terminal]
        assert all(node.children for node in inner)
        assert 1 <= len(tree.terminals()) <= num_lines
        assert tree.tokens_used <= budget


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


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("simulations", 0, "search.simulations must be at least 1, got 0"),
        ("max_children", 0, "search.max_children must be at least 1, got 0"),
        ("max_depth", 0, "search.max_depth must be at least 1, got 0"),
        ("concurrency", 0, "search.concurrency must be at least 1, got 0"),
        ("exploration", -1.0, "search.exploration must be at least 0, got -1.0"),
        ("exploration", math.nan, "search.exploration must be at least 0, got nan"),
        ("widening", 0.0, "search.widening must be above 0"),
        ("widening", math.inf, "search.widening must be above 0"),
        ("widening_power", 1.5, r"search.widening_power in \[0, 1\], got 1.0 and 1.5"),
    ],
)
def test_settings_that_cannot_search_are_refused(field, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        SearchSettings(**{field: value})


def test_the_seeds_of_thoughts_differ_within_and_between_trees():
    seeds = [derive(seed, local_id) for seed in range(20) for local_id in range(-20, 20)]
    assert len(set(seeds)) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
