import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.play.collect import collect
from llama_o1.play.expand import Expander, ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings
from tree.search import SearchSettings
from tree.targets import targets

TEACH = {"mode": "tree", "mix": 0.25, "discount": 1.0, "trace": 0.95}
THOUGHTS = ThoughtSettings(path_budget=61, max_text=12, max_answer=9, calculator=True, temperature=1.5)
METHOD = MethodSettings(budget_tokens=3000, tree=SearchSettings(simulations=80))


@pytest.fixture(scope="module")
def tree(codec, writer, grow):
    engine = FakeEngine(len(codec.tokenizer), 1024, policy=writer)
    engine.load(None, 5)
    return grow(
        ["What is 1+2?"], THOUGHTS, METHOD, engine, lambda text: Grade(text, float(not text or len(text) % 2))
    )[0]


@pytest.fixture(scope="module")
def experiences(tree):
    return collect(tree, problem="word-1", name="000003/0001", **TEACH)


def test_every_thought_below_the_root_becomes_one_experience(tree, experiences):
    assert [e.node for e in experiences] == [n.local_id for n in tree.nodes[1:]]
    assert [e.parent for e in experiences] == [tree.nodes[n.parent].local_id for n in tree.nodes[1:]]
    assert [e.action for e in experiences] == [str(n.action) for n in tree.nodes[1:]]
    assert {(e.problem, e.tree) for e in experiences} == {("word-1", "000003/0001")}


def test_context_and_ids_are_the_tokens_as_they_were_drawn(codec, tree, experiences):
    for node, experience in zip(tree.nodes[1:], experiences, strict=True):
        trail = trail_of(tree, node.index)
        assert (experience.context.dtype, experience.ids.dtype) == (np.int32, np.int32)
        assert tuple(experience.context) == trail_of(tree, node.parent).context
        assert (*experience.context, *experience.ids, *codec.rating(node.value)) == trail.context
        assert experience.ids[-1] == codec.special.start_of_rating


def test_log_probs_are_those_of_sampled_tokens_and_zero_where_forced(codec, writer, tree, experiences):
    engine = FakeEngine(len(codec.tokenizer), 1024, policy=writer)
    for experience in experiences[:5]:
        tokens = [*experience.context, *experience.ids]
        for t, (token, sampled) in enumerate(zip(experience.ids, experience.sampled, strict=True)):
            expected = 0.0
            if sampled:
                before = tokens[: len(experience.context) + t]
                expected = engine.distribution(before, THOUGHTS.temperature)[token]
            assert experience.logprobs[t] == pytest.approx(expected, abs=1e-5)
    assert all(np.isfinite(e.logprobs).all() and (e.logprobs <= 0).all() for e in experiences)


def test_forced_tokens_are_not_marked_as_sampled(codec, experiences):
    for experience in experiences:
        ids, sampled = experience.ids.tolist(), experience.sampled
        header = ids.index(codec.special.start_of_thought) + 1
        assert not sampled[:header].any()
        assert not sampled[-1]
        assert sampled[header:].any()


def test_version_temperature_value_and_outcome_are_on_record(tree, experiences):
    assert {(e.version, e.temperature) for e in experiences} == {(5, 1.5)}
    assert [e.value for e in experiences] == [n.value for n in tree.nodes[1:]]
    assert [e.outcome for e in experiences] == [n.outcome for n in tree.nodes[1:]]
    assert {e.outcome for e in experiences} == {None, 0.0, 1.0}


@pytest.mark.parametrize("mode", ["tree", "gae"])
def test_targets_are_those_of_the_tree(tree, mode):
    teach = {**TEACH, "mode": mode}
    taught = targets(tree, **teach)[1:]
    experiences = collect(tree, problem="p", name="t", **teach)
    assert [(e.value_target, e.advantage) for e in experiences] == [(t.value, t.advantage) for t in taught]
    assert all(0 <= e.value_target <= 1 for e in experiences)


def test_thoughts_without_an_advantage_are_left_out_when_asked(tree):
    teach = {**TEACH, "mode": "right"}
    kept = collect(tree, problem="p", name="t", **teach, skip_zero=True)
    everything = collect(tree, problem="p", name="t", **teach)
    led = [e.node for e in everything if e.advantage > 0]
    assert [e.node for e in kept] == led
    assert 0 < len(kept) < len(everything)
    assert all(0 < e.advantage <= 1 for e in kept)


def test_a_tree_without_thoughts_teaches_nothing(codec):
    assert collect(Expander(codec, THOUGHTS, 1024).tree("Why?", 0), problem="p", name="t", **TEACH) == []
