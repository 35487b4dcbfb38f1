import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import special_ids
from llama_o1.learn.nano import nano_tokenizer
from llama_o1.play.drive import Job, drive
from llama_o1.play.expand import Expander, ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings, action_draw, start
from tree.actions import MetaAction, Transitions
from tree.search import SearchSettings

MARKS = (7, 6, 5, 4, 3, 2, 1)  # ids for a plan by hand: 7/8 first
FAMILIES = (
    MarkSettings(),
    MarkSettings(size=3),
    MarkSettings("every", 5, longest=200),
    MarkSettings("every", 8, longest=200),
)


def thinking(codec, tree, index):
    """Ids and sampled flags of the text below the root that is not a conclusion's: what a budget counts."""
    counted = []
    for i in tree.path(index)[1:]:
        node, sample = tree.nodes[i], trail_of(tree, i).sample
        if node.action is MetaAction.CONCLUDE:
            continue
        ids, flags = sample.ids.tolist(), sample.sampled.tolist()
        start = ids.index(codec.special.start_of_thought) + 1
        text = list(zip(ids, flags, strict=True))[start:-1]  # the last one is <start_of_rating>
        first = next(k for k, (token, _) in enumerate(text) if token not in codec.special.remaining)
        if first < 2 and text[first][0] in codec.tag_ids:
            del text[first]
        counted += text
    return counted


@given(st.integers(16, 200), st.integers(1, 300), st.sampled_from(FAMILIES), st.booleans())
def test_positions_up_to_the_next_mark_are_free(total, position, marks, shown):
    plan = BudgetPlan(total, tuple(range(300, 0, -1))[-len(marks.names()) :] if shown else (), marks)
    free = plan.free_from(position)
    there = [at for at in range(position, 300 + total) if plan.token_at(at) is not None]
    assert free == (there[0] - position if there else None)


@pytest.fixture
def long_winded(codec, writer):
    """An engine whose thoughts seldom end, and seldom conclude, before they must."""

    def policy(tokens):
        logits = writer(tokens)
        logits[[codec.special.end_of_thought, codec.special.tags[MetaAction.CONCLUDE]]] = -1.0
        return logits

    return FakeEngine(len(codec.tokenizer), 1024, policy=policy)


def test_control_tokens_stand_at_multiples_of_an_eighth():
    plan = BudgetPlan(64, MARKS)
    assert {t: plan.token_at(t) for t in range(1, 100) if plan.token_at(t)} == {
        8: 7, 16: 6, 24: 5, 32: 4, 40: 3, 48: 2, 56: 1,
    }  # fmt: skip


def test_the_parts_of_an_odd_budget_are_rounded_down():
    plan = BudgetPlan(31, MARKS)  # 31 / 8 = 3.875
    assert [t for t in range(1, 100) if plan.token_at(t)] == [3, 6, 9, 12, 15, 18, 21]


def test_a_budget_of_fewer_than_two_tokens_a_part_is_refused():
    BudgetPlan(16, MARKS)
    with pytest.raises(ConfigError, match=r"path_budget must be at least 16, got 15"):
        BudgetPlan(15, MARKS)


def test_any_number_of_parts_has_marks_at_its_multiples():
    plan = BudgetPlan(26, (30, 20, 10), MarkSettings(size=4))  # 26 // 4 = 6
    assert {t: plan.token_at(t) for t in range(1, 40) if plan.token_at(t)} == {6: 30, 12: 20, 18: 10}


@pytest.mark.parametrize(
    ("total", "found"),
    [
        (200, {50: 150, 100: 100, 150: 50}),
        (199, {50: 100, 100: 50}),  # 149, 99 and 49 remain
        (170, {50: 100, 100: 50}),  # 120, 70 and 20 remain
        (100, {50: 50}),
    ],
)
def test_a_mark_after_every_so_many_tokens_promises_no_more_than_remains(total, found):
    plan = BudgetPlan(total, (250, 200, 150, 100, 50), MarkSettings("every", 50))
    assert {t: plan.token_at(t) for t in range(1, 400) if plan.token_at(t)} == found


def test_a_budget_beyond_the_tokens_of_the_vocabulary_is_refused_with_what_to_add():
    marks = MarkSettings("every", 50)
    BudgetPlan(349, (250, 200, 150, 100, 50), marks)
    with pytest.raises(ConfigError, match=r"<remaining>300</remaining>.*up to <remaining>250.*longest 350"):
        BudgetPlan(350, (250, 200, 150, 100, 50), marks)


@pytest.mark.parametrize("wrong", [{"size": 1}, {"mode": "every", "size": 50, "longest": 99}])
def test_a_family_without_tokens_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"marks\.(size|longest) must be at least .*, got (1|99)"):
        MarkSettings(**wrong)


def test_without_marks_no_budget_is_shown():
    assert all(BudgetPlan(64, ()).token_at(t) is None for t in range(1, 100))


@given(st.integers(16, 80), st.integers(1, 80), st.lists(st.integers(100, 110), max_size=40).map(tuple))
def test_weaving_keeps_every_id_and_puts_every_mark_at_its_position(total, position, ids):
    plan = BudgetPlan(total, MARKS)
    woven = plan.weave(ids, position)
    assert tuple(i for i in woven if i >= 100) == ids
    assert all((i if i < 100 else None) == plan.token_at(position + k) for k, i in enumerate(woven))


@pytest.mark.parametrize("calculator", [False, True])
@pytest.mark.parametrize("actions", ["model", "uniform"])
@pytest.mark.parametrize("total", [16, 61, 64, 95])
def test_on_every_path_a_mark_stands_exactly_at_its_position(
    codec, grow, long_winded, total, actions, calculator
):
    thoughts = ThoughtSettings(path_budget=total, max_text=17, max_answer=9, calculator=calculator)
    method = MethodSettings(
        budget_tokens=3000, actions=actions, tree=SearchSettings(simulations=60, max_children=2, follow=0)
    )
    seen = set()
    for tree in grow(["What is 1+2?", "Is it 3?"], thoughts, method, long_winded):
        for node in tree.nodes[1:]:
            counted = thinking(codec, tree, node.index)
            assert len(counted) <= total
            for part in range(1, 8):
                at = part * (total // 8) - 1
                if at < len(counted):
                    assert counted[at] == (codec.special.remaining[part - 1], False)
                    seen.add(part)
            for position, (token, drawn) in enumerate(counted, start=1):
                assert drawn or token not in codec.special.remaining or position % (total // 8) == 0
    assert seen >= (set(range(1, 8)) if actions == "model" else {1, 2, 3})


@pytest.mark.parametrize("total", [16, 33])
def test_only_a_conclusion_is_left_when_a_path_has_spent_its_budget(codec, grow, total):
    thoughts = ThoughtSettings(path_budget=total, max_text=12, max_answer=9)
    (tree,) = grow(
        ["What is 1+2?"], thoughts, MethodSettings(method="value_vote", num_lines=40, budget_tokens=9000)
    )
    spent = [node for node in tree.nodes if not node.terminal and node.thinking_left == 0]
    assert spent
    for node in tree.nodes[1:]:
        if node.action is not MetaAction.CONCLUDE:
            left = total - len(thinking(codec, tree, node.index))
            assert node.thinking_left == (left if left >= 2 else 0)
        if tree.nodes[node.parent].thinking_left == 0:
            assert node.action is MetaAction.CONCLUDE


@pytest.mark.parametrize("marks", FAMILIES[1:], ids=str)
def test_a_tree_shows_the_marks_of_any_family_that_its_vocabulary_holds(marks):
    tokenizer = nano_tokenizer(["What is 1+2?", "apples"], marks)
    codec = Codec(tokenizer, special_ids(tokenizer, "m", marks))
    assert [codec.decode([i]) for i in codec.special.remaining] == list(marks.names())
    logits = np.full(len(tokenizer), -6.0)
    logits[codec.encode(" apples")] = 2.0
    logits[codec.special.end_of_thought] = 0.5
    logits[list(codec.special.remaining)] = -60.0
    engine = FakeEngine(len(tokenizer), 1024, policy=lambda _: logits)
    expander = Expander(codec, ThoughtSettings(path_budget=43, max_text=13, max_answer=5, marks=marks), 1024)
    tree = expander.tree("What is 1+2?", 0)
    method = MethodSettings(budget_tokens=2000)
    search = start(tree, method, expander.limits(2000), action_draw(method, Transitions()))
    list(drive(engine, [Job("0", tree, search, expander, lambda text: Grade(None, None))]))
    plan, seen = BudgetPlan(43, codec.special.remaining, marks), set()
    for node in tree.nodes[1:]:
        for position, (token, drawn) in enumerate(thinking(codec, tree, node.index), start=1):
            wanted = plan.token_at(position)
            assert (token, drawn) == (wanted, False) if wanted is not None else token not in plan.remaining
            seen.add(wanted)
    assert len(seen) > 2


def test_a_conclusion_shows_no_mark_of_its_own(codec, grow):
    (tree,) = grow(["What is 1+2?"], ThoughtSettings(path_budget=16, max_text=9, max_answer=12))
    forced = [
        trail_of(tree, node.index).sample
        for node in tree.terminals()
        if tree.nodes[node.parent].thinking_left == 0
    ]
    assert forced
    for sample in forced:
        assert not set(sample.ids[~sample.sampled].tolist()) & set(codec.special.remaining)
