"""AlphaMath's value data: which paths of graded trees are kept, what they teach, and the loss on them."""

import json
import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import SPECIAL, make_model

from llama_o1.errors import ConfigError
from llama_o1.format.path_line import IGNORE, PathLine
from llama_o1.learn.loss import path_loss
from llama_o1.learn.paths import path_batches, steps_of
from llama_o1.learn.settings import LearnerSettings, PathSettings
from llama_o1.learn.trainer import Learner
from llama_o1.play.expand import trail_of
from llama_o1.play.path_lines import chosen_lines, path_line
from llama_o1.value_head import ValueHead
from tree.actions import MetaAction
from tree.node import Ask, Told, Tree
from tree.paths import choose, paths

SETTINGS = LearnerSettings(objective="paths", learning_rate=1e-2, warmup_steps=0, value_weight=0.1, threads=1)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def add(tree, parent, text, value, outcome=None):
    """A thought below `parent`, its evaluation backed up; a grade makes it an answer."""
    kind = MetaAction.EXPAND if outcome is None else MetaAction.CONCLUDE
    told = Told(kind, text, -1.0, value, tokens=5, thinking_left=9, answer=text, outcome=outcome)
    node = tree.add(Ask(parent, None, len(tree.nodes), 99, 0), told)
    for index in tree.path(node.index):
        tree.nodes[index].visits += 1
        tree.nodes[index].value_sum += node.evaluation
    return node.index


def two_answers(right="4", wrong="5"):
    """A step with a right and a wrong answer below it, and a step that came to nothing."""
    tree = Tree.of("2 + 2?", seed=0, thinking_left=99)
    step = add(tree, 0, "2 + 2 = 4", 0.6)
    add(tree, step, right, 0.9, 1.0)
    add(tree, step, wrong, 0.8, 0.0)
    add(tree, 0, "I wonder", 0.3)
    return tree


def test_every_graded_answer_is_a_path_with_its_q_and_its_grade_at_the_end():
    right, wrong = paths(two_answers())
    assert (right.nodes, wrong.nodes) == ((1, 2), (1, 3))
    assert (right.right, wrong.right) == (True, False)
    # the step was told 0.6, then 1 and 0 came back from below: Q = 1.6 / 3; an answer has its grade
    assert right.qs == (pytest.approx(1.6 / 3), 1.0)
    assert wrong.qs == (pytest.approx(1.6 / 3), 0.0)


def test_a_tree_without_a_grade_has_no_path():
    tree = Tree.of("?", seed=0, thinking_left=9)
    add(tree, 0, "a", 0.5)
    assert paths(tree) == []
    assert choose([tree], 4, 4, Random(0)) == []


def test_equal_paths_of_one_tree_or_of_two_are_kept_once():
    found = choose([two_answers(), two_answers(), two_answers(wrong="6")], 4, 4, Random(0))
    assert [(path.tree, path.nodes, path.right) for path in found] == [
        (0, (1, 2), True),
        (0, (1, 3), False),
        (2, (1, 3), False),
    ]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_at_most_so_many_right_and_wrong_paths_are_kept(right, wrong, most_right, most_wrong, seed):
    tree = Tree.of("?", seed=0, thinking_left=9)
    for i in range(right + wrong):
        add(tree, 0, f"answer {i}", 0.5, float(i < right))
    found = choose([tree], most_right, most_wrong, Random(seed))
    assert sum(path.right for path in found) == min(right, most_right)
    assert sum(not path.right for path in found) == min(wrong, most_wrong)
    assert len({path.nodes for path in found}) == len(found)


def test_a_line_has_the_drawn_tokens_as_labels_and_a_value_at_the_end_of_each_thought(grow):
    found = [(tree, path) for tree in grow(["What is 2 + 3?", "What is 1 + 4?"]) for path in paths(tree)]
    for tree, path in found:
        line = path_line("p", tree, path)
        trails = [trail_of(tree, i) for i in path.nodes]
        ends = [trail.before + trail.sample.ids.size - 1 for trail in trails]
        expected = np.full(line.ids.size, IGNORE)
        for trail in trails:
            for at, (token, sampled) in enumerate(zip(trail.sample.ids, trail.sample.sampled, strict=True)):
                if path.right and sampled:
                    expected[trail.before + at] = token
        assert line.labels.tolist() == expected.tolist()
        assert ends[-1] == line.ids.size - 1
        assert np.flatnonzero(line.step_values != IGNORE).tolist() == ends
        assert line.step_values[ends[:-1]] == pytest.approx([2 * q - 1 for q in path.qs[:-1]])
        assert line.step_values[-1] == (1.0 if path.right else -1.0)
    assert {path.right for _, path in found} == {True, False}


def test_the_policy_learns_nothing_of_a_wrong_path_and_no_forced_token_of_a_right_one(grow):
    lines = chosen_lines("p", grow(["What is 2 + 3?", "What is 1 + 4?"]), 4, 4, Random(0))
    assert {line.right for line in lines} == {True, False}
    for line in lines:
        taught = line.labels != IGNORE
        assert taught.any() == line.right
        assert (line.labels[taught] == line.ids[taught]).all()
        assert json.loads(json.dumps(line.row()))["labels"] == line.labels.tolist()


def a_line(ids, labelled, values, right=True):
    """A line by hand; `labelled` are places that are taught, `values` by place of their step's end."""
    labels, step_values = np.full(len(ids), IGNORE), np.full(len(ids), IGNORE, np.float32)
    labels[labelled] = np.array(ids)[labelled]
    for place, value in values.items():
        step_values[place] = value
    return PathLine("p", right, np.array(ids, np.int32), labels.astype(np.int32), step_values)


def test_a_line_is_learned_as_its_thoughts_one_after_the_other():
    first, second = steps_of(a_line([7, 8, 9, 4, 6, 9, 4], [2, 5], {3: -0.5, 6: 1.0}), "name")
    assert (first.context.tolist(), first.ids.tolist()) == ([7], [8, 9, 4])
    assert (second.context.tolist(), second.ids.tolist()) == ([7, 8, 9, 4], [6, 9, 4])
    assert (first.sampled.tolist(), second.sampled.tolist()) == ([False, True, False], [False, True, False])
    assert (first.value_target, second.value_target) == (0.25, 1.0)


def test_the_loss_by_hand():
    # two steps: of the first two tokens are taught, of the second one
    logprobs = torch.tensor([[-1.0, -2.0, 0.0], [-9.0, -3.0, 0.0]])
    labelled = torch.tensor([[True, True, False], [False, True, False]])
    # v = tanh(x) for logits (x, -x); Q of the two steps is 0 and 1
    x = torch.tensor([0.0, 0.5])
    found = path_loss(
        logprobs, labelled, torch.stack((x, -x), 1), torch.tensor([0.5, 1.0]), labels=3, steps=2
    )
    assert float(found.policy.mean()) == pytest.approx((1 + 2 + 3) / 3)
    assert float(found.value.mean()) == pytest.approx((0 + (math.tanh(0.5) - 1) ** 2) / (2 + 1e-3))


def test_where_every_label_is_masked_the_cross_entropy_is_0_and_no_gradient_is_nan():
    logprobs = torch.tensor([[-1.0, -math.inf]], requires_grad=True)
    rating = torch.tensor([[0.0, 0.0]], requires_grad=True)
    found = path_loss(
        logprobs, torch.zeros(1, 2, dtype=torch.bool), rating, torch.tensor([0.0]), labels=0, steps=1
    )
    assert found.policy.tolist() == [0.0]
    # v = 0 and Q = -1
    assert found.value.tolist() == pytest.approx([1 / (1 + 1e-3)])
    (found.policy + found.value).sum().backward()
    assert logprobs.grad.tolist() == [[0.0, 0.0]]
    assert torch.isfinite(rating.grad).all()


def learner(head=True, **over):
    model = make_model("llama")
    value_head = ValueHead(32, spread=0.3) if head else None
    return Learner(model, SPECIAL, replace(SETTINGS, **over), pad_id=0, value_head=value_head)


RIGHT = a_line([7, 8, 9, 10, 4, 5, 2, 6, 11, 4], [2, 3, 8], {4: 0.2, 9: 1.0})
WRONG = a_line([7, 8, 12, 4, 6, 2, 6, 13, 4], [], {3: 0.2, 8: -1.0}, right=False)
BATCH = [*steps_of(RIGHT, "r"), *steps_of(WRONG, "w")]


@pytest.mark.parametrize("packing", ["trie", "padded"])
@pytest.mark.parametrize("max_tokens", [8192, 12])
def test_a_step_minimises_cross_entropy_plus_beta_times_the_squared_error(packing, max_tokens):
    unit = learner(packing=packing, max_tokens_per_forward=max_tokens)
    model, head = unit.model, unit.value_head
    cross_entropy, errors = [], []
    for line in (RIGHT, WRONG):
        with torch.no_grad():
            said = model(torch.tensor([line.ids.tolist()]), output_hidden_states=True)
            scores = head(said.hidden_states[-1][0])[:, 0]
        labels = torch.tensor(line.labels[1:]).long()
        chosen = torch.nn.functional.cross_entropy(
            said.logits[0, :-1], labels, ignore_index=IGNORE, reduction="none"
        )
        cross_entropy += chosen[labels != IGNORE].tolist()
        errors += [
            (math.tanh(float(scores[i])) - float(q)) ** 2
            for i, q in enumerate(line.step_values)
            if q != IGNORE
        ]
    assert (len(cross_entropy), len(errors)) == (3, 4)
    metrics = unit.step(BATCH, np.ones(len(BATCH))).metrics
    assert metrics["policy_loss"] == pytest.approx(sum(cross_entropy) / 3, rel=1e-5)
    assert metrics["value_loss"] == pytest.approx(sum(errors) / 4.001, rel=1e-5)
    assert metrics["loss"] == pytest.approx(metrics["policy_loss"] + 0.1 * metrics["value_loss"], rel=1e-5)


@pytest.mark.parametrize("head", [True, False], ids=["head", "rating tokens"])
def test_a_batch_of_wrong_paths_only_moves_the_value(head):
    unit, batch = learner(head), steps_of(WRONG, "w")
    first = unit.step(batch, np.ones(len(batch))).metrics
    assert first["policy_loss"] == 0.0
    assert first["loss"] == pytest.approx(0.1 * first["value_loss"])
    for _ in range(5):
        last = unit.step(batch, np.ones(len(batch))).metrics
    assert last["value_loss"] < first["value_loss"]
    assert all(torch.isfinite(p).all() for p in unit.model.parameters())


def test_the_rate_falls_along_a_cosine_and_begins_anew():
    unit = learner(cosine_steps=4, learning_rate=0.1, warmup_steps=2)
    rates = [unit.step(BATCH, np.ones(len(BATCH))).metrics["learning_rate"] for _ in range(5)]
    # (1 + cos(pi t / 4)) / 2 for t = 0 .. 3, half of it in the first of two steps of warming up
    cosine = [(1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert rates == pytest.approx([0.05, 0.1 * cosine[1], 0.1 * cosine[2], 0.1 * cosine[3], 0.05])


def test_every_line_is_drawn_once_before_any_is_drawn_twice():
    drawn = [
        i
        for _, batch in zip(range(6), path_batches(9, 3, np.random.default_rng(0)), strict=False)
        for i in batch
    ]
    assert sorted(drawn[:9]) == sorted(drawn[9:]) == list(range(9))
    assert len(next(path_batches(2, 5, np.random.default_rng(0)))) == 2


@pytest.mark.parametrize(("name", "count"), [("trees", 0), ("right", -1), ("batch", 0)])
def test_counts_without_a_meaning_are_refused(name, count):
    with pytest.raises(ConfigError, match=f"paths.{name} must be at least"):
        PathSettings(**{name: count})
