import gzip
import json
import re
import sys
from collections import Counter
from importlib import resources

import pytest

from llama_o1.errors import ProblemError
from llama_o1.tasks.hub import Columns, known_columns
from llama_o1.tasks.problem import WorkedStep
from llama_o1.tasks.problems import GENERATED, canonical, load_problems
from llama_o1.tasks.split import SPLITS, split_of
from llama_o1.tasks.verify import failing_golds, verify
from llama_o1.tasks.worked import worked_steps


def write(path, *rows):
    path.write_text(
        "".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    return str(path)


@pytest.fixture(scope="module")
def gsm8k():
    return {split: load_problems("gsm8k", split=split).problems for split in SPLITS}


def test_gsm8k_is_whole_and_its_dev_split_comes_out_of_train(gsm8k):
    assert len(gsm8k["test"]) == 1019
    assert len(gsm8k["train"]) + len(gsm8k["dev"]) == 7473
    assert 650 < len(gsm8k["dev"]) < 850


def test_a_problem_of_gsm8k_comes_with_its_worked_steps(gsm8k):
    first = next(p for p in gsm8k["train"] + gsm8k["dev"] if p.id == "gsm8k-train-00000")
    assert (first.answer, first.source, first.kind, first.num_steps) == ("72", "gsm8k", "number", 2)
    assert first.steps == (WorkedStep("48/2", "24", "clips"), WorkedStep("48+24", "72", "clips"))


def test_svamp_and_game24_are_whole():
    assert sum(len(load_problems("svamp", split=s).problems) for s in SPLITS) == 999
    game24 = {s: load_problems("game24", split=s).problems for s in SPLITS}
    assert sum(map(len, game24.values())) == 1362
    ids = {p.id for p in game24["test"]}
    assert {f"game24-{i:04d}" for i in range(900, 1000)} <= ids
    assert all(p.kind == "expression" and len(p.numbers) == 4 and p.target == 24 for p in game24["dev"])


def test_no_canonical_question_is_in_two_splits(gsm8k):
    keys = {s: {canonical(p.question) for p in gsm8k[s]} for s in SPLITS}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not keys[a] & keys[b]
    puzzles = [tuple(sorted(p.numbers)) for s in SPLITS for p in load_problems("game24", split=s).problems]
    assert len(puzzles) == len(set(puzzles))


def test_variations_of_one_svamp_story_share_a_split():
    splits_of_story = {}
    for split in SPLITS:
        for p in load_problems("svamp", split=split).problems:
            story = re.sub(r"[0-9]+", "#", p.question).rpartition(". ")[0]
            if story:
                splits_of_story.setdefault(story, Counter())[split] += 1
    assert any(sum(c.values()) > 1 for c in splits_of_story.values())
    assert all(len(c) == 1 for c in splits_of_story.values())


def test_aqua_is_for_evaluation_and_knows_its_choices():
    splits = {split: load_problems("aqua", split=split).problems for split in SPLITS}
    assert splits["train"] == []
    assert len(splits["dev"]) + len(splits["test"]) == 254
    problem = next(p for p in splits["dev"] + splits["test"] if p.id == "aqua-dev-000")
    assert (problem.kind, problem.answer) == ("choice", "A")
    assert problem.options[0] == ("A", "32400")
    for text, state in (("A", "correct"), ("32,400", "correct"), ("(B)", "wrong"), ("600", "wrong")):
        assert verify(f"\\boxed{{{text}}}", problem).verdict == state
    assert verify(r"\boxed{5}", problem).verdict == "unparsed"


def test_the_columns_of_well_known_sets_are_known_unless_others_are_asked_for():
    assert known_columns("HuggingFaceH4/MATH-500", Columns()) == ("problem", "answer", "solution")
    assert known_columns("deepmind/aqua_rat:raw", Columns()) == ("question", "correct", "rationale")
    assert known_columns("HuggingFaceH4/MATH-500", Columns("q", "a")) == ("q", "a", "solution")
    assert known_columns("someone/else", Columns()) == Columns()


def test_a_known_evaluation_set_has_its_one_split_for_evaluation_only(monkeypatch):
    import datasets

    rows = datasets.Dataset.from_dict({"problem": ["1+1?"], "answer": ["2"], "solution": ["2"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(train=rows))
    (problem,) = load_problems("HuggingFaceH4/aime_2024", split="test").problems
    assert (problem.question, problem.answer) == ("1+1?", "2")
    with pytest.raises(ProblemError, match="has no test split"):
        load_problems("someone/else", split="test")


def test_choices_are_read_from_a_list_as_well(tmp_path):
    row = {"question": "q", "answer": "E", "options": ["A)21", "B)21.5", "C)22", "D)22.5", "E)23"]}
    (problem,) = load_problems(write(tmp_path / "file.jsonl", row)).problems
    assert problem.kind == "choice"
    assert problem.options[4] == ("E", "23")
    assert verify(r"\boxed{23}", problem).verdict == "correct"


@pytest.mark.parametrize("name", ["gsm8k", "svamp", "game24", "aqua", *GENERATED])
@pytest.mark.parametrize("split", SPLITS)
def test_every_gold_answer_verifies_against_itself(name, split):
    assert failing_golds(load_problems(name, split=split, limit=100).problems) == []


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_set_is_always_the_same(name):
    problems = load_problems(name, split="dev", limit=20).problems
    assert len(problems) == 20
    assert problems == load_problems(name, split="dev", limit=20).problems


def test_renaming_and_reordering_do_not_change_the_canonical_form():
    form = canonical("Tom has 3 apples and 1,200 pears. How many fruits does he have?")
    assert form == canonical("Mary Ann  has 1200 apples and 3 pears. How many fruits does she have?")
    assert form != canonical("Tom has 4 apples and 1,200 pears. How many fruits does he have?")


def test_splits_have_the_promised_shares():
    shares = Counter(split_of(str(i)) for i in range(5000))
    assert abs(shares["train"] / 5000 - 0.7) < 0.03
    assert abs(shares["dev"] / 5000 - 0.1) < 0.02


def test_the_shipped_sets_come_with_their_notice():
    folder = resources.files("llama_o1.tasks") / "builtin"
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    for holder in ("OpenAI", "Arkil Patel", "Shunyu Yao", "Permission is hereby granted"):
        assert holder in notice
    for file in folder.iterdir():
        assert file.name == "NOTICE" or file.name in notice


def test_an_annotated_solution_is_read_as_steps():
    solution = "She paid 2*$1.50 = $<<2*1.50=3.00>>3.00.\nThat leaves <<10 - 3=7>>7, then <<7*2=14>>14 cm."
    assert worked_steps(solution, "14") == (
        3,
        (WorkedStep("2*1.50", "3", "dollars"), WorkedStep("10-3", "7"), WorkedStep("7*2", "14", "cm")),
    )


@pytest.mark.parametrize(
    ("solution", "answer", "num_steps"),
    [
        ("<<2+2=5>>5 <<5+1=6>>6", "6", None),  # a calculation is wrong
        ("<<2+2=4>>4, and 4+1 = 5", "5", None),  # the last calculation is not annotated
        ("<<1/3=0.3333>>", "0.3333", None),  # rounded
        ("<<2+x=4>>4", "4", None),
        ("so it is 4", "4", None),
        ("( 4.0 - 2.0 )", "3", 1),
        ("( 1.0 / ( 1.0 / 3.0 ) )", "3", 2),  # 1/3 is no short decimal
        ("5.0", "5", 0),
    ],
)
def test_a_solution_that_is_not_right_and_whole_gives_no_steps(solution, answer, num_steps):
    assert worked_steps(solution, answer) == (num_steps, ())


def test_a_nested_expression_becomes_steps_in_order():
    assert worked_steps("( ( 4.0 + 2.0 ) * 3.5 )", "21") == (
        2,
        (WorkedStep("4+2", "6"), WorkedStep("6*3.5", "21")),
    )


def test_a_jsonl_file_is_read_in_order(tmp_path):
    path = write(
        tmp_path / "mine.jsonl",
        {"id": "a", "question": "What is 1+1?", "answer": 2},
        "\n",
        {"question": "Half?", "answer": 2.50},
        {"question": "q", "answer": "He has <<3+4=7>>7 pens.\n#### 7"},
        {"question": "Make 6 of 2 and 3.", "answer": "2*3", "numbers": [2, 3], "target": 6},
        {"question": "Which?", "answer": "B", "options": ["1", "2"]},
        {"question": "Which colour?", "answer": "\\boxed{blue}", "kind": "number"},
    )
    problems, num_skipped = load_problems(path, split="test")
    assert num_skipped == 0
    assert [p.id for p in problems] == ["a", "mine-2", "mine-3", "mine-4", "mine-5", "mine-6"]
    assert [p.answer for p in problems] == ["2", "2.5", "7", "2*3", "B", "blue"]
    assert [p.kind for p in problems] == ["number", "number", "number", "expression", "choice", "number"]
    assert problems[2].steps == (WorkedStep("3+4", "7", "pens"),)
    assert (problems[3].numbers, problems[3].target, problems[3].num_steps) == ((2, 3), 6, 1)
    assert {p.source for p in problems} == {"mine"}


def test_columns_limit_and_compression_are_respected(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    rows = [{"q": f"{i}?", "gold": str(i), "way": f"{i}+0"} for i in range(1, 5)]
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    found = load_problems(
        str(path), question_column="q", answer_column="gold", solution_column="way", limit=2
    ).problems
    assert [(p.question, p.answer, p.num_steps) for p in found] == [("1?", "1", 1), ("2?", "2", 1)]


def test_a_row_that_names_a_split_belongs_to_no_other(tmp_path):
    rows = [{"question": s, "answer": "1", "split": s} for s in ("train", "validation", "other")]
    path = write(tmp_path / "mine.jsonl", *rows)
    assert [p.question for p in load_problems(path, split="train").problems] == ["train", "other"]
    assert [p.question for p in load_problems(path, split="dev").problems] == ["validation", "other"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken\n", "not a line of JSON"),
        ("[" * 100_000 + "\n", "not a line of JSON"),
        ("[1, 2]\n", "expected a JSON object, found list"),
        ({"question": "q"}, "there is no 'answer' among question; set columns.answer"),
        ({"answer": "1"}, "there is no 'question'"),
        ({"question": " ", "answer": "1"}, "'question' is empty"),
        ({"question": "q", "answer": ["1"]}, "'answer' must be text or a number, found list"),
        ({"question": "q", "answer": True}, "found bool"),
        ({"question": "\ud800", "answer": "1"}, "'question' is no Unicode text"),
        ({"question": "q", "answer": "1+1", "kind": "expression", "target": 2}, "needs 'numbers'"),
        ({"question": "q", "answer": "1+1", "numbers": [1, 1], "target": "2"}, "needs 'target'"),
    ],
)
def test_a_broken_line_is_named_or_counted(tmp_path, line, message):
    path = write(tmp_path / "mine.jsonl", {"question": "1?", "answer": "1"}, line)
    with pytest.raises(ProblemError, match=f"mine.jsonl, line 2: .*{re.escape(message)}"):
        load_problems(path)
    loaded = load_problems(path, skip_bad_lines=True)
    assert (len(loaded.problems), loaded.num_skipped) == (1, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gsm8", "did you mean 'gsm8k'"),
        ("game_24", "did you mean 'game24'"),
        ("countdwn", "did you mean 'countdown'"),
        ("nope", "no problem set is called 'nope'. There are gsm8k,"),
        ("missing.jsonl", "problem file missing.jsonl is not there"),
        ("./missing/file.jsonl", "is not there"),
    ],
)
def test_an_unknown_name_is_explained(name, message):
    with pytest.raises(ProblemError, match=message):
        load_problems(name)


def test_wrong_settings_and_damaged_files_are_explained(tmp_path):
    with pytest.raises(ProblemError, match="split must be one of train, dev, test, got 'validation'"):
        load_problems("svamp", split="validation")
    with pytest.raises(ProblemError, match="limit must be at least 1, got 0"):
        load_problems("svamp", limit=0)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "q", "answer": "1"}\n' * 99)[:-20])
    with pytest.raises(ProblemError, match="cannot be read"):
        load_problems(str(tmp_path / "cut.jsonl.gz"))


def test_without_the_datasets_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProblemError, match=r"llama-o1\[datasets\]"):
        load_problems("someone/something")


def test_a_saved_dataset_is_read_by_split(tmp_path):
    datasets = pytest.importorskip("datasets")
    train = datasets.Dataset.from_list([{"question": "1+1?", "answer": "<<1+1=2>>2\n#### 2"}] * 2)
    held_out = datasets.Dataset.from_list([{"question": "2+2?", "answer": "#### 4"}])
    datasets.DatasetDict(train=train, validation=held_out).save_to_disk(str(tmp_path / "two"))
    assert [p.answer for p in load_problems(str(tmp_path / "two")).problems] == ["2", "2"]
    assert [p.answer for p in load_problems(str(tmp_path / "two"), split="dev").problems] == ["4"]
    with pytest.raises(ProblemError, match="has no test split; it has train, validation"):
        load_problems(str(tmp_path / "two"), split="test")
    held_out.save_to_disk(str(tmp_path / "one"))
    assert [p.id for p in load_problems(str(tmp_path / "one"), split="test").problems] == ["one-1"]


def test_a_folder_of_files_is_read_by_split(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", {"question": "1?", "answer": 1}, {"question": "2?", "answer": None})
    write(folder / "test.jsonl", {"question": "3?", "answer": 3})
    assert [p.answer for p in load_problems(str(folder), split="test").problems] == ["3"]
    with pytest.raises(ProblemError, match="row 2: 'answer' must be text or a number, found NoneType"):
        load_problems(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProblemError, match="cannot be loaded"):
        load_problems(str(tmp_path / "empty"))
