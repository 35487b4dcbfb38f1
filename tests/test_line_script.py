"""Solutions written as lines of plain text: the very tokens that `--search.method line` would hold."""

from itertools import islice

import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.line import LineSettings
from llama_o1.format.thoughts import Rating, Thought
from llama_o1.learn.model import Loaded
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.lines import written_lines
from llama_o1.play.expand import ThoughtSettings, trail_of
from llama_o1.play.line_script import LineScripts
from llama_o1.play.methods import MethodSettings
from llama_o1.play.program import Calculator
from llama_o1.play.script import fitting
from llama_o1.play.segment import Ending
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import ProblemSet
from llama_o1.tasks.traces import Traced
from tree.actions import MetaAction

SOLUTION = [
    Traced(Thought(-1, 0, MetaAction.PROBLEM, "What is 48/2?"), False),
    Traced(Thought(0, 1, MetaAction.EXPAND, "<<48*2=96>>", Rating.NEGATIVE), False),
    Traced(Thought(1, 2, MetaAction.CRITIC, "48*2 is wrong: 48/2", Rating.POSITIVE), True),
    Traced(Thought(2, 3, MetaAction.REFINE, "<<48/2=24>> clips", Rating.POSITIVE), True),
    Traced(Thought(3, 4, MetaAction.CONCLUDE, "\\boxed{24}", Rating.POSITIVE), True),
]
LINES = {
    "think": LineSettings(),
    "im_start": LineSettings(
        prompt="user {question}\n", begin="<|im_start|>think\n", end="<|im_start|>answer",
        answer="\nFinal Answer: ", answer_end="\n",
    ),
    "thoughts": LineSettings(begin="<start_of_thought>", end="<end_of_thought>", tell_budget=False),
}  # fmt: skip


def plan_of(codec, budget, shown=True):
    return BudgetPlan(budget, codec.special.remaining if shown else ())


def playing(codec, draws):
    """An engine that draws these tokens one after another, whatever is forced between them."""
    left, drawn = iter(draws), {}

    def policy(tokens):
        key = tuple(tokens)
        if key not in drawn:
            drawn[key] = next(left, 0)
        logits = np.full(len(codec.tokenizer), -60.0)
        logits[drawn[key]] = 60.0
        return logits

    return FakeEngine(len(codec.tokenizer), 1024, policy=policy)


@pytest.mark.parametrize("budget", [72, 75, 80, 101])
@pytest.mark.parametrize("name", LINES)
def test_a_line_to_learn_has_the_tokens_that_a_search_of_the_method_line_holds(codec, grow, name, budget):
    line = LINES[name]
    written = LineScripts(codec, line)(SOLUTION, plan_of(codec, budget))
    thoughts = ThoughtSettings(path_budget=budget, max_answer=12, line=line)
    texts = [f"{thought.text}\n" for thought, *_ in SOLUTION[1:-1]]
    draws = [*(i for text in texts for i in codec.encode(text)), *codec.encode_template(line.end)]
    draws += [*codec.encode("24"), *codec.encode_template(line.answer_end)]
    engine = playing(codec, draws)
    (tree,) = grow(["What is 48/2?"], thoughts, MethodSettings(method="line", budget_tokens=400), engine)
    assert list(trail_of(tree, 2).context) == written.ids
    assert written.thinking == tree.nodes[1].tokens


@pytest.mark.parametrize("budget", [40, 43, 64])
def test_control_tokens_stand_between_the_parts_of_the_budget(codec, budget):
    written = LineScripts(codec, LineSettings())(SOLUTION, plan_of(codec, budget))
    begin = codec.encode_template("<think>\n")
    at = next(i for i in range(len(written.ids)) if written.ids[i : i + len(begin)] == begin) + len(begin)
    thinking = written.ids[at:]
    marks = {t: token for t, token in enumerate(thinking, start=1) if token in codec.special.remaining}
    part = budget // 8
    kept = len(codec.encode("<<48*2=96>>\n48*2 is wrong: 48/2\n<<48/2=24>> clips\n"))
    parts = (kept + len(marks)) // part
    assert marks == {part * k: codec.special.remaining[k - 1] for k in range(1, min(parts, 7) + 1)}
    assert len(marks) >= 4


def test_learned_are_the_thinking_its_end_and_the_answer_and_nothing_that_is_forced(codec):
    written = LineScripts(codec, LineSettings())(SOLUTION, plan_of(codec, 64))
    learned = codec.decode([i for i, learn in zip(written.ids, written.learn, strict=True) if learn])
    assert learned == "48*2 is wrong: 48/2\n<<48/2=24>> clips\n</think>24}"
    assert codec.decode(written.ids).endswith("clips\n</think>\n**Final Answer**\\boxed{24}")
    marks = [
        learn for i, learn in zip(written.ids, written.learn, strict=True) if i in codec.special.remaining
    ]
    assert marks
    assert not any(marks)


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("step", [1, 7, 16, 50])
def test_a_lines_own_budget_is_the_least_multiple_that_holds_thinking_and_its_end(codec, step, shown):
    write, remaining = LineScripts(codec, LineSettings()), codec.special.remaining if shown else ()
    budgets = []

    def recorded(plan):
        budgets.append(plan.total)
        return write(SOLUTION, plan)

    written = fitting(recorded, step, remaining, plan_of(codec, 64).marks)
    budget = budgets[-1]
    assert budget % step == 0
    assert written.thinking <= budget
    less = budget - step
    assert less < 16 or write(SOLUTION, BudgetPlan(less, remaining)).thinking > less
    assert f"within {budget} tokens" in codec.decode(written.ids)


def test_a_control_token_may_fall_into_an_end_of_several_tokens(codec):
    end = codec.encode_template("</think>")
    assert len(end) > 2
    mark = codec.special.remaining[0]
    ids = [*codec.encode(" apples"), mark, *end[:2], mark, *end[2:]]
    assert Ending(codec, "</think>").begins(ids) == len(codec.encode(" apples")) + 1
    assert Ending(codec, "</think>").begins(ids[:-1]) is None


def test_a_delimiter_that_stands_in_a_solution_is_refused(codec):
    with pytest.raises(ConfigError, match=r"line.end is '>>', which also stands in a solution"):
        LineScripts(codec, LineSettings(end=">>"))(SOLUTION, plan_of(codec, 64))


def lines_of(codec, count=40, **settings):
    loaded = Loaded(None, codec.tokenizer, codec.special, 0)
    config = SftConfig(form="line", problems=(ProblemSet("word", max_steps=3),), **settings)
    return list(islice(written_lines(config, loaded), count))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_control_tokens_count_in_the_loss_by_their_weight_and_only_in_the_thinking(codec, weight):
    marks = set(codec.special.remaining)
    begin = codec.encode_template("<think>\n")
    for ids, weights, _ in lines_of(
        codec, budget_step=16, sft=ColdstartSettings(special_token_weight=weight)
    ):
        at = next(i for i in range(len(ids)) if ids[i : i + len(begin)] == begin)
        prompt = [w for i, w in zip(ids[:at], weights, strict=False) if i in marks]
        thinking = [w for i, w in zip(ids[at:], weights[at:], strict=True) if i in marks]
        assert len(prompt) == 7
        assert set(prompt) == {0.0}
        assert set(thinking) <= {weight}
        assert thinking


def test_without_control_tokens_the_budget_is_told_in_words_only(codec):
    for ids, *_ in lines_of(codec, budget_step=16, show_budget=False):
        assert not set(codec.special.remaining) & set(ids)
        assert "(Complete thinking within " in codec.decode(ids)


def test_lines_that_hold_wrong_answers_are_not_written_as_text_and_each_holds_its_budget(codec):
    lines = lines_of(codec, count=60, budgets=(32, 64))
    for ids, weights, _ in lines:
        text = codec.decode(ids)
        assert text.endswith("}")
        assert weights[-1] == 1.0
        assert "within 32 tokens" in text or "within 64 tokens" in text


def test_budgets_that_hold_no_line_are_refused(codec):
    with pytest.raises(ConfigError, match=r"budgets are 16, the last 1000 lines take more"):
        lines_of(codec, budgets=(16,))


@pytest.mark.parametrize("budget", [72, 75, 80, 101])
def test_a_calculator_writes_results_in_a_line_and_they_are_not_learned(codec, grow, budget):
    line, calculator = LINES["thoughts"], Calculator(codec)
    imitated = [traced._replace(imitate=True) for traced in SOLUTION]
    written = LineScripts(codec, line, calculator)(imitated, plan_of(codec, budget))
    drawn = [token for token, learn in zip(written.ids, written.learn, strict=True) if learn]
    thoughts = ThoughtSettings(path_budget=budget, max_answer=12, line=line, calculator=True)
    method = MethodSettings(method="line", budget_tokens=400)
    (tree,) = grow(["What is 48/2?"], thoughts, method, playing(codec, drawn))
    assert list(trail_of(tree, 2).context) == written.ids
    thinking = trail_of(tree, 1).sample
    forced = [i for i in thinking.ids[~thinking.sampled] if i not in codec.special.remaining]
    assert codec.decode(forced) == "96>>24>>"
    plain = LineScripts(codec, line)(imitated, plan_of(codec, budget))
    assert plain.ids == written.ids
    assert sum(plain.learn) == sum(written.learn) + len(forced)


def test_solutions_told_at_many_paces_fill_budgets_of_many_sizes(codec, tiny_tokenizer):
    config = SftConfig(
        form="line",
        telling="paces",
        line=LINES["thoughts"],
        problems=(ProblemSet("word", max_steps=2),),
        budget_step=16,
    )
    loaded = Loaded(None, tiny_tokenizer, codec.special, 0)
    budgets = set()
    for ids, *_ in islice(written_lines(config, loaded), 60):
        marks = [i for i in ids if i in codec.special.remaining]
        assert marks == list(codec.special.remaining)[: len(marks)]
        budgets.add(len(ids) // 32)
    assert len(budgets) >= 4
