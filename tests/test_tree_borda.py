"""Enhanced Borda Count, worked by hand: chains, cycles, ties, global and local values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tree.borda import closure, enhanced_borda

OWN = float("nan")  # a solution against itself is never read


def of(preferences, **more):
    return enhanced_borda(preferences, **more)


def values(standings):
    return [round(one.value, 9) for one in standings]


def test_what_is_beaten_by_the_beaten_is_beaten():
    # 0 > 1 > 2 > 3; 3 was never set against 0, so it is at 0.4 both ways: neither beats the other.
    chain = [
        [OWN, 0.9, 0.4, 0.4],
        [0.1, OWN, 0.8, 0.4],
        [0.4, 0.2, OWN, 0.7],
        [0.4, 0.4, 0.3, OWN],
    ]
    standings = of(chain)
    assert [one.points for one in standings] == [3, 2, 1, 0]
    assert [one.rank for one in standings] == [1, 2, 3, 4]
    # global: 1, 2/3, 1/3, 0; without solutions written from them the value is the global one
    assert values(standings) == [1, round(2 / 3, 9), round(1 / 3, 9), 0]


def test_a_cycle_is_of_equals_and_is_ordered_by_how_sure_its_comparisons_are():
    # 0 > 1 > 2 > 0, all above 3. The closure gives each of the three all others: 3 points each.
    # Among the three: 0 has 0.9 - 0.1 + 0.4 - 0.6 = 0.6; 1 has 0.1 - 0.9 + 0.7 - 0.3 = -0.4;
    # 2 has 0.3 - 0.7 + 0.6 - 0.4 = -0.2. So 0, 2, 1, then 3.
    cycle = [
        [OWN, 0.9, 0.4, 0.8],
        [0.1, OWN, 0.7, 0.8],
        [0.6, 0.3, OWN, 0.8],
        [0.2, 0.2, 0.2, OWN],
    ]
    standings = of(cycle)
    assert [one.points for one in standings] == [3, 3, 3, 0]
    assert [one.rank for one in standings] == [1, 3, 2, 4]
    assert values(standings) == [1, round(1 / 3, 9), round(2 / 3, 9), 0]


def test_a_cycle_of_equally_sure_comparisons_shares_its_ranks():
    # 0 > 1 > 2 > 0 at 0.7 each: nothing tells them apart. Places 1, 2, 3 have the mean 2, global 1/2.
    cycle = [[OWN, 0.7, 0.3], [0.3, OWN, 0.7], [0.7, 0.3, OWN]]
    standings = of(cycle)
    assert [one.points for one in standings] == [2, 2, 2]
    assert [one.rank for one in standings] == [2, 2, 2]
    assert values(standings) == [0.5, 0.5, 0.5]


def test_equal_points_are_ordered_by_their_own_comparison():
    # 0 and 1 are at 0.5 and 0.55: both beat, the second more surely (orders need not agree); both beat 2.
    tie = [[OWN, 0.5, 0.9], [0.55, OWN, 0.6], [0.1, 0.4, OWN]]
    standings = of(tie)
    assert [one.points for one in standings] == [2, 2, 0]
    assert [one.rank for one in standings] == [2, 1, 3]


def test_an_even_comparison_beats_both_ways_and_shares_the_rank():
    # 0 and 1 at 0.5: places 1 and 2, mean 1.5, global 1 - 0.5 / 2 = 0.75.
    even = [[OWN, 0.5, 0.9], [0.5, OWN, 0.9], [0.1, 0.1, OWN]]
    assert [one.rank for one in of(even)] == [1.5, 1.5, 3]
    assert values(of(even)) == [0.75, 0.75, 0]


def test_the_local_value_is_the_share_of_own_rewritings_that_are_beaten():
    # 0 > 1 > 2. From 0 were written 1 and 2, both worse: local 1. From 1 was written 0, better: local 0.
    line = [[OWN, 0.9, 0.9], [0.1, OWN, 0.9], [0.1, 0.1, OWN]]
    standings = of(line, children=[[1, 2], [0], []])
    # 0.9 * 1 + 0.1 * 1; 0.9 * 0.5 + 0.1 * 0; 2 has no rewriting: its global value, 0
    assert values(standings) == [1, 0.45, 0]
    # a mix of its own: 0.5 * 0.5 + 0.5 * 0
    assert values(of(line, children=[[], [0], []], global_share=0.5)) == [1, 0.25, 0]


def test_one_solution_is_the_best_and_none_is_none():
    assert of([[OWN]]) == [(0, 1.0, 1.0)]
    assert of([]) == []


@pytest.mark.parametrize(
    ("preferences", "words"),
    [([[OWN, 0.5]], "a square, got a row of 2 among 1"), ([[OWN, 1.2], [0, OWN]], "0 over 1 must be in")],
)
def test_what_are_no_preferences_is_refused(preferences, words):
    with pytest.raises(ValueError, match=words):
        of(preferences)


@st.composite
def tables(draw):
    n = draw(st.integers(1, 6))
    row = st.lists(st.floats(0, 1), min_size=n, max_size=n)
    return draw(st.lists(row, min_size=n, max_size=n))


@given(tables(), st.randoms())
def test_the_order_in_which_solutions_are_given_changes_nothing(preferences, random):
    n = len(preferences)
    order = list(range(n))
    random.shuffle(order)
    shuffled = of([[preferences[i][j] for j in order] for i in order])
    assert shuffled == [of(preferences)[i] for i in order]


@given(tables())
def test_ranks_are_shares_of_all_places_and_a_beaten_one_is_never_above(preferences):
    standings = of(preferences)
    n = len(standings)
    assert sum(one.rank for one in standings) == pytest.approx(n * (n + 1) / 2)
    beats = closure([[i != j and preferences[i][j] >= 0.5 for j in range(n)] for i in range(n)])
    for i in range(n):
        assert 0 <= standings[i].value <= 1
        for j in range(n):
            if beats[i][j] and not beats[j][i]:
                assert standings[i].rank < standings[j].rank
