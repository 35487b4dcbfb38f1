"""Record files: what is read, what is refused, what is learned of a record, and our trees as records."""

import json
import logging
from itertools import islice

import pytest
from small_run import write_run

from llama_o1.cli import main
from llama_o1.errors import ConfigError, RecordError
from llama_o1.format.thoughts import Rating, Thought, parse, render
from llama_o1.learn.model import Loaded, load_model
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.lines import material_of
from llama_o1.records import RecordColumns, lines_of, read_records
from llama_o1.sft_config import SftConfig
from tree.actions import MetaAction

# Two lines that share a step; the second one goes wrong.
RECORD = [
    Thought(-1, 0, MetaAction.PROBLEM, "What is 2+3?"),
    Thought(0, 1, MetaAction.EXPAND, "add <remaining>7/8</remaining>them", Rating.POSITIVE),
    Thought(1, 2, MetaAction.CRITIC, "right", Rating.UNKNOWN),
    Thought(1, 3, MetaAction.CONCLUDE, "\\boxed{6}", Rating.NEGATIVE),
    Thought(2, 4, MetaAction.CONCLUDE, "\\boxed{5}", Rating.POSITIVE),
]


def write(file, rows):
    text = json.dumps(rows) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
@pytest.mark.parametrize("row", [render(RECORD), {"text": render(RECORD)}])
def test_records_are_read_from_lines_and_lists_as_text_or_column(tmp_path, name, row):
    file = write(tmp_path / name, [row, row])
    assert read_records(file, RecordColumns(), skip_bad_lines=False) == [RECORD, RECORD]


BROKEN = [
    ("{", "no JSON object or text"),
    ('{"text": "<start_of_father_id>-1"}', "no thought at character 0"),
    ('{"other": 1}', "no column 'text' with a record, and none 'question' with a text"),
    (json.dumps({"text": render(RECORD[:1])}), "holds its problem only"),
]


@pytest.mark.parametrize(("line", "fault"), BROKEN)
def test_a_damaged_record_is_named_by_its_line_and_may_be_counted_instead(tmp_path, caplog, line, fault):
    file = tmp_path / "data.jsonl"
    file.write_text(f"{json.dumps({'text': render(RECORD)})}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=rf"data.jsonl, line 3: .*{fault}.*--skip_bad_lines true") as caught:
        read_records(file, RecordColumns(), skip_bad_lines=False)
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert len(read_records(file, RecordColumns(), skip_bad_lines=True)) == 1
    assert "skipped 1 broken records, kept 1" in caplog.text


def test_a_record_is_learned_line_by_line_and_no_thought_twice():
    wrong, right = lines_of(RECORD)
    assert [(t.thought.local, t.imitate, t.rate) for t in wrong] == [
        (0, False, False), (1, True, True), (3, False, True)
    ]  # fmt: skip
    assert [(t.thought.local, t.imitate, t.rate) for t in right] == [
        (0, False, False), (1, False, False), (2, True, False), (4, True, True)
    ]  # fmt: skip
    assert right[1].thought.text == "add them"


def loaded_of(codec):
    return Loaded(None, codec.tokenizer, codec.special, 0)


def rows(count):
    return [
        {"question": f"What is {i}+1?", "thinking": f"{i}+1\n<<{i}+1={i + 1}>>", "answer": str(i + 1)}
        for i in range(count)
    ]


def test_a_share_of_the_questions_is_held_out_whatever_their_order(codec, tmp_path):
    made = []
    for name, order in (("a.jsonl", rows(60)), ("b.jsonl", rows(60)[::-1])):
        config = SftConfig(data=str(write(tmp_path / name, order)), holdout=0.3, budget_step=16, form="line")
        material = material_of(config, loaded_of(codec))
        made.append({codec.decode(ids) for ids, *_ in material.held_out})
    assert made[0] == made[1]
    assert 6 <= len(made[0]) <= 30


def test_epochs_of_a_file_take_the_steps_that_its_lines_need(codec, tmp_path):
    sft = ColdstartSettings(epochs=5, batch_lines=16, max_length=40)
    config = SftConfig(data=str(write(tmp_path / "d.jsonl", rows(40))), holdout=0, sft=sft)
    material = material_of(config, loaded_of(codec))
    assert material.num_steps == 5 * 3  # 16, 16 and 8 lines
    assert max(len(ids) for step in islice(material.steps, 15) for ids, *_ in step) == 40
    with pytest.raises(ConfigError, match=r"sft.epochs is 5, but worked problems are ever new"):
        SftConfig(sft=sft)


def test_our_trees_become_records_and_are_read_back_with_the_same_texts(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    out = tmp_path / "records.jsonl"
    for place in (run, run / "replay", run / "trees" / "000001.jsonl"):
        assert main(["inspect", str(place), "--export", "openlongcot", str(out)]) == 0
        assert capsys.readouterr().out == f"wrote 2 records to {out}\n"
        trees = [json.loads(line) for line in (run / "trees" / "000001.jsonl").read_text().splitlines()]
        records = read_records(out, RecordColumns(), skip_bad_lines=False)
        for tree, record in zip(trees, records, strict=True):
            read = [(t.father, t.local, str(t.action), t.text) for t in record]
            assert read == [(n["parent"], n["id"], n["action"], n["text"]) for n in tree["nodes"]]
            rated = [None if n["value"] is None else Rating.of(n["value"]) for n in tree["nodes"]]
            assert [t.rating for t in record] == rated
            assert parse(render(record)) == record


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_records_are_learned_by_all_weights_or_by_an_adapter(tiny_model, tmp_path, capsys, adapter):
    run, records, out = write_run(tmp_path / "run"), tmp_path / "records.jsonl", tmp_path / "model"
    assert main(["inspect", str(run), "--export", "openlongcot", str(records)]) == 0
    records.write_text(records.read_text(encoding="utf-8") + "broken\n", encoding="utf-8")
    arguments = [
        "sft",
        "--model",
        str(tiny_model),
        "--data",
        str(records),
        "--out",
        str(out),
        "--holdout",
        "0",
    ]
    quick = ["--sft.epochs", "4", "--sft.batch_lines", "2", "--sft.bf16", "false", "--threads", "1"]
    assert main([*arguments, *quick, "--adapter", adapter]) == 2
    assert f"{records}, line 3: no JSON object or text; mend it" in capsys.readouterr().err
    assert main([*arguments, *quick, "--adapter", adapter, "--skip_bad_lines", "true"]) == 0
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in metrics] == [12]  # 5 lines of the two trees, 3 steps an epoch
    assert load_model(out).model.config.vocab_size


def test_a_tree_that_no_record_can_hold_is_left_out_and_named(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    file = run / "trees" / "000001.jsonl"
    file.write_text(file.read_text().replace("add them", "a <critic> here", 1))
    assert main(["inspect", str(run), "--export", "openlongcot", str(tmp_path / "out.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "wrote 1 records" in printed
    assert "left out 1, the first 000001.jsonl:1: thought 1 holds <critic> in its text" in printed


def test_an_export_that_no_tree_fits_writes_nothing(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    file, out = run / "trees" / "000001.jsonl", tmp_path / "out.jsonl"
    file.write_text(file.read_text().replace("add them", "a <critic> here"))
    lines = [line for line in file.read_text().splitlines(keepends=True) if "<critic>" in line]
    file.write_text("".join(lines))
    assert main(["inspect", str(run), "--export", "openlongcot", str(out)]) == 2
    assert "can be a record, the first is 000001.jsonl:1: thought" in capsys.readouterr().err
    assert not out.exists()
