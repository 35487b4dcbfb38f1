"""A model is taught to compare: the loss by hand, which pairs are read, that it learns and keeps the rest."""

import json
import math
import random

import pytest
import torch
from small_run import QUESTION, write_run

from llama_o1.cli import main
from llama_o1.errors import ConfigError, RecordError, RunError
from llama_o1.format.encode import Codec
from llama_o1.learn.model import load_model
from llama_o1.learn.prefer import Asked, Stood, answered, learn_preferences, preference_loss
from llama_o1.learn.prefer_settings import PreferenceSettings
from llama_o1.learn.settings import LoraSettings
from llama_o1.prefer.lesson import Lesson, prefer
from llama_o1.prefer.pairs import Pair, read_pairs
from llama_o1.prefer.settings import PreferConfig


def test_the_loss_is_minus_log_sigmoid_of_beta_times_how_much_the_margin_rose():
    margins, before = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    # beta 0.4: sigmoid(0.4 * 1.5) and sigmoid(0.4 * -1)
    by_hand = (math.log(1 + math.exp(-0.6)) + math.log(1 + math.exp(0.4))) / 2
    assert float(preference_loss(margins, before, 0.4)) == pytest.approx(by_hand)


class Scorer(torch.nn.Module):
    """Says that the first is better by `first` and by the `worth` of the first token it reads."""

    def __init__(self, first: float, worth: dict[int, float]) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.first, self.worth = first, worth

    def forward(self, input_ids, use_cache):
        logits = torch.zeros(*input_ids.shape, 9)
        for row, ids in enumerate(input_ids.tolist()):
            logits[row, :, 7] = self.first + self.worth[ids[0]]
        return type("Output", (), {"logits": logits})


def test_a_liking_for_a_place_is_no_preference():
    pair = [Asked([1, 2], [2, 1, 3])]
    how = {"ratings": (7, 8), "pad_id": 0, "batch_pairs": 1}
    # liked for its place alone: sigmoid(2) and sigmoid(-2) have the mean 1/2; the orders are answered unlike
    stood = answered(Scorer(2.0, {1: 0.0, 2: 0.0}), pair, **how)
    assert stood[:2] == (0.5, 0.0)
    assert stood.loss == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)
    # worth 1 more when the better comes first, 1 less when the worse does: right both ways
    assert answered(Scorer(0.0, {1: 1.0, 2: -1.0}), pair, **how)[:2] == (1.0, 1.0)
    assert answered(Scorer(0.0, {1: -1.0, 2: 1.0}), pair, **how)[:2] == (0.0, 1.0)


def some_pairs(codec, count):
    """A solution with more sevens is the better one."""
    rng, pairs = random.Random(0), []
    ask = [codec.special.start_of_rating]
    seven, other = codec.encode("7")[0], codec.encode("2")[0]
    for _ in range(count):
        better = [seven if rng.random() < 0.8 else other for _ in range(6)]
        worse = [other] * 6
        between = [codec.special.end_of_thought]
        pairs.append(Asked([*better, *between, *worse, *ask], [*worse, *between, *better, *ask]))
    return pairs


@pytest.mark.parametrize("adapter", [None, LoraSettings(rank=4, alpha=8)])
@pytest.mark.parametrize("loss", ["logistic", "dpo"])
def test_steps_make_a_model_prefer_the_better_one_in_both_orders(tiny_model, adapter, loss):
    loaded = load_model(tiny_model, adapter=adapter)
    codec = Codec(loaded.tokenizer, loaded.special)
    pairs = some_pairs(codec, 24)
    how = {"ratings": (loaded.special.positive, loaded.special.negative), "pad_id": loaded.pad_id}
    before = answered(loaded.model, pairs, batch_pairs=8, **how)
    settings = PreferenceSettings(
        loss=loss, steps=40, batch_pairs=8, learning_rate=2e-2, warmup_steps=2, keep=0.01
    )
    seen = []
    learn_preferences(loaded.model, pairs, settings, seed=0, on_step=lambda *step: seen.append(step), **how)
    after = answered(loaded.model, pairs, batch_pairs=8, **how)
    assert [step for step, _, _ in seen] == list(range(1, 41))
    assert seen[0][2] == pytest.approx(0, abs=1e-6)  # nothing had moved yet
    assert after.loss < before.loss
    assert (after.accuracy, after.agreement) > (0.9, 0.8)
    assert not loaded.model.training


def test_what_the_model_writes_stays_where_it_is_to_be_kept(tiny_model):
    def moved(keep):
        loaded = load_model(tiny_model)
        codec = Codec(loaded.tokenizer, loaded.special)
        settings = PreferenceSettings(steps=30, batch_pairs=4, learning_rate=1e-2, warmup_steps=0, keep=keep)
        pairs = some_pairs(codec, 8)
        line = torch.tensor([pairs[0].better_first[:-1]])
        with torch.no_grad():
            old = loaded.model(line).logits.log_softmax(-1)
        ratings = loaded.special.positive, loaded.special.negative
        learn_preferences(
            loaded.model,
            pairs,
            settings,
            ratings=ratings,
            pad_id=loaded.pad_id,
            seed=0,
            on_step=lambda *step: None,
        )
        with torch.no_grad():
            new = loaded.model(line).logits.log_softmax(-1)
        return float((old.exp() * (old - new)).sum(-1).mean())

    assert moved(keep=5.0) < 0.5 * moved(keep=0.0)


def test_a_loss_that_is_not_finite_ends_the_lesson(tiny_model):
    loaded = load_model(tiny_model)
    codec = Codec(loaded.tokenizer, loaded.special)
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(math.nan)
    with pytest.raises(RunError, match=r"step 1: the loss is nan, .* lower prefer\.learning_rate"):
        learn_preferences(
            loaded.model,
            some_pairs(codec, 2),
            PreferenceSettings(steps=1, keep=0.0),
            ratings=(loaded.special.positive, loaded.special.negative),
            pad_id=loaded.pad_id,
            seed=0,
            on_step=lambda *step: None,
        )


def test_pairs_are_read_from_a_run_from_trees_and_from_lines(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    pair = Pair(QUESTION, "add them\n\\boxed{5}", "add them\n\\boxed{6}")
    file = tmp_path / "pairs.jsonl"
    assert main(["inspect", str(run), "--export", "pairs", str(file)]) == 0
    capsys.readouterr()
    sources = [str(run), str(run / "trees"), str(run / "trees" / "000001.jsonl"), str(file)]
    for source in sources:
        assert read_pairs([source], held_out=0.0) == ([pair], [])
    assert read_pairs(sources, held_out=0.0).learned == [pair]  # equal ones once


def test_no_question_is_both_learned_and_held_out(tmp_path):
    rows = [{"prompt": f"Q{i % 40}", "chosen": f"a{i}", "rejected": "b"} for i in range(120)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    learned, held_out = read_pairs([str(tmp_path / "p.jsonl")], held_out=0.3)
    assert len(learned) + len(held_out) == 120
    assert learned
    assert held_out
    assert not {pair.question for pair in learned} & {pair.question for pair in held_out}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"prompt": "a", "chosen": "b"}', '{"prompt": 1, "chosen": "b", "rejected": "c"}']
)
def test_a_line_that_is_no_pair_is_named(tmp_path, line):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n\n' + line + "\n")
    with pytest.raises(RecordError, match=r"p\.jsonl, line 3: expected texts prompt, chosen, rejected"):
        read_pairs([str(tmp_path / "p.jsonl")], held_out=0.0)


def test_what_holds_no_pairs_is_named(tmp_path):
    with pytest.raises(RunError, match="there is no nowhere"):
        read_pairs(["nowhere"], 0.0)
    with pytest.raises(RunError, match="no trees in"):
        read_pairs([str(tmp_path)], 0.0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(RunError, match="no pair of a right and a wrong solution"):
        read_pairs([str(tmp_path / "empty.jsonl")], 0.0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: PreferConfig(), "give --solutions runs/nano"),
        (lambda: PreferConfig(solutions=("x",), held_out=1.0), "held_out must be in"),
        (lambda: PreferConfig(solutions=("x",), max_tokens=3), "at least 64, got 3"),
        (lambda: PreferenceSettings(beta=0.0), "prefer.beta must be above 0"),
        (lambda: PreferenceSettings(keep=-1.0), "prefer.keep must be at least 0"),
    ],
)
def test_settings_that_teach_nothing_are_refused(made, words):
    with pytest.raises(ConfigError, match=words):
        made()


def test_the_command_writes_a_model_that_searches_by_comparing(tmp_path, tiny_model, capsys):
    run = write_run(tmp_path / "run")
    out = tmp_path / "out"
    small = ["--model", str(tiny_model), "--out", str(out), "--held_out", "0", "--threads", "1"]
    steps = ["--prefer.steps", "2", "--prefer.batch_pairs", "2"]
    assert main(["prefer", "--solutions", str(run), *small, *steps]) == 0
    assert "learned from 1 pairs; none were held out" in capsys.readouterr().out
    assert main(["prefer", "--solutions", str(run), *small, *steps]) == 2
    assert "is in the way; name a folder that is new or empty" in capsys.readouterr().err
    tree = tmp_path / "tree.jsonl"
    search = ["--problem", "2 + 3?", "--search.method", "refine", "--search.answer", "pairwise"]
    short = ["--search.budget_tokens", "400", "--thoughts.max_text", "12", "--thoughts.max_answer", "8"]
    budget = ["--thoughts.path_budget", "48", "--engine.threads", "1", "--json", str(tree)]
    assert main(["search", "--model.path", str(out), *search, *short, *budget]) == 0
    assert json.loads(tree.read_text())["tokens_used"] <= 400


def test_what_a_lesson_came_to_is_said_in_one_line():
    lesson = Lesson(30, 10, Stood(0.5, 0.4, 0.7), Stood(0.8, 0.9, 0.3))
    assert lesson.line() == (
        "learned from 30 pairs; of 10 held out it prefers the better one in 50.0% before and 80.0% after, "
        "and answers both orders alike in 40.0% and 90.0%"
    )


def test_pairs_too_long_for_the_model_are_refused(tmp_path, tiny_model):
    row = {"prompt": "many words " * 400, "chosen": "a", "rejected": "b"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    config = PreferConfig(
        solutions=(str(tmp_path / "p.jsonl"),), model=str(tiny_model), out=str(tmp_path / "out"), held_out=0.0
    )
    with pytest.raises(RunError, match=r"no question of 1 pairs fits in 512 tokens; raise --max_tokens"):
        prefer(config)


def test_a_pair_that_is_left_out_is_not_counted_as_learned(tmp_path, tiny_model):
    rows = [{"prompt": text, "chosen": "a", "rejected": "b"} for text in ("2 + 3?", "many words " * 400)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = PreferConfig(
        solutions=(str(tmp_path / "p.jsonl"),),
        model=str(tiny_model),
        out=str(tmp_path / "out"),
        held_out=0.0,
        threads=1,
        prefer=PreferenceSettings(steps=1, batch_pairs=1),
    )
    assert prefer(config).num_learned == 1
