"""The commands over the checker: pairs, gold answers, and what two problem sets share."""

import json

import pytest

from llama_o1.cli import main
from llama_o1.tasks.mixture import ProblemSet, select
from llama_o1.tasks.overlap import Question, ngrams, overlaps
from llama_o1.tasks.verify import verify


def run(capsys, *arguments):
    """Exit code, JSON lines of stdout and text of stderr."""
    code = main([str(argument) for argument in arguments])
    written = capsys.readouterr()
    return code, [json.loads(line) for line in written.out.splitlines()], written.err


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_pair_is_one_line_with_verdict_answer_rule_and_time(capsys, tmp_path):
    file = write(
        tmp_path / "pairs.jsonl",
        {"gold": "0.5", "prediction": r"\boxed{\frac12}"},
        {"gold": 18, "prediction": "#### 17", "id": "p2"},
        "",
        {"gold": "18", "prediction": "18"},
        {"gold": r"\sqrt{8}", "prediction": r"\boxed{2\sqrt{2}}"},
        {"gold": "18", "prediction": r"\boxed{9^{9^9}}"},
        {"gold": "24", "prediction": r"\boxed{4*6*1*1}", "numbers": [1, 1, 4, 6], "target": 24},
    )
    code, rows, _ = run(capsys, "grade", "--pairs", file)
    assert code == 0
    assert [(row["line"], row["verdict"], row["answer"], row["rule"]) for row in rows] == [
        (1, "correct", "0.5", "number"),
        (2, "wrong", "17", "number"),
        (4, "unparsed", None, "none declared"),
        (5, "correct", r"2\sqrt{2}", "symbolic"),
        (6, "timeout", "9^{9^9}", "too large"),
        (7, "correct", "4*6*1*1", "expression"),
    ]
    assert all(row["seconds"] >= 0 for row in rows)
    assert rows[1]["id"] == "p2"


def test_predictions_of_which_none_declares_anything_are_answers_themselves(capsys, tmp_path):
    rows = [{"gold": "18", "prediction": "18.0"}, {"gold": "18", "prediction": "The answer is not 18"}]
    file = write(tmp_path / "pairs.jsonl", *rows)
    assert [row["verdict"] for row in run(capsys, "grade", "--pairs", file)[1]] == ["correct", "unparsed"]
    strict = run(capsys, "grade", "--pairs", file, "--bare", "false")[1]
    assert [row["verdict"] for row in strict] == ["unparsed", "unparsed"]


def test_the_answer_is_counts_where_it_is_asked_for(capsys, tmp_path):
    texts = {
        "The answer is 18.": "correct",
        "The answer is not 18.": "unparsed",
        "answer: 17 or 18": "unparsed",
    }
    texts |= {
        "The answer is 17. No, the answer is 18": "correct",
        "the answer is 17": "wrong",
        "18": "unparsed",
    }
    file = write(tmp_path / "pairs.jsonl", *({"gold": "18", "prediction": text} for text in texts))
    rows = run(capsys, "grade", "--pairs", file, "--answer_is", "true")[1]
    assert [row["verdict"] for row in rows] == list(texts.values())
    assert verify("The answer is 18", "18").verdict == "unparsed"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not a line of JSON"),
        ("[1]", "line 2: expected a JSON object, found list"),
        ('{"gold": "1"}', "line 2: there is no 'prediction' among gold"),
        ('{"gold": "1", "prediction": null}', "line 2: 'prediction' must be text or a number, found null"),
        ('{"gold": ["1"], "prediction": "1"}', "line 2: 'gold' must be text or a number, found a list"),
        ('{"gold": " ", "prediction": "1"}', "line 2: 'gold' is empty"),
        ('{"gold": "1", "prediction": "1", "numbers": ["a"], "target": 1}', "line 2: an expression needs"),
    ],
)
def test_a_broken_pair_is_named_by_its_line_before_anything_is_graded(capsys, tmp_path, line, words):
    file = write(tmp_path / "pairs.jsonl", {"gold": "1", "prediction": "1"}, line)
    code, rows, errors = run(capsys, "grade", "--pairs", file)
    assert (code, rows) == (2, [])
    assert words in errors
    assert errors.count("\n") == 1
    code, rows, _ = run(capsys, "grade", "--pairs", file, "--skip_bad_lines", "true")
    assert (code, len(rows)) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --pairs FILE or --problems FILE"),
        (("--pairs", "nope.jsonl"), "problem file nope.jsonl cannot be read"),
        (("--pairs", "x", "--workers", "0"), "workers must be at least 1"),
        (("--pairs", "x", "--memory_mb", "3"), "memory_mb must be at least 256, got 3"),
    ],
)
def test_a_grading_that_cannot_be_is_refused(capsys, arguments, words):
    code, rows, errors = run(capsys, "grade", *arguments)
    assert (code, rows) == (2, [])
    assert words in errors


def test_gold_answers_are_checked_against_themselves(capsys, tmp_path):
    good = {"id": "good", "question": "How many?", "answer": "1,234"}
    bad = {"id": "bad", "question": "Make 3.", "answer": "1+1", "numbers": [1, 1], "target": 3}
    file = write(tmp_path / "problems.jsonl", good, bad)
    code, rows, _ = run(capsys, "grade", "--problems", file)
    assert code == 1
    assert [(row["id"], row["verdict"], row["rule"]) for row in rows] == [
        ("good", "correct", "string"),
        ("bad", "wrong", "target"),
    ]
    assert run(capsys, "grade", "--problems", write(tmp_path / "good.jsonl", good))[0] == 0


def test_bad_gold_answers_are_listed_in_one_error_before_a_model_is_loaded(capsys, tmp_path):
    good = {"id": "good", "question": "How many?", "answer": "5"}
    bad = [
        {"id": f"b{i}", "question": "Make 3.", "answer": "1+1", "numbers": [1, 1], "target": 3}
        for i in range(7)
    ]
    file = write(tmp_path / "mine.jsonl", good, *bad)
    code, _, errors = run(
        capsys, "train", "--problems", file, "--run_dir", tmp_path / "run", "--model.path", tmp_path / "none"
    )
    assert code == 2
    assert "7 gold answers that do not verify" in errors
    assert "b0 of mine: '1+1' is wrong (target)" in errors
    assert "and 2 more" in errors
    assert not (tmp_path / "run").exists()
    (kept,) = select(ProblemSet(str(file)), "train", skip_bad_lines=True)
    assert kept.id == "good"


def test_overlaps_are_words_in_a_row_in_lower_case_with_spaces_folded(capsys, caplog, tmp_path):
    caplog.set_level("INFO", "llama_o1.curate.command")
    nine = "One two  three four five six seven\neight nine"
    assert ngrams(nine) == [
        "one two three four five six seven eight",
        "two three four five six seven eight nine",
    ]
    assert ngrams("one two three four five six seven") == []
    train = write(
        tmp_path / "train.jsonl", {"id": "t", "question": f"Zero {nine} ten"}, {"question": "Other words"}
    )
    held = write(
        tmp_path / "eval.jsonl", {"id": "a", "question": "no"}, {"id": "e", "question": nine.upper()}
    )
    code, rows, _ = run(capsys, "curate", "overlap", train, held)
    assert code == 0
    assert rows == [
        {"eval": "e", "train": "t", "ngrams": 2, "text": "one two three four five six seven eight"}
    ]
    assert caplog.messages[-1] == f"1 pairs of problems of {train} and {held} share 8 words in a row"
    assert run(capsys, "curate", "overlap", train, held, "--words", "10")[1] == []
    assert caplog.messages[-1] == f"0 pairs of problems of {train} and {held} share 10 words in a row"


def test_every_pair_that_overlaps_is_listed_once():
    text = "a b c d e f g h i"
    found = list(overlaps([Question("t1", text), Question("t2", "x " + text)], [Question("e", text)]))
    assert [(o.eval, o.train, o.ngrams) for o in found] == [("e", "t1", 2), ("e", "t2", 2)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("overlop", "a", "b"), "no curation 'overlop'"),
        (("overlap", "nope", "gsm8k"), "no problem set is called 'nope'"),
        (
            ("overlap", "{file}", "gsm8k", "--column", "text"),
            "line 1: there is no text in 'text' among question",
        ),
        (("overlap", "{file}", "{file}", "--words", "0"), "words must be at least 1"),
    ],
)
def test_an_overlap_that_cannot_be_is_refused(capsys, tmp_path, arguments, words):
    file = write(tmp_path / "file.jsonl", {"question": "q"})
    code, rows, errors = run(capsys, "curate", *(part.replace("{file}", str(file)) for part in arguments))
    assert (code, rows) == (2, [])
    assert words in errors
