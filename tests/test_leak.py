import json

import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.loop import tree_row
from llama_o1.measure.evaluate import graded, ungraded
from llama_o1.play.collect import collect
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.judge import Grade, grade
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.problem import Problem, WorkedStep
from tree.actions import MetaAction
from tree.page import html_page
from tree.search import SearchSettings
from tree.terminal import terminal_tree

GOLD = "zqxjv48151623"
PROBLEM = Problem(
    "secret-1", "What is the word?", GOLD, "secret", steps=(WorkedStep("1+1", GOLD, GOLD, f"Is it {GOLD}?"),)
)
THOUGHTS = ThoughtSettings(path_budget=64, max_text=12, max_answer=12, calculator=True, hints=True)


@pytest.fixture
def engine(codec, writer):
    """Remembers every context; its conclusions declare an answer."""
    tag = codec.special.tags[MetaAction.CONCLUDE]
    answer = codec.encode("\\boxed{5}")

    def policy(tokens):
        logits = writer(tokens)
        if tag in tokens[-len(answer) - 1 :]:
            said = len(tokens) - 1 - max(i for i, token in enumerate(tokens) if token == tag)
            logits[answer[said] if said < len(answer) else codec.special.end_of_thought] = 60.0
        return logits

    class Remembering(FakeEngine):
        def submit(self, key, request):
            self.contexts.append(request.context)
            super().submit(key, request)

    remembering = Remembering(len(codec.tokenizer), 1024, policy=policy)
    remembering.contexts = []
    return remembering


@pytest.mark.parametrize("judge", [graded(PROBLEM), ungraded(PROBLEM)], ids=["self-play", "evaluation"])
@pytest.mark.parametrize("actions", ["model", "uniform"])
def test_no_prompt_and_nothing_of_a_tree_holds_the_gold_answer(codec, grow, engine, judge, actions):
    method = MethodSettings(budget_tokens=2000, actions=actions, tree=SearchSettings(simulations=30))
    (tree,) = grow([PROBLEM.question], THOUGHTS, method, engine, judge)
    assert any(node.answer == "5" for node in tree.nodes)  # the judge was asked
    row = tree_row(tree)
    written = [
        *map(codec.decode, engine.contexts),
        *(node.text for node in tree.nodes),
        *(codec.decode(np.concatenate([e.context, e.ids])) for e in _experiences(tree)),
        repr(tree),
        json.dumps(row),
        html_page([row], "a search"),
        terminal_tree(tree.nodes, colour=False, width=200),
    ]
    assert len(engine.contexts) >= 20
    assert not [text for text in written if GOLD in text]


def _experiences(tree):
    return collect(tree, problem=PROBLEM.id, name="t", mode="tree", mix=0.5, discount=1.0, trace=0.95)


def test_an_evaluation_tells_no_grade(grow, engine):
    method = MethodSettings(budget_tokens=2000, tree=SearchSettings(simulations=30))
    (tree,) = grow([PROBLEM.question], THOUGHTS, method, engine, ungraded(PROBLEM))
    assert {node.outcome for node in tree.nodes} == {None}


def test_a_tree_graded_when_it_is_over_has_the_grades_it_would_have_got(grow):
    def judge(text):
        return Grade(text or None, float(len(text) % 2))

    method = MethodSettings(budget_tokens=4000, stop_decided=False, tree=SearchSettings(simulations=200))
    (tree,) = grow(["2 + 3?"], THOUGHTS, method, judge=judge)
    given = [node.outcome for node in tree.nodes]
    kinds = {str(node.action) for node in tree.nodes if node.outcome is not None}
    assert {"conclude"} < kinds  # some astray as well
    assert None in given
    for node in tree.nodes:
        node.outcome = None
    grade(tree, judge)
    assert [node.outcome for node in tree.nodes] == given


def test_a_grader_names_the_declared_answer_only():
    assert graded(PROBLEM)("\\boxed{17}") == ("17", 0.0)
    assert graded(PROBLEM)("I give up") == (None, 0.0)
    assert graded(PROBLEM)(f"\\boxed{{{GOLD}}}").outcome == 1.0
