"""The tree search by hand: PUCT, backup, progressive widening, merging, closing."""

import math

import pytest

from tree.actions import MetaAction
from tree.budget import derive
from tree.node import Ask, Told, Tree, priors
from tree.scores import puct
from tree.search import SearchSettings, backup, close, select

EXPAND, CRITIC, CONCLUDE = MetaAction.EXPAND, MetaAction.CRITIC, MetaAction.CONCLUDE


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


def test_selection_follows_puct():
    tree, left, right = three_nodes()
    assert priors([left, right]) == pytest.approx([2 / 3, 1 / 3])
    # left 0.5 + 2/3 * sqrt(4) / (1 + 3) = 0.83, right 0.6 + 1/3 * sqrt(4) / (1 + 1) = 0.93
    assert select(tree, SearchSettings(exploration=1, max_children=2)) is right


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
    tree, _, right = three_nodes()
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
        # ceil(sqrt(N)): the 2nd child at N = 2 (1.41), the 3rd at 5 (2.24), the 4th at 10 (3.16)
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
            tree.root.visits, tree.root.value_sum = visits, 0.5 * visits
            if select(tree, settings) is tree.root:
                allowed_at.append(visits)
        assert allowed_at == ([] if wanted is None else list(range(wanted, 40)))


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
    tree = a_tree()
    poor, good = grow(tree, 0, thought("poor", value=0.2), thought("good", value=0.9))
    # good leads with 0.9 / 2, but the one child it may have is in flight
    good.pending = tree.root.pending = 1
    assert select(tree, SearchSettings(exploration=0, max_children=1)) is poor


def test_a_node_with_a_child_that_holds_its_promise_is_not_widened_before_its_visits_allow():
    # 0.5 is at least half of 1.0; N = 3 allows ceil(sqrt(3)) = 2 children
    tree, node = promising(1.0, children=[0.5, 0.1])
    assert select(tree, SearchSettings(exploration=0)) is tree.nodes[node.children[0]]


@pytest.mark.parametrize("children", [[0.4], [0.4, 0.1], [0.4, 0.4, 0.4]])
def test_a_node_whose_children_fall_short_of_its_promise_may_be_widened_at_once(children):
    tree, node = promising(0.9, children)
    assert select(tree, SearchSettings(exploration=0)) is node
    # with `follow` at 0 nothing falls short: fewer than ceil(sqrt(N)) children, N = 1 + children
    least = len(children) < math.ceil(math.sqrt(1 + len(children)))
    assert (select(tree, SearchSettings(exploration=0, follow=0)) is node) is least


def promising(value, children):
    """A node below a full root, with children of these values."""
    tree = a_tree()
    node = grow(tree, 0, *[thought("node", value=value)] * 4)[0]
    grow(tree, node.index, *(thought(f"child {i}", value=each) for i, each in enumerate(children)))
    node.visits, node.value_sum = 1 + len(children), value + sum(children)
    return tree, node


def test_equal_siblings_are_merged_and_counted():
    tree = a_tree()
    first, second = grow(tree, 0, thought("same", value=0.2, tokens=3), thought("same", value=0.9, tokens=5))
    assert second is first
    assert (first.count, first.visits, first.q, first.tokens) == (2, 2, 0.2, 3)
    (other,) = grow(tree, 0, thought("same", action=CRITIC))
    assert other is not first
    # 2 e^-1 against 1 e^-1
    assert priors([first, other]) == pytest.approx([2 / 3, 1 / 3])


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


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("simulations", 0, "search.simulations must be at least 1, got 0"),
        ("max_children", 0, "search.max_children must be at least 1, got 0"),
        ("max_depth", 0, "search.max_depth must be at least 1, got 0"),
        ("concurrency", 0, "search.concurrency must be at least 1, got 0"),
        ("exploration", -1.0, "search.exploration must be at least 0, got -1.0"),
        ("exploration", math.nan, "search.exploration must be at least 0, got nan"),
        ("follow", 1.5, r"search.follow must be in \[0, 1\], got 1.5"),
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
