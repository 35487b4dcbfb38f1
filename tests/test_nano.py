"""The shipped nano model: small, whole, and able to do what its card says it can."""

import json
from pathlib import Path

import pytest

import llama_o1
from llama_o1 import assemble
from llama_o1.config import EngineSettings, ModelSettings
from llama_o1.measure.evaluate import evaluate
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.generator import generate
from llama_o1.tasks.mixture import ProblemSet, select
from tree.actions import Transitions

FOLDER = Path(llama_o1.__file__).parent / "nano"


@pytest.fixture(scope="module")
def system():
    return assemble.assemble(ModelSettings(path="nano"), EngineSettings(threads=1))


def test_the_shipped_model_takes_at_most_sixteen_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 16e6


def test_its_tokenizer_writes_digits_singly_and_no_space_before_a_number(system):
    tokenizer = system.loaded.tokenizer
    pieces = tokenizer.tokenize("Tom has 48 pens, <<48/2=24>>")
    assert [p.strip("Ġ") for p in pieces if any(c.isdigit() for c in p)] == list("4848224")
    assert "Ġ" not in pieces[: pieces.index("<<") - 1]


def greedy(system, problems):
    thoughts = ThoughtSettings(
        path_budget=128, max_text=40, max_answer=24, temperature=0.0, calculator=True, show_ratings=False
    )
    (score,) = evaluate(
        system.engine,
        {"": problems},
        assemble.expander(system, thoughts),
        MethodSettings(method="greedy", budget_tokens=4096),
        Transitions(),
        weighting="value",
        seed=0,
        on_tree=lambda *_: None,
    ).values()
    return score.accuracy.mean


def test_it_solves_most_held_out_word_problems_of_one_step_greedily(system):
    assert greedy(system, generate("word", "test", 40, seed=3, min_steps=1, max_steps=1)) >= 0.8


@pytest.mark.parametrize(
    "wanted", [ProblemSet("word", max_steps=3, limit=100), ProblemSet("svamp", limit=100)]
)
def test_its_card_tells_the_truth(system, wanted):
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    assert card["parameters"] == sum(p.numel() for p in system.loaded.model.parameters())
    (told,) = (
        one["accuracy"] for one in card["accuracies"] if (one["set"], one["split"]) == (wanted.label, "test")
    )
    assert greedy(system, select(wanted, "test")) == pytest.approx(told, abs=0.011)  # one answer at most
