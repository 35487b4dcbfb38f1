"""The shipped nano model: small, whole, and able to do what its card says it can."""

from pathlib import Path

import pytest

import llama_o1
from llama_o1 import assemble
from llama_o1.config import EngineSettings, ModelSettings
from llama_o1.measure.evaluate import evaluate
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.generator import generate
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


def test_it_solves_most_held_out_word_problems_of_one_step_greedily(system):
    problems = generate("word", "test", 40, seed=3, min_steps=1, max_steps=1)
    thoughts = ThoughtSettings(path_budget=192, max_text=40, max_answer=24, temperature=0.0, calculator=True)
    scores = evaluate(
        system.engine,
        {"word": problems},
        assemble.expander(system, thoughts),
        MethodSettings(method="greedy", budget_tokens=1000),
        Transitions(),
        weighting="value",
        seed=0,
        on_tree=lambda *_: None,
    )
    assert scores["word"].accuracy.mean >= 0.8
