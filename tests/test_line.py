"""A line of plain text: what is thought, forced, dropped and answered, token by token."""

import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.fake_backend import FakeBackend
from llama_o1.engine.segmented import SegmentedEngine
from llama_o1.errors import ConfigError, ProblemError
from llama_o1.format.budget import BudgetPlan, budget_words
from llama_o1.format.line import LineSettings
from llama_o1.play.collect import collect
from llama_o1.play.expand import ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.line import LineWriter
from llama_o1.play.methods import WEIGHTINGS, MethodSettings
from llama_o1.play.pieces import tree_pieces
from llama_o1.play.segment import Ending
from tree.actions import MetaAction
from tree.vote import vote

LINE = MethodSettings(method="line", budget_tokens=400)


class Thinker:
    """A policy by rote: ` apples` until it has thought so long, then an end; in the answer ` 5}` at once."""

    def __init__(self, codec, thinks, line=None, ends=None):
        self.codec, self.thinks, self.line = codec, thinks, line or LineSettings()
        self.end = codec.encode_template(self.line.end) if ends is None else ends
        self.apple = codec.encode(" apples")[0]
        self.answer = codec.encode(" 5}")
        self.begun = codec.encode_template(self.line.answer)

    def __call__(self, tokens):
        tokens = list(tokens)
        logits = np.full(len(self.codec.tokenizer), -60.0)
        logits[self.next(tokens)] = 60.0
        return logits

    def next(self, tokens):
        for at in range(len(tokens) - len(self.begun), -1, -1):
            if tokens[at : at + len(self.begun)] == self.begun:
                written = len(tokens) - at - len(self.begun)
                return self.answer[min(written, len(self.answer) - 1)]
        drawn = next(k for k in range(len(self.end), -1, -1) if tokens[len(tokens) - k :] == self.end[:k])
        since = next((k for k, token in enumerate(reversed(tokens)) if token not in self.own), len(tokens))
        return self.end[drawn] if drawn or since >= self.thinks else self.apple

    @property
    def own(self):
        return {self.apple, *self.codec.special.remaining}


def grown(grow, codec, thinks, *, budget=40, marks=False, line=None, ends=None, engine=None, **settings):
    thoughts = ThoughtSettings(
        path_budget=budget, max_answer=6, show_budget=marks, line=line or LineSettings(), **settings
    )
    policy = Thinker(codec, thinks, thoughts.line, ends)
    engine = engine or FakeEngine(len(codec.tokenizer), 1024, policy=policy)
    (tree,) = grow(["What is 2+3?"], thoughts, LINE, engine)
    return tree


def own(tree, node):
    trail = trail_of(tree, node.index)
    return list(trail.context[trail.before :])


def flags(tree, node):
    return trail_of(tree, node.index).sample.sampled.tolist()


def test_thinking_stops_at_the_budget_and_the_answer_is_forced(grow, codec):
    tree = grown(grow, codec, thinks=1000, budget=40)
    _, thinking, answer = tree.nodes
    assert own(tree, thinking) == codec.encode(" apples") * 40
    assert codec.decode(own(tree, answer)) == "</think>\n**Final Answer**\\boxed{ 5}"
    assert answer.text == "**Final Answer**\\boxed{ 5}"
    assert (answer.action, answer.terminal, answer.answer) == (MetaAction.CONCLUDE, True, answer.text)
    assert tree.tokens_used == 40 + len(own(tree, answer))


def test_an_end_that_is_drawn_is_forced_anew_with_the_answer_and_counts_as_spent(grow, codec):
    end = codec.encode_template("</think>")
    tree = grown(grow, codec, thinks=7)
    _, thinking, answer = tree.nodes
    assert own(tree, thinking) == codec.encode(" apples") * 7
    assert trail_of(tree, thinking.index).spent == 7
    assert thinking.tokens == 7 + len(end) > 8
    assert own(tree, answer)[: len(end)] == end
    assert flags(tree, answer)[: len(end)] == [False] * len(end)


def test_an_end_may_be_one_special_token(grow, codec):
    line = LineSettings(end="<conclusion>")
    tree = grown(grow, codec, thinks=7, line=line)
    assert codec.decode(own(tree, tree.nodes[2])) == "<conclusion>\n**Final Answer**\\boxed{ 5}"
    assert tree.nodes[1].tokens == 8


def test_the_models_own_end_of_text_ends_the_thinking(grow, codec):
    tree = grown(grow, codec, thinks=7, ends=[codec.tokenizer.eos_token_id])
    assert len(own(tree, tree.nodes[1])) == 7
    assert codec.tokenizer.eos_token_id not in trail_of(tree, tree.nodes[2].index).context


def test_ends_are_not_taken_so_often_and_wait_is_appended(grow, codec):
    wait = codec.encode("\nWait")
    tree = grown(grow, codec, thinks=5, line=LineSettings(waits=2))
    first, second, third, answer = tree.nodes[1:]
    assert own(tree, first) == codec.encode(" apples") * 5
    for again in (second, third):
        assert own(tree, again) == wait + codec.encode(" apples") * 5
        assert flags(tree, again)[: len(wait) + 5] == [False] * len(wait) + [True] * 5
    assert answer.terminal
    assert trail_of(tree, third.index).spent == 15 + 2 * len(wait)


def test_the_least_thinking_is_reached_however_early_ends_are_drawn(grow, codec):
    wait = len(codec.encode("\nWait"))
    tree = grown(grow, codec, thinks=3, line=LineSettings(min_thinking=12))
    spent = [trail_of(tree, node.index).spent for node in tree.nodes[1:-1]]
    assert spent[0] == 3
    assert spent[-2] < 12 <= spent[-1] == spent[-2] + wait + 3


def test_one_limit_holds_over_all_continuations(grow, codec):
    tree = grown(grow, codec, thinks=9, budget=24, line=LineSettings(waits=20))
    assert trail_of(tree, tree.nodes[-1].index).spent <= 24
    assert tree.nodes[-1].terminal
    assert sum(len(own(tree, node)) for node in tree.nodes[1:-1]) <= 24


@pytest.mark.parametrize("budget", [24, 41, 64])
def test_control_tokens_stand_at_their_positions_over_all_continuations(grow, codec, budget):
    tree = grown(grow, codec, thinks=6, budget=budget, marks=True, line=LineSettings(waits=9))
    thinking = [token for node in tree.nodes[1:-1] for token in own(tree, node)]
    plan = BudgetPlan(budget, codec.special.remaining)
    marks = {t: token for t, token in enumerate(thinking, start=1) if token in codec.special.remaining}
    wanted = {t: plan.token_at(t) for t in range(1, len(thinking) + 1) if plan.token_at(t) is not None}
    assert marks == wanted
    assert len(wanted) > 3


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("thinks", [4, 1000])
def test_an_engine_that_works_in_segments_writes_the_same_line(grow, codec, thinks, streams):
    line = LineSettings(waits=1)
    policy = FakeEngine(len(codec.tokenizer), 1024, policy=Thinker(codec, thinks, line))
    engine = SegmentedEngine(
        FakeBackend(policy, streams=streams), vocab_size=len(codec.tokenizer), max_context=1024, slots=4
    )
    there = grown(grow, codec, thinks, marks=True, line=line, engine=engine)
    here = grown(grow, codec, thinks, marks=True, line=line)
    assert [own(there, node) for node in there.nodes] == [own(here, node) for node in here.nodes]


def test_an_answer_closes_the_braces_that_it_opened(codec):
    ending = Ending(codec, "}", "\\boxed{")
    assert ending.begins(codec.encode("\\frac{1}{2}")) is None
    ids = codec.encode("\\frac{1}{2}} and more")
    end = ending.begins(ids)
    assert codec.decode(ids[:end]) == "\\frac{1}{2}"


def test_the_prompt_tells_the_budget_and_names_the_marks_that_come(codec):
    shown = budget_words(BudgetPlan(64, codec.special.remaining), codec)
    marks = " ".join(f"<remaining>{i}/8</remaining>" for i in range(7, 0, -1))
    assert shown == (
        f"(Complete thinking within 64 tokens or fewer, 7 special tokens ( {marks} ) "
        "will split the thinking process into 8 parts.)"
    )
    assert budget_words(BudgetPlan(64, ()), codec) == "(Complete thinking within 64 tokens or fewer.)"


def test_a_special_token_named_in_a_question_stays_plain_text(codec):
    writer = LineWriter(codec, ThoughtSettings(line=LineSettings(prompt="<problem>{question}")), 1024)
    context = trail_of(writer.tree("Is <problem> odd?", 0), 0).context
    assert list(context).count(codec.special.tags[MetaAction.DIVIDE]) == 1
    assert codec.decode(context).startswith("<problem>Is <problem> odd?\n(Complete thinking")


def test_settings_that_write_no_line_are_refused(codec):
    with pytest.raises(ConfigError, match=r"min_thinking must be at most path_budget, 40, got 41"):
        ThoughtSettings(path_budget=40, line=LineSettings(min_thinking=41))
    with pytest.raises(ConfigError, match=r"prompt must hold \{question\} once"):
        LineSettings(prompt="Question:")
    with pytest.raises(ConfigError, match=r"thoughts.line.end must not be empty"):
        LineSettings(end="")
    line = LineSettings(wait="12345678901234567890")
    with pytest.raises(ConfigError, match=r"wait takes \d+ tokens, path_budget is 16"):
        LineWriter(codec, ThoughtSettings(path_budget=16, line=line), 1024)
    writer = LineWriter(codec, ThoughtSettings(path_budget=40), 90)
    with pytest.raises(ProblemError, match=r"the prompt takes \d+ tokens, .* the model holds 90"):
        writer.tree("What is 2+3?", 0)
    with pytest.raises(ConfigError, match=r"budget_tokens must be at least \d+, .* got 50"):
        writer.limits(50)


class Wavering(Thinker):
    """Thinks as long as its numbers say, then answers 5 more often than 6."""

    def __call__(self, tokens):
        logits = super().__call__(tokens)
        five, six = (self.codec.encode(f" {digit}}}")[0] for digit in "56")
        if logits[five] > 0:
            logits[six] = logits[five] - 0.6
        if logits[self.apple] > 0:
            logits[self.end[0]] = logits[self.apple] - 2.0
        return logits


def grown_lines(grow, codec, num_lines, budget_tokens):
    line = LineSettings(end="<conclusion>")  # one token, so that no control token falls into it
    thoughts = ThoughtSettings(path_budget=40, max_answer=6, line=line)
    engine = FakeEngine(len(codec.tokenizer), 1024, policy=Wavering(codec, 30, line))
    method = MethodSettings(
        method="line", num_lines=num_lines, budget_tokens=budget_tokens, stop_decided=False
    )
    judge = lambda text: Grade(text.partition("{")[2][1:2], float("5" in text))  # noqa: E731
    return grow(["What is 2+3?", "What is 3+2?"], thoughts, method, engine, judge)


@pytest.mark.parametrize("budget", [120, 300, 2000])
def test_several_lines_vote_within_the_budget_of_all(grow, codec, budget):
    for tree in grown_lines(grow, codec, 9, budget):
        answers = [node for node in tree.nodes if node.terminal]
        lines = sum(node.count for node in answers)
        assert tree.tokens_used <= budget
        assert 1 <= lines <= 9
        assert (lines == 9) == (budget > 120)
        votes = {digit: sum(node.count for node in answers if node.answer == digit) for digit in "56"}
        assert vote(tree, WEIGHTINGS["line"]).weights == {d: n for d, n in votes.items() if n}


def test_a_line_is_one_unless_more_are_asked_for(grow, codec):
    for tree in grown_lines(grow, codec, None, 2000):
        assert [node.count for node in tree.nodes if node.terminal] == [1]


def test_lines_teach_what_was_drawn_their_end_too_and_nothing_that_was_forced(grow, codec):
    special, end = codec.special, codec.encode_template("<conclusion>")
    answer = codec.encode_template("<conclusion>\n**Final Answer**\\boxed{")
    (tree, _) = grown_lines(grow, codec, 6, 2000)
    taught = collect(
        tree, problem="p", name="t", mode="siblings", mix=0.0, discount=1.0, trace=1.0, rewards=None
    )
    assert {e.action for e in taught} == {"expand", "conclude"}
    for e in taught:
        ids, sampled = e.ids.tolist(), e.sampled.tolist()
        if e.action == "conclude":
            assert ids[: len(answer)] == answer
            assert sampled == [False] * len(answer) + [True] * (len(ids) - len(answer))
            continue
        assert sampled == [token not in special.remaining for token in ids]
        own = [token for token in ids if token not in special.remaining]
        assert own[-len(end) :] == end  # all stop before they are cut, at 30 of 40 tokens
        assert sampled.count(False) >= 1 or len(ids) < 10
    parents = {e.node: e for e in taught if e.action == "expand"}
    for e in taught:
        if e.action == "conclude":
            thinking = parents[e.parent]
            kept = len(e.context) - len(thinking.context)
            assert e.context[len(thinking.context) :].tolist() == thinking.ids[:kept].tolist()


def test_the_pieces_of_a_line_are_its_context(grow, codec):
    (tree, _) = grown_lines(grow, codec, 2, 2000)
    for node, made in zip(tree.nodes, tree_pieces(tree, codec), strict=True):
        assert "".join(piece.text for piece in made) == codec.decode(own(tree, node))
