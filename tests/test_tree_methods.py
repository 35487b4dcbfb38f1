"""Beams, best-first search, whole solutions and pruning, step by step on scripted thoughts."""

import pytest
from test_tree_runs import AMPLE, a_tree, finish, thought
from test_tree_search import grow

from tree.actions import MetaAction, by_model, refining
from tree.beam import beam
from tree.best_first import best_first
from tree.budget import Limits
from tree.gumbel import gumbel
from tree.search import SearchSettings, close, may_widen, mcts
from tree.vote import vote

_, EXPAND, _, CRITIC, REFINE, CONCLUDE = MetaAction


def worth(*values, ending=()):
    """Thoughts of these values, in the order they are asked for; those numbered in `ending` conclude."""

    def evaluate(ask):
        value = values[ask.local_id - 1] if ask.local_id <= len(values) else 0.01
        ends = ask.local_id in ending or ask.action is CONCLUDE
        answer = str(ask.local_id) if ends else None
        kind = CONCLUDE if ends else EXPAND
        return thought(f"t{ask.local_id}", value=value, action=kind, answer=answer, tokens=5)

    return evaluate


def parents(tree, asks):
    return [tree.nodes[ask.parent].local_id for ask in asks]


def test_a_beam_goes_on_with_its_best_lines_and_a_line_that_ended_leaves_it():
    tree = a_tree()
    # step 1: 2 and 4 are kept. Step 2: 6 below 2 ends and 8 below 4 is kept; step 3 has one line left: 10
    values = (0.1, 0.9, 0.5, 0.7, 0.3, 0.95, 0.2, 0.8, 0.6, 0.7)
    asks = finish(beam(tree, 2, 2, 8, AMPLE, by_model), worth(*values, ending={6, 10}))
    assert parents(tree, asks) == [0, 0, 0, 0, 2, 2, 4, 4, 8, 8]
    assert [node.local_id for node in tree.terminals()] == [6, 10]
    assert vote(tree, "best").answer == "6"


def test_equal_thoughts_of_a_beam_are_one_line():
    tree = a_tree()
    evaluate = worth(0.5, 0.5, 0.4)

    def repeating(ask):
        told = evaluate(ask)
        return thought("same", value=0.5) if ask.local_id <= 2 else told

    asks = finish(beam(tree, 2, 1, 2, AMPLE, by_model), repeating)
    # both thoughts of the first step are one, so the second has one line
    assert parents(tree, asks) == [0, 0, 1]


def test_subtrees_go_on_with_their_own_best_whatever_the_others_found():
    tree = a_tree()
    # subtree one tries 1 and 2, subtree two tries 3 and 4, which is worth less than both
    asks = finish(
        beam(tree, 1, 2, 8, AMPLE, by_model, subtrees=2),
        worth(0.8, 0.9, 0.1, 0.2, 0.5, 0.6, 0.3, 0.4, ending={6, 8}),
    )
    assert parents(tree, asks) == [0, 0, 0, 0, 2, 2, 4, 4]
    assert {arrival.line for arrival in tree.arrivals} == {0, 1}
    assert [node.local_id for node in tree.terminals()] == [6, 8]


@pytest.mark.parametrize("subtrees", [1, 3])
def test_a_beam_short_of_tokens_asks_its_best_lines_for_their_conclusions(subtrees):
    for budget in range(5, 200, 3):
        tree = a_tree()
        limits = Limits(budget, thought=10, conclusion=5)
        finish(
            beam(tree, 2 if subtrees == 1 else 1, 2, 50, limits, by_model, subtrees),
            lambda ask: thought(
                f"t{ask.local_id}",
                value=1 / ask.local_id,
                action=ask.action or EXPAND,
                tokens=ask.max_tokens,
                answer=None if ask.action is None else "1",
            ),
        )
        assert tree.tokens_used <= budget
        assert tree.answered


def test_best_first_continues_the_most_valuable_thought_of_the_whole_tree():
    tree = a_tree()
    settings = SearchSettings(simulations=6, max_children=2)
    asks = finish(best_first(tree, settings, AMPLE, by_model), worth(0.5, 0.3, 0.8, 0.6, 0.9, 0.2))
    # the root has no value and comes first, until it has its two: 1 (0.5) and 2 (0.3). Below 1 comes 3 (0.8),
    # below that 4 (0.6) and, as 3 is still worth more, 5 (0.9), and below that 6
    assert parents(tree, asks[:6]) == [0, 0, 1, 3, 3, 5]
    assert asks[-1].action is CONCLUDE


def writing(tree, steps=2):
    """Solutions of so many steps and a conclusion; each may be revised."""

    def evaluate(ask):
        parent = tree.nodes[ask.parent]
        if ask.action in (CRITIC, REFINE):
            return thought(f"{ask.action} {ask.local_id}", action=ask.action, value=0.5)
        ends = parent.action is REFINE or parent.depth == steps
        kind, answer = (CONCLUDE, "1") if ends else (EXPAND, None)
        return thought(f"t{ask.local_id}", action=kind, answer=answer, terminal=False, value=0.5)

    return evaluate


def test_a_whole_solution_is_criticised_and_written_anew():
    tree = a_tree()
    settings = SearchSettings(simulations=40, max_children=2, whole_solutions=True, prune=True)
    finish(mcts(tree, settings, AMPLE, refining(by_model)), writing(tree))
    kinds = {}
    for node in tree.nodes[1:]:
        kinds.setdefault(tree.nodes[node.parent].action, set()).add(node.action)
    assert kinds[CONCLUDE] == {CRITIC}
    assert kinds[CRITIC] == {REFINE}
    assert kinds[REFINE] == {CONCLUDE}
    inner = [node for node in tree.nodes[1:] if node.action is not CONCLUDE]
    assert max(len(node.children) for node in inner) == 1
    assert any(len(node.children) == 2 for node in tree.nodes if node.action is CONCLUDE)
    assert tree.simulations == 40


def test_a_thought_whose_child_came_to_more_than_itself_gets_no_more_children():
    tree = a_tree()
    (node,) = grow(tree, 0, thought("node", value=0.6))
    settings = SearchSettings(max_children=4, widening=9, prune=True)
    grow(tree, node.index, thought("worse", value=0.5))
    assert may_widen(tree, node, settings)
    (better,) = grow(tree, node.index, thought("better", value=0.7, action=CONCLUDE))
    assert not may_widen(tree, node, settings)
    assert may_widen(tree, node, SearchSettings(max_children=4, widening=9))
    tree.nodes[2].closed = True
    close(tree, better, settings)
    assert node.closed, "all that it may have is searched"


def test_the_problem_itself_is_not_pruned():
    tree = a_tree()
    grow(tree, 0, thought("good", value=0.99))
    assert may_widen(tree, tree.root, SearchSettings(widening=9, prune=True))


def test_a_gumbel_search_visits_its_candidates_evenly_then_the_better_ones():
    tree = a_tree()
    settings = SearchSettings(simulations=64, max_children=4, follow=1)

    def evaluate(ask):
        if ask.parent == 0:
            return thought(f"c{ask.local_id}", value=0.2 * (1 + len(tree.root.children)))
        # a little less with each step, so that a simulation is one thought
        return thought(f"t{ask.local_id}", value=0.99 * tree.nodes[ask.parent].value)

    finish(gumbel(tree, settings, AMPLE, by_model), evaluate)
    visits = sorted(tree.nodes[i].visits for i in tree.root.children)
    assert len(visits) == 4
    # a phase is half the budget: a quarter of it each at first, then half of it each for two
    assert visits[0] == pytest.approx(8, abs=2)
    assert visits[-1] == pytest.approx(24, abs=4)


def test_a_tree_that_is_searched_through_grows_wider_while_budget_is_left():
    sizes = {}
    for regrow in (False, True):
        tree = a_tree()
        settings = SearchSettings(simulations=30, max_children=2, max_depth=2, regrow=regrow)
        finish(
            mcts(tree, settings, AMPLE, by_model),
            lambda ask: thought(f"t{ask.local_id}", action=ask.action or EXPAND, answer="1"),
        )
        sizes[regrow] = tree.simulations
    # 2 + 4 thoughts of a full tree of two children each, then 4 + 16, then more
    assert sizes == {False: 6, True: 30}
