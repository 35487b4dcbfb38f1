"""Solutions of a tree are compared in pairs and ranked: what is asked, what a rank is, what it decides."""

import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError
from llama_o1.format.compare import comparison
from llama_o1.format.line import LineSettings
from llama_o1.play.expand import Expander, ThoughtSettings
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings
from llama_o1.play.pairwise import Comparing
from tree.actions import MetaAction
from tree.interleave import nothing
from tree.node import Ask, Failed, Told, Tree
from tree.pairwise import ranked, solution, written_from
from tree.record import from_row, to_row
from tree.search import SearchSettings
from tree.vote import vote

CONCLUDE, CRITIC, REFINE, EXPAND = (MetaAction(k) for k in ("conclude", "critic", "refine", "expand"))
QUESTIONS = ("2 + 3?", "How many pens are left?", "7 * 8?")


def a_tree(*thoughts):
    """A tree of (parent index, action, text, value) in order."""
    tree = Tree.of("2 + 3?", seed=0, thinking_left=100)
    for i, (parent, action, text, value) in enumerate(thoughts, start=1):
        answer = text if action is CONCLUDE else None
        told = Told(action, text, -1.0, value, 1, 100, answer=answer)
        tree.add(Ask(parent, action, i, 9, seed=i), told)
    return tree


def judged(tree, better, most=16):
    """Let `better(first, second)` answer what `ranked` asks of texts; the pairs in the order asked."""
    search, asked = ranked(nothing(), tree, most), []
    asks = list(next(search, ()))
    while asks:
        ask = asks.pop()  # the last first: order must not matter
        pair = tree.nodes[ask.parent].text, tree.nodes[ask.against].text
        asked.append(pair)
        told = better(*pair)
        told = told if told is None else Told(CRITIC, "", 0.0, told, 0, 0)
        try:
            asks += search.send((ask.local_id, told))
        except StopIteration:
            break
    return sorted(asked)


def test_every_pair_is_asked_in_both_orders_and_the_best_is_the_answer():
    tree = a_tree((0, CONCLUDE, "a", 0.9), (0, CONCLUDE, "b", 0.5), (0, CONCLUDE, "c", 0.1))
    worth = {"a": 1, "b": 3, "c": 2}
    asked = judged(tree, lambda first, second: 0.8 if worth[first] > worth[second] else 0.3)
    assert asked == [(i, j) for i in "abc" for j in "abc" if i != j]
    # b beats both, c beats a. Ranks 3, 1, 2 of three: values 0, 1, 1/2.
    assert [node.preference for node in tree.nodes] == [None, 0.0, 1.0, 0.5]
    chosen = vote(tree, "pairwise")
    assert (chosen.answer, chosen.leaf, chosen.weights) == ("b", 2, {"b": 1.0, "c": 0.5, "a": 0.0})
    assert chosen.confidence == pytest.approx(1 / 1.5)
    assert vote(tree).answer == "a"


def test_a_liking_for_the_first_place_cancels_out():
    tree = a_tree((0, CONCLUDE, "a", 0.5), (0, CONCLUDE, "b", 0.5))
    judged(tree, lambda first, second: 0.9)  # whichever stands first
    assert [node.preference for node in tree.nodes[1:]] == [0.5, 0.5]


def test_a_comparison_that_failed_says_nothing():
    tree = a_tree((0, CONCLUDE, "a", 0.5), (0, CONCLUDE, "b", 0.5))
    judged(tree, lambda first, second: None if first == "a" else 0.8)  # P(b) = (0.8 + 1 - 0.5) / 2 = 0.65
    assert [node.preference for node in tree.nodes[1:]] == [0.0, 1.0]
    assert not tree.events


def test_only_the_most_valuable_solutions_are_compared_and_equal_ones_once():
    tree = a_tree(
        (0, EXPAND, "x", 0.5),
        (0, EXPAND, "y", 0.5),
        (1, CONCLUDE, "a", 0.3),
        (2, CONCLUDE, "b", 0.2),
        (1, CONCLUDE, "c", 0.9),
    )
    assert judged(tree, lambda first, second: 0.5, most=2) == [("a", "c"), ("c", "a")]
    assert [node.preference for node in tree.nodes[3:]] == [0.5, None, 0.5]
    same = a_tree((0, CONCLUDE, "a", 0.3), (1, CRITIC, "no", 0.5), (2, CONCLUDE, "a", 0.3))
    assert judged(same, lambda first, second: 0.5) == []
    assert [node.preference for node in same.nodes] == [None, 1.0, None, 1.0]


def rewritten():
    return a_tree(
        (0, EXPAND, "s", 0.5),
        (1, CONCLUDE, "a", 0.5),
        (2, CRITIC, "no", 0.5),
        (3, REFINE, "t", 0.5),
        (4, CONCLUDE, "b", 0.5),
        (0, CONCLUDE, "c", 0.5),
    )


def test_a_rewritten_solution_begins_after_the_criticism_and_knows_what_it_was_written_from():
    tree = rewritten()
    assert [step.text for step in solution(tree, tree.nodes[2])] == ["s", "a"]
    assert [step.text for step in solution(tree, tree.nodes[5])] == ["t", "b"]
    assert written_from(tree, tree.nodes[5]) is tree.nodes[2]
    assert written_from(tree, tree.nodes[2]) is None


def test_a_solution_that_beats_its_own_rewriting_has_a_local_value():
    tree = rewritten()
    worth = {"a": 2, "b": 1, "c": 3}
    judged(tree, lambda first, second: 0.9 if worth[first] > worth[second] else 0.1)
    # c, a, b. a: 0.9 * 1/2 + 0.1 * 1, for it beats b; b and c have no rewriting of their own
    assert [tree.nodes[i].preference for i in (2, 5, 6)] == [pytest.approx(0.55), 0.0, 1.0]


def test_a_preference_is_kept_in_the_row_of_a_tree():
    tree = a_tree((0, CONCLUDE, "a", 0.5), (0, CONCLUDE, "b", 0.5))
    judged(tree, lambda first, second: 0.9 if first == "b" else 0.1)
    row = to_row(tree.nodes, problem="2 + 3?", answer="b", confidence=1.0, tokens_used=2)
    assert "preference" not in row["nodes"][0]
    nodes, rest = from_row(row)
    assert [node.preference for node in nodes] == [None, 0.0, 1.0]
    assert to_row(nodes, **rest) == row
    row["nodes"][1]["preference"] = 1.5
    with pytest.raises(ValueError, match="preference must be a number of at least 0 and at most 1"):
        from_row(row)


def test_a_comparison_is_the_problem_both_solutions_and_a_critic_that_asks(codec):
    ids = comparison(codec, QUESTIONS[0], "2+3=5\n\\boxed{5}", "<remaining>7/8</remaining>6", 512)
    assert codec.decode(ids) == (
        "<start_of_father_id>-1<end_of_father_id><start_of_local_id>0<end_of_local_id>"
        "<start_of_thought><problem>2 + 3?<end_of_thought>"
        "<start_of_father_id>0<end_of_father_id><start_of_local_id>1<end_of_local_id><start_of_thought>"
        "2+3=5\n\\boxed{5}<end_of_thought><start_of_rating><unknown_rating><end_of_rating>"
        "<start_of_father_id>0<end_of_father_id><start_of_local_id>2<end_of_local_id><start_of_thought>"
        "6<end_of_thought><start_of_rating><unknown_rating><end_of_rating>"
        "<start_of_father_id>0<end_of_father_id><start_of_local_id>3<end_of_local_id>"
        "<start_of_thought><critic>Is 1 better than 2?<end_of_thought><start_of_rating>"
    )


def test_a_comparison_that_is_too_long_keeps_the_ends_of_both_solutions(codec):
    first, second = " ".join(["1"] * 300) + " first", " ".join(["2"] * 20) + " second"
    whole = len(comparison(codec, "Q", "", "", 4096))
    ids = comparison(codec, "Q", first, second, whole + 100)
    assert len(ids) == whole + 100  # all of the shorter one, the end of the longer
    assert second in codec.decode(ids)
    assert "1 first" in codec.decode(ids)
    both = comparison(codec, "Q", first, first, whole + 100)
    assert len(both) == whole + 100
    assert codec.decode(both).count("1 first") == 2


BERRY = MethodSettings(
    method="refine",
    answer="pairwise",
    budget_tokens=1200,
    compared=4,
    tree=SearchSettings(simulations=24, max_children=2),
)
THOUGHTS = ThoughtSettings(path_budget=96, max_text=12, max_answer=8)


def declared(text):
    return Grade(text[:1] or None, None)


def test_comparisons_are_asked_of_the_engine_and_cost_no_token_of_the_budget(grow, codec, writer):
    plain = MethodSettings(method="refine", budget_tokens=1200, tree=BERRY.tree)
    compared = grow(QUESTIONS, THOUGHTS, BERRY, judge=declared)
    for tree, before in zip(compared, grow(QUESTIONS, THOUGHTS, plain, judge=declared), strict=True):
        texts = [node.text for node in tree.nodes]
        assert texts[: len(before.nodes)] == [node.text for node in before.nodes]
        assert tree.tokens_used <= BERRY.budget_tokens
        answers = [node for node in tree.nodes if node.answer is not None]
        ranked = [node for node in answers if node.preference is not None]
        assert ranked
        solutions = {tuple(step.text for step in solution(tree, node)) for node in answers}
        told = {tuple(step.text for step in solution(tree, node)) for node in ranked}
        assert len(told) == min(4, len(solutions))
        best = max(ranked, key=lambda node: node.preference)
        assert vote(tree, "pairwise").answer in {
            node.answer for node in ranked if node.preference == best.preference
        }
    scrambled = FakeEngine(len(codec.tokenizer), 1024, policy=writer, scramble_seed=3)
    again = grow(QUESTIONS, THOUGHTS, BERRY, engine=scrambled, judge=declared)
    for tree, other in zip(compared, again, strict=True):
        assert [n.preference for n in tree.nodes] == [n.preference for n in other.nodes]


def test_a_comparison_is_read_from_the_rating_tokens_after_its_context(grow, codec):
    """A policy that likes the solution with more commas."""
    comma = codec.encode(",")[0]

    def policy(tokens):
        logits = np.full(len(codec.tokenizer), -9.0)
        ends = [i for i, t in enumerate(tokens) if t == codec.special.unknown]
        if len(ends) == 2:  # a comparison
            first, second = tokens[: ends[0]], tokens[ends[0] : ends[1]]
            logits[codec.special.positive] = float(first.count(comma) - second.count(comma))
            logits[codec.special.negative] = 0.0
        return logits

    engine = FakeEngine(len(codec.tokenizer), 1024, policy=policy)
    writer = Comparing(Expander(codec, THOUGHTS, 1024))
    tree = a_tree((0, CONCLUDE, "1", 0.5), (0, CONCLUDE, "1,1", 0.5))
    ask = Ask(1, CRITIC, -1, 0, 7, against=2)
    engine.submit("x", writer.request(tree, ask))
    [(_, reply)] = engine.poll()
    told = writer.told(tree, ask, reply, lambda text: Grade(None, None))
    # no comma against one: P = 1 / (1 + e), and no token was spent
    assert (told.value, told.tokens) == (pytest.approx(1 / (1 + np.e)), 0)


def test_lines_of_plain_text_have_no_ratings_to_compare_by(grow):
    thoughts = ThoughtSettings(path_budget=48, line=LineSettings())
    with pytest.raises(ConfigError, match="choose another answer, or another method than line"):
        grow(QUESTIONS, thoughts, MethodSettings(method="line", answer="pairwise"))


def test_a_failed_reply_is_no_comparison():
    tree = a_tree((0, CONCLUDE, "a", 0.5), (0, CONCLUDE, "b", 0.5))
    search = ranked(nothing(), tree, 2)
    for ask in next(search):
        try:
            search.send((ask.local_id, Failed(0, "gone")))
        except StopIteration:
            break
    assert [node.preference for node in tree.nodes[1:]] == [0.5, 0.5]
