"""Path budgets over the iterations of self-play."""

from collections import Counter
from dataclasses import replace

import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError
from llama_o1.play.curriculum import CurriculumSettings
from llama_o1.play.expand import Expander, ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings
from llama_o1.play.selfplay import search_all
from tree.actions import Transitions
from tree.search import SearchSettings


def budgets(settings, iterations=range(1, 9), problems=1):
    return [settings.of_iteration(i, problems, seed=3, fixed=64) for i in iterations]


def test_a_fixed_budget_stays():
    assert budgets(CurriculumSettings(), range(1, 4), 2) == [[64, 64]] * 3
    assert CurriculumSettings().all(64) == (64,)


def test_budgets_decrease_stage_by_stage_and_the_last_one_stays():
    settings = CurriculumSettings("decreasing", (96, 64, 48), iterations_each=2)
    assert [b for (b,) in budgets(settings)] == [96, 96, 64, 64, 48, 48, 48, 48]


def test_a_mixture_gives_each_problem_its_own_the_same_for_the_same_seed():
    settings = CurriculumSettings("mixed", (48, 64, 96))
    drawn = budgets(settings, range(1, 31), 10)
    assert drawn == budgets(settings, range(1, 31), 10)
    assert drawn[4] == settings.of_iteration(5, 10, seed=3, fixed=64)  # whatever came before
    assert drawn[0] != settings.of_iteration(1, 10, seed=4, fixed=64)
    counts = Counter(budget for iteration in drawn for budget in iteration)
    # 300 draws at 1/3: 100 each, with a standard deviation of 8.2
    assert set(counts) == {48, 64, 96}
    assert all(60 < count < 140 for count in counts.values())


def test_a_mixture_may_come_once_all_budgets_had_their_turn():
    settings = CurriculumSettings("decreasing_then_mixed", (96, 48), iterations_each=1)
    drawn = budgets(settings, range(1, 12), 20)
    assert drawn[:2] == [[96] * 20, [48] * 20]
    assert all(set(iteration) == {96, 48} for iteration in drawn[2:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budgets": (64,)}, "order fixed takes thoughts.path_budget, got curriculum.budgets 64"),
        ({"order": "mixed"}, "at least two budgets above 0, got none"),
        ({"order": "mixed", "budgets": (64, 0)}, "at least two budgets above 0, got 64, 0"),
        ({"order": "decreasing", "budgets": (48, 64)}, "must decrease, got 48, 64"),
        ({"iterations_each": 0}, "iterations_each must be at least 1, got 0"),
    ],
)
def test_curricula_without_sense_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        CurriculumSettings(**fields)


def test_each_tree_keeps_and_shows_its_own_budget_in_one_batch(codec, writer):
    wanted = [40, 64, 40, 97]
    expander = Expander(codec, ThoughtSettings(path_budget=80, max_text=12, max_answer=9), 1024)
    trees = search_all(
        FakeEngine(len(codec.tokenizer), 1024, policy=writer),
        [(str(i), "What is 1+2?", lambda text: Grade(text, 1.0)) for i in range(4)],
        expander,
        MethodSettings(budget_tokens=1500, tree=SearchSettings(simulations=60)),
        Transitions(),
        seed="mixed",
        on_tree=lambda i, tree: None,
        path_budgets=wanted,
    )
    for tree, budget in zip(trees, wanted, strict=True):
        assert max(trail_of(tree, node.index).spent for node in tree.nodes) <= budget
        first = budget // 8  # where 7/8 remain
        leaf = max(tree.nodes, key=lambda node: trail_of(tree, node.index).spent)
        spent, at = 0, None
        for index in tree.path(leaf.index)[1:]:
            trail = trail_of(tree, index)
            ids = trail.context[trail.before :]
            if codec.special.remaining[0] in ids and at is None:
                text = ids.index(codec.special.start_of_thought) + 1
                own = ids[text:]
                at = spent + own.index(codec.special.remaining[0]) + 1 - (own[0] in codec.tag_ids)
            spent = trail.spent
        assert at == first
    assert replace(expander.settings) == expander.settings
