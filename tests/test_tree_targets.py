"""What a finished tree teaches, on trees worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tree.actions import MetaAction
from tree.node import Ask, Told, Tree
from tree.search import backup
from tree.targets import targets

shares = st.floats(0, 1)


def grown(*thoughts):
    """A tree of thoughts given as (parent, value) or (parent, value, grade); a graded one concludes."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    for number, (parent, value, *grade) in enumerate(thoughts, start=1):
        add(tree, parent, f"t{number}", value, *grade)
    return tree


def add(tree, parent, text, value, grade=None):
    action = MetaAction.EXPAND if grade is None else MetaAction.CONCLUDE
    told = Told(
        action, text, -1.0, value, tokens=1, thinking_left=9, terminal=grade is not None, outcome=grade
    )
    node = tree.add(Ask(parent, action, tree.next_id, 9, 0), told)
    tree.next_id += 1
    backup(tree, node)


def two_branches():
    """Root: 1 -> 3 (right), 1 -> 4 (wrong), and 2, which is unfinished."""
    return grown((0, 0.6), (0, 0.3), (1, 0.8, 1.0), (1, 0.7, 0.0))


# Q of two_branches: 3 is 1 and 4 is 0 by their grades, 1 is (0.6 + 1 + 0) / 3, 2 is 0.3,
# the root (0.6 + 0.3 + 1 + 0) / 4 = 0.475
Q1, Q_ROOT = 1.6 / 3, 0.475


def values(tree, **options):
    return [target.value for target in targets(tree, **options)[1:]]


def advantages(tree, **options):
    return [target.advantage for target in targets(tree, **options)[1:]]


def test_the_root_teaches_nothing():
    assert targets(two_branches())[0] is None
    assert targets(grown()) == [None]


def test_a_value_target_mixes_q_with_the_mean_grade_below():
    # node 1: mean grade (1 + 0) / 2
    assert values(two_branches(), mix=0.25) == pytest.approx([0.25 * Q1 + 0.75 * 0.5, 0.3, 1, 0])
    assert values(two_branches(), mix=1) == pytest.approx([Q1, 0.3, 1, 0])
    assert values(two_branches(), mix=0) == pytest.approx([0.5, 0.3, 1, 0])


def test_an_unfinished_line_is_bootstrapped_and_no_failure():
    tree = grown((0, 0.6), (1, 0.9))
    # no grade below: Q alone, (0.6 + 0.9) / 2
    assert values(tree, mix=0) == pytest.approx([0.75, 0.9])


def test_a_merged_conclusion_counts_each_time():
    tree = two_branches()
    add(tree, 1, "t3", 0.8, 1.0)
    assert tree.nodes[3].count == 2
    assert values(tree, mix=0)[0] == pytest.approx(2 / 3)


def test_grades_are_counted_over_all_levels_below():
    # below 1: its own conclusion 2 (right); below 3: 4 and 5 (wrong)
    tree = grown((0, 0.5), (1, 0.5, 1.0), (1, 0.5), (3, 0.5, 0.0), (3, 0.4, 0.0))
    assert values(tree, mix=0) == pytest.approx([1 / 3, 1, 0, 0, 0])


def test_a_tree_advantage_is_q_less_the_parents_value():
    # nodes 1 and 2 against Q of the root, which has no value; 3 and 4 against node 1's own 0.6
    expected = [Q1 - Q_ROOT, 0.3 - Q_ROOT, 1 - 0.6, 0 - 0.6]
    assert advantages(two_branches(), mode="tree") == pytest.approx(expected)


def test_a_relative_advantage_is_the_value_target_less_the_parents():
    # mix 0.5: the root's is (0.475 + 0.5) / 2, node 1's (Q1 + 0.5) / 2
    root, first = (Q_ROOT + 0.5) / 2, (Q1 + 0.5) / 2
    expected = [first - root, 0.3 - root, 1 - first, 0 - first]
    assert advantages(two_branches(), mode="relative", mix=0.5) == pytest.approx(expected)


def test_gae_over_a_tree_takes_the_mean_of_the_children_weighted_by_visits():
    tree = two_branches()
    add(tree, 1, "t3", 0.8, 1.0)
    root = (0.6 + 0.3 + 1 + 0 + 1) / 5
    # the right conclusion was met twice: (2 * (1 - 0.6) + 1 * (0 - 0.6)) / 3
    later = (2 * 0.4 - 0.6) / 3
    expected = [0.9 * 0.6 - root + 0.9 * 0.5 * later, 0.9 * 0.3 - root, 1 - 0.6, 0 - 0.6]
    assert advantages(tree, mode="gae", discount=0.9, trace=0.5) == pytest.approx(expected)


@given(st.lists(shares, min_size=1, max_size=12), st.sampled_from([0.0, 1.0]), shares, shares)
def test_gae_of_a_single_line_is_the_textbooks(line, grade, discount, trace):
    tree = grown(*((i, value) for i, value in enumerate(line)), (len(line), 0.5, grade))
    assert advantages(tree, mode="gae", discount=discount, trace=trace) == pytest.approx(
        textbook([tree.root.q, *line], grade, discount, trace), abs=1e-9
    )


def textbook(states, reward, discount, trace):
    """A_t = sum over l of (discount * trace) ** l * delta_(t + l); the reward comes with the last step."""
    after = [*states[1:], 0.0]
    rewards = [0.0] * (len(states) - 1) + [reward]
    deltas = [r + discount * late - now for r, late, now in zip(rewards, after, states, strict=True)]
    return [
        sum((discount * trace) ** n * delta for n, delta in enumerate(deltas[start:]))
        for start in range(len(states))
    ]


@given(st.lists(shares, min_size=1, max_size=6), st.sampled_from([0.0, 1.0]))
def test_undiscounted_gae_without_a_trace_to_cut_is_the_grade_less_what_was_expected(line, grade):
    tree = grown(*((i, value) for i, value in enumerate(line)), (len(line), 0.5, grade))
    expected = [grade - value for value in [tree.root.q, *line]]
    assert advantages(tree, mode="gae", discount=1, trace=1) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mode", ["relative", "tree", "gae"])
def test_an_ungraded_conclusion_is_worth_the_models_own_value(mode):
    tree = grown((0, 0.6), (1, 0.8))
    tree.nodes[2].terminal = True
    # node 2 against node 1: 0.8 - 0.6, or 0.8 less Q = (0.6 + 0.8) / 2
    expected = 0.8 - 0.7 if mode == "relative" else 0.8 - 0.6
    assert advantages(tree, mode=mode)[1] == pytest.approx(expected)


def test_advantages_among_siblings_are_normalised_by_their_own_spread():
    # mix 1: children of the root are worth Q1 and 0.3, of node 1 they are worth 1 and 0. Two values lie one
    # standard deviation from their mean, whatever they are.
    assert advantages(two_branches(), mode="siblings", mix=1) == pytest.approx([1, -1, 1, -1])


def test_a_merged_sibling_counts_each_time():
    tree = two_branches()
    add(tree, 1, "t3", 0.8, 1.0)
    # node 1's children are worth 1, 1 and 0: mean 2/3, variance (1/9 + 1/9 + 4/9) / 3 = 2/9
    deviation = (2 / 9) ** 0.5
    assert advantages(tree, mode="siblings", mix=0)[2:] == pytest.approx(
        [1 / 3 / deviation, -2 / 3 / deviation]
    )


def test_siblings_that_are_worth_the_same_teach_nothing():
    tree = grown((0, 0.5), (0, 0.5), (1, 0.7))
    assert advantages(tree, mode="siblings", mix=1)[2] == 0.0  # an only child
    tree = grown((0, 0.4), (0, 0.4), (0, 0.4))
    assert advantages(tree, mode="siblings", mix=1) == [0, 0, 0]


def three_lines():
    """Three lines: 1 -> 2 (right), 1 -> 3 (wrong), 4 -> 5 (wrong). Grades 1, 0, 0; mean 1/3, variance 2/9."""
    return grown((0, 0.5), (1, 0.5, 1.0), (1, 0.5, 0.0), (0, 0.5), (4, 0.5, 0.0))


def test_a_group_advantage_is_the_grade_less_the_mean_of_all_lines_over_those_that_drew_the_thought():
    # a right line has 1 - 1/3, a wrong one -1/3; both that begin with thought 1 drew it
    expected = [(2 / 3 - 1 / 3) / 2, 2 / 3, -1 / 3, -1 / 3, -1 / 3]
    assert advantages(three_lines(), mode="group") == pytest.approx(expected)
    scaled = [advantage / (2 / 9) ** 0.5 for advantage in expected]
    assert advantages(three_lines(), mode="group", by_deviation=True) == pytest.approx(scaled)


def test_a_line_drawn_twice_counts_twice_in_its_group():
    tree = three_lines()
    add(tree, 4, "t5", 0.5, 0.0)
    # grades 1, 0, 0, 0; of the two lines below 1 one is right
    assert advantages(tree, mode="group") == pytest.approx([1 / 2 - 1 / 4, 3 / 4, -1 / 4, -1 / 4, -1 / 4])


@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_lines_that_all_end_alike_have_no_group_advantage(grade):
    tree = grown((0, 0.5), (1, 0.5, grade), (0, 0.5), (3, 0.5, grade), (0, 0.5, grade))
    for by_deviation in (False, True):
        assert advantages(tree, mode="group", by_deviation=by_deviation) == [0] * 5


def test_a_thought_that_is_as_good_as_its_group_has_exactly_no_advantage():
    # below 1 one of three is right, so it is elsewhere: 2 of 6
    tree = grown((0, 0.5), *((1, 0.5, grade) for grade in (1.0, 0.0, 0.0)))
    for grade in (1.0, 0.0, 0.0):
        add(tree, 0, f"answer {grade}", 0.5, grade)
    assert advantages(tree, mode="group")[0] == 0


def test_a_line_without_a_grade_is_in_no_group():
    tree = grown((0, 0.5), (1, 0.5, 1.0), (0, 0.5, 0.0), (0, 0.9))
    # grades 1 and 0: thought 4 came to no answer
    assert advantages(tree, mode="group") == [0.5, 0.5, -0.5, 0]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0])), min_size=1, max_size=9))
def test_group_advantages_of_all_answers_add_up_to_nothing(lines):
    tree = grown((0, 0.5), (0, 0.5), (0, 0.5))
    for first, grade in lines:
        add(tree, first + 1, f"answer {grade}", 0.5, grade)
    found, nodes = advantages(tree, mode="group"), tree.nodes[1:]
    below = [sum(tree.nodes[i].count for i in node.children) for node in nodes[:3]]
    assert sum(a * node.count for a, node in zip(found[3:], nodes[3:], strict=True)) == pytest.approx(0)
    assert sum(a * lines for a, lines in zip(found[:3], below, strict=True)) == pytest.approx(0)


def test_an_advantage_by_right_answers_is_their_share_of_those_that_a_thought_led_to():
    tree = three_lines()
    add(tree, 1, "t2", 0.5, 1.0)
    assert advantages(tree, mode="right") == pytest.approx([2 / 3, 1, 0, 0, 0])
