"""`llama-o1 verify`: what it compares on a model, what it prints, and when it fails."""

import json

import pytest
import torch

from llama_o1 import exactness
from llama_o1.cli import main
from llama_o1.exactness import maxima
from llama_o1.learn import compare


@pytest.fixture
def arguments(tiny_model):
    return [
        "verify", "--model.path", str(tiny_model), "--nodes=6", "--steps=2", "--problems=word",
        "--search.budget_tokens=150", "--thoughts.path_budget=48", "--thoughts.max_text=8",
        "--thoughts.max_answer=6", "--engine.threads=1", "--learner.threads=1", "--learner.batch_size=8",
    ]  # fmt: skip


def cases(capsys):
    *lines, last = capsys.readouterr().out.splitlines()
    return [json.loads(line) for line in lines], last


def test_verify_compares_engine_and_packing_and_ends_with_the_maxima(capsys, arguments):
    assert main(arguments) == 0
    (engine, first, last), words = cases(capsys)
    assert engine["case"] == "engine"
    assert engine["nodes"] >= 6
    assert engine["tokens"] > 0
    assert engine["differences"].keys() == {"logprobs", "values"}
    assert (first["case"], first["step"], last["step"]) == ("packing", 1, 2)
    assert first["tries"]
    assert {"logits", "loss", "gradient"} <= first["differences"].keys()
    assert all(case["verdict"] == "pass" for case in (engine, first, last))
    assert words.startswith("maxima: engine logprobs ")
    assert words.endswith(": pass")


def test_a_model_without_tries_is_compared_with_nothing_and_says_so(capsys, arguments, monkeypatch):
    monkeypatch.setattr(exactness, "why_no_tries", lambda model, pad_id: "0 of its 2 layers")
    assert main(arguments) == 0
    (_, packing), words = cases(capsys)
    assert (packing["tries"], packing["differences"]) == (False, {})
    assert "0 of its 2 layers" in packing["what"]
    assert words.endswith(": pass (without tries)")


def test_a_limit_that_is_passed_fails_the_command(capsys, arguments, monkeypatch):
    monkeypatch.setitem(compare.LIMITS, torch.float32, 0.0)
    monkeypatch.setattr(exactness, "ENGINE_LIMIT", -1.0)
    assert main(arguments) == 1
    (engine, first, _), words = cases(capsys)
    assert engine["verdict"] == first["verdict"] == "fail"
    assert words.endswith(": fail")


def test_a_difference_that_is_no_number_fails():
    case = exactness._case("packing", {"logits": float("nan")}, 1.0)
    assert case["verdict"] == "fail"


def test_the_maxima_are_taken_over_all_cases():
    found = [
        {"case": "packing", "verdict": "pass", "differences": {"loss": 1e-7}},
        {"case": "packing", "verdict": "pass", "differences": {"loss": 3e-6}},
    ]
    assert maxima(found) == "maxima: loss 3.00e-06: pass"


def test_counts_without_a_meaning_are_refused(capsys, arguments):
    assert main([*arguments, "--steps=0"]) == 2
    assert "--steps must be at least 1, got 0" in capsys.readouterr().err
