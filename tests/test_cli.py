"""The command line: bad input is one clear line with exit code 2; results are where they were asked for."""

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from ctrl_c import heed_ctrl_c

from llama_o1.cli import COMMANDS, main

SMALL = [
    "--thoughts.path_budget=48",
    "--thoughts.max_text=12",
    "--thoughts.max_answer=8",
    "--search.budget_tokens=300",
    "--search.tree.simulations=6",
    "--engine.threads=1",
    "--engine.slots=8",
]
PROBLEM = "Tom has 3 boxes with 8 pens in each. He gives away 5 pens. How many pens does Tom have left?"


def refused(capsys, *arguments):
    """The one line that a refused command writes."""
    assert main([str(a) for a in arguments]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("llama-o1: ")
    assert written.err.count("\n") == 1
    return written.err


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in COMMANDS)


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--count", "many", "count must be a whole number, got many"),
        ("--engine.timeout_s", "soon", "engine.timeout_s must be a number, got soon"),
        ("--engine.cache_mb", "much", "engine.cache_mb must be a whole number or null, got much"),
        ("--skip_bad_lines", "perhaps", "skip_bad_lines must be true or false, got perhaps"),
        ("--domains.by", "topic", "domains.by must be one of clusters, column, set, got topic"),
        ("--solvers.small.search.method", "gredy", "solvers.search.method must be one of mcts, ucb,"),
    ],
)
def test_a_value_of_a_wrong_type_is_told_what_was_expected(capsys, flag, value, wanted):
    assert wanted in refused(capsys, "curate", flag, value)


def test_an_unknown_command_names_the_nearest(capsys):
    assert "'train'" in refused(capsys, "trian")


def test_an_unknown_setting_names_the_nearest(capsys):
    assert "'search.budget_tokens'" in refused(capsys, "train", "--search.budget_token", "5")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("iteratons: 3\n", "iterations"),
        ("search:\n  budget_tokns: 3\n", "budget_tokens"),
        ("search:\n  tree:\n    simulatons: 3\n", "simulations"),
        ("problems:\n- {name: word, wieght: 2}\n", "weight"),
    ],
)
def test_an_unknown_key_of_a_config_file_names_the_nearest(capsys, tmp_path, text, wanted):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert wanted in refused(capsys, "train", "--config", file)


def test_settings_of_another_command_are_named_by_their_group(capsys):
    line = refused(capsys, "curate", "--config", "configs/eval.yaml")
    assert line.startswith(("llama-o1: unknown setting 'methods'", "llama-o1: unknown setting 'variants'"))


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--iterations", "-3", "at least 0, got -3"),
        ("--search.budget_tokens", "0", "at least 1, got 0"),
        ("--search.tree.simulations", "0", "at least 1, got 0"),
        ("--learner.learning_rate", "-1", "above 0, got -1"),
        ("--replay.alpha", "2", "in [0, 1], got 2"),
        ("--replay.eviction", "newest", "one of oldest, lowest_priority, oldest_version, got newest"),
        ("--thoughts.path_budget", "3", "at least 16, got 3"),
        ("--search.budget_tokens", "many", "many"),
        ("--evaluation.every", "0", "at least 1, got 0"),
        ("--problems", "gsm9k", "gsm8k"),
        ("--engine.name", "sglang", "one of local, vllm, server, got sglang"),
        ("--engine.name", "server", "needs engine.urls, got none"),
        (
            "--engine.urls",
            "http://127.0.0.1:9",
            "engine.urls is for engine.name server, got engine.name local",
        ),
        ("--engine.api_key_env", "KEY", "engine.api_key_env is for engine.name server"),
        ("--engine.sleep", "true", "engine.sleep is for engine.name vllm"),
        ("--engine.dtype", "float16", "one of float32, bfloat16, got float16"),
        ("--engine.max_context", "9999", "to the model's 512 positions, got 9999"),
        ("--engine.max_context", "0", "at least 1, got 0"),
        ("--engine.cache_mb", "-1", "at least 0, got -1"),
        ("--engine.gpu_memory", "1.5", "at most 1, got 1.5"),
        ("--engine.timeout_s", "0", "above 0 and finite, got 0"),
    ],
)
def test_a_value_out_of_range_is_named(capsys, tmp_path, tiny_model, flag, value, words):
    run = ("--run_dir", tmp_path / "run", "--model.path", tiny_model)
    assert words in refused(capsys, "train", *run, flag, value)
    assert not (tmp_path / "run").exists()


def test_a_server_that_does_not_answer_is_named_before_a_run_is_begun(capsys, tmp_path, tiny_model):
    run = ("train", "--run_dir", tmp_path / "run", "--model.path", tiny_model, "--engine.name", "server")
    servers = ("--engine.urls", "http://127.0.0.1:9,http://127.0.0.1:10")
    assert "no server answers at http://127.0.0.1:9" in refused(capsys, *run, *servers)
    assert "start it with --dtype" in refused(capsys, *run, *servers, "--engine.dtype", "bfloat16")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_names_its_extra_before_a_run_is_begun(capsys, tmp_path, tiny_model):
    run = ("train", "--run_dir", tmp_path / "run", "--model.path", tiny_model)
    assert 'pip install -e ".[vllm]"' in refused(capsys, *run, "--engine.name", "vllm")
    assert not (tmp_path / "run").exists()


def test_a_missing_config_file_is_named(capsys, tmp_path):
    assert "nowhere.yaml" in refused(capsys, "train", "--config", tmp_path / "nowhere.yaml")


def test_a_missing_model_folder_is_named(capsys, tmp_path):
    line = refused(capsys, "search", "--model.path", tmp_path / "nowhere", "--problem", PROBLEM)
    assert "nowhere" in line


def test_a_model_without_our_tokens_is_refused_with_the_command_that_adds_them(capsys, tmp_path):
    plain_model(tmp_path / "plain")
    line = refused(capsys, "search", "--model.path", tmp_path / "plain", "--problem", PROBLEM)
    assert "llama-o1 init" in line


def test_a_broken_line_of_a_problem_file_is_named_or_counted(capsys, tmp_path, tiny_model):
    file = tmp_path / "problems.jsonl"
    good = json.dumps({"question": "What is 1 + 1?", "answer": "2"})
    file.write_text(f"{good}\n{{broken\n{good}\n")
    model = ("--model.path", tiny_model, *SMALL)
    assert "line 2" in refused(capsys, "search", *model, "--problems", file)
    out = tmp_path / "out.jsonl"
    flags = ("--skip_bad_lines", "true", "--json", out)
    assert main([str(a) for a in ("search", *model, "--problems", file, *flags)]) == 0
    assert len(out.read_text().splitlines()) == 2


def test_columns_of_a_problem_file_are_mapped_by_flags(capsys, tmp_path, tiny_model):
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps({"prompt": "What is 1 + 1?", "gold": "2"}) + "\n")
    flags = ("--columns.question", "prompt", "--columns.answer", "gold", "--json", tmp_path / "out.jsonl")
    arguments = ("search", "--model.path", tiny_model, *SMALL, "--problems", file, *flags)
    assert main([str(a) for a in arguments]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["problem"] == "What is 1 + 1?"


@pytest.mark.parametrize("given", [(), ("--problem", " "), ("--problem", PROBLEM, "--problems", "word")])
def test_a_search_without_one_clear_problem_is_refused(capsys, given):
    assert "--problem" in refused(capsys, "search", *given)


def test_a_problem_longer_than_the_context_is_refused(capsys, tiny_model):
    line = refused(capsys, "search", "--model.path", tiny_model, "--problem", "pens and " * 600, *SMALL)
    assert "shorten the problem" in line


def test_a_folder_without_a_run_is_refused_by_inspect_and_search(capsys, tmp_path):
    assert "replay" in refused(capsys, "inspect", tmp_path)
    assert "no run" in refused(capsys, "search", "--run", tmp_path, "--problem", PROBLEM)


def test_a_search_prints_its_answer_and_writes_json_and_one_offline_page(capsys, tmp_path, tiny_model):
    page, rows = tmp_path / "tree.html", tmp_path / "tree.jsonl"
    arguments = ["search", "--model.path", tiny_model, "--problem", PROBLEM, *SMALL, "--budget_tokens", "250"]
    assert main([str(a) for a in (*arguments, "--json", rows, "--html", page)]) == 0
    printed = capsys.readouterr().out
    assert "answer: " in printed
    assert "confidence: " in printed
    row = json.loads(rows.read_text())
    assert {"problem", "answer", "confidence", "tokens_used", "seconds", "nodes"} <= row.keys()
    wanted = {"id", "parent", "action", "text", "visits", "value", "prior", "terminal"}
    assert all(wanted <= node.keys() for node in row["nodes"])
    assert "".join(text for text, _ in row["nodes"][0]["pieces"]).endswith(f"{PROBLEM}<end_of_thought>")
    assert row["tokens_used"] <= 250
    assert {"occupancy", "cache_hit", "tokens_per_s", "sampled_tokens"} <= row["engine"].keys()
    assert f"slots {row['engine']['occupancy']:.0%} busy" in printed
    html = page.read_text()
    assert "http://" not in html
    assert "https://" not in html


def test_init_adds_the_tokens_and_the_model_then_searches(capsys, tmp_path):
    plain_model(tmp_path / "plain")
    assert main(["init", str(tmp_path / "plain"), str(tmp_path / "ready")]) == 0
    assert "<start_of_rating>" in capsys.readouterr().out
    arguments = ["search", "--model.path", str(tmp_path / "ready"), "--problem", PROBLEM, *SMALL]
    assert main(arguments) == 0


def test_ctrl_c_stops_a_run_cleanly_and_says_how_to_resume(tmp_path, tiny_model):
    run = tmp_path / "run"
    flags = ["--run_dir", str(run), "--model.path", str(tiny_model), *SMALL, "--problems", "word"]
    more = ["--iterations=1000", "--problems_per_iteration=2", "--steps_per_iteration=1"]
    command = [sys.executable, "-m", "llama_o1.cli", "train", *flags, *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "000001").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "--resume true" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize("flags", [["--run_dir", "{file}"], ["--run_dir", "{file}/in"]])
def test_a_run_folder_that_cannot_be_is_named_before_a_model_is_loaded(capsys, tmp_path, flags):
    file = tmp_path / "file"
    file.touch()
    line = refused(capsys, "train", "--model.path", tmp_path / "no", *(f.format(file=file) for f in flags))
    assert str(file) in line
    assert "is a file; choose another `--run_dir`" in line


def test_an_output_that_is_a_folder_is_one_line(capsys, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"gold": "1", "prediction": "#### 1"}\n')
    line = refused(capsys, "sft", "--out", pairs, "--sft.steps", "1")
    assert str(pairs) in line


def plain_model(folder):
    """A small causal LM that knows none of our tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={"<eos>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
