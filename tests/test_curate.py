"""s1's curation: what each stage drops, and that a selection can be made again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.cli import main
from llama_o1.curate.diversity import select
from llama_o1.curate.quality import RULES, Limits, Texts, broken_rules
from llama_o1.tasks.mixture import ProblemSet
from llama_o1.tasks.mixture import select as problems_of
from llama_o1.tasks.problems import load_problems

EASY = list(problems_of(ProblemSet("word", max_steps=1, limit=6), "train"))
HARD = [
    {
        "id": f"hard-{i}",
        "question": f"Zoltan stacks {i} crates beside the quay, takes a ninth away, doubles them; how many?",
        "answer": str(16 * i),
        "solution": f"{'He counts again. ' * i}9 crates\n#### {16 * i}",
        "topic": "harbour" if i % 2 else "quay",
    }
    for i in range(1, 7)
]
SOLVER = """
solvers:
  nano:
    model: {path: nano}
    search: {method: greedy, budget_tokens: 192}
    thoughts: {path_budget: 128, max_text: 40, max_answer: 24, calculator: true}
engine: {threads: 1, slots: 8}
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def curate(*arguments):
    return main(["curate", *map(str, arguments)])


def easy_rows():
    for problem in EASY:
        steps = "".join(f"<<{s.expression}={s.result}>>{s.result} {s.unit}\n" for s in problem.steps)
        yield {
            "id": problem.id,
            "question": problem.question,
            "answer": problem.answer,
            "solution": f"{steps}#### {problem.answer}",
            "topic": "easy",
        }


def stage(out, name):
    return next(s for s in json.loads((out / "funnel.json").read_text())["stages"] if s["name"] == name)


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_planted_test_question_is_found_counted_and_not_selected(tmp_path, capsys):
    held = load_problems("gsm8k", split="test", limit=2).problems
    words = held[1].question.split()[3:11]  # eight words in a row, in other words
    planted = [
        {"id": "whole", "question": held[0].question.upper(), "answer": "1", "solution": "#### 1"},
        {
            "id": "part",
            "question": f"Yesterday, {' '.join(words)} or so, it seems?",
            "answer": "1",
            "solution": "#### 1",
        },
    ]
    short = {"id": "seven", "question": f"Yesterday, {' '.join(words[:7])} or not, it seems?", "answer": "2"}
    source = write(tmp_path / "mine.jsonl", [*planted, {**short, "solution": "#### 2"}, HARD[0]])
    flags = ("--problems", source, "--against", "gsm8k", "--domains.by", "set", "--count", 10)
    assert curate(*flags, "--out", tmp_path / "out") == 0
    assert stage(tmp_path / "out", "decontaminated") == {
        "name": "decontaminated", "kept": 2, "dropped": {"in gsm8k": 2}, "broken": None
    }  # fmt: skip
    assert {row["id"] for row in rows_of(tmp_path / "out" / "curated.jsonl")} == {
        "mine/seven",
        "mine/hard-1",
    }
    printed = capsys.readouterr().out
    assert "2 in gsm8k" in printed
    assert (tmp_path / "out" / "funnel.png").read_bytes().startswith(b"\x89PNG")


def test_a_held_out_question_of_fewer_words_than_an_ngram_is_found_as_a_whole(tmp_path):
    held = write(tmp_path / "held.jsonl", [{"question": "What is 2 +  2, then?"}])
    mine = {"id": "a", "question": "what is 2 + 2, then?", "answer": "4", "solution": "#### 4"}
    source = write(tmp_path / "mine.jsonl", [mine, HARD[0]])
    assert curate("--problems", source, "--against", held, "--domains.by=set", "--out", tmp_path / "o") == 0
    assert stage(tmp_path / "o", "decontaminated")["dropped"] == {f"in {held}": 1}


def test_what_a_model_solves_is_dropped_and_answers_are_asked_once(tmp_path, capsys, caplog):
    source = write(tmp_path / "mine.jsonl", [*easy_rows(), *HARD])
    config = tmp_path / "config.yaml"
    config.write_text(SOLVER)
    flags = ("--config", config, "--problems", source, "--against", "[]", "--domains.by=set", "--count=3")
    caplog.set_level("INFO")
    assert curate(*flags, "--out", tmp_path / "out") == 0
    dropped = stage(tmp_path / "out", "difficulty")["dropped"]
    trials = rows_of(tmp_path / "out" / "difficulty" / "nano" / "trials.jsonl")
    right = [trial["problem"] for trial in trials if trial["verdict"] == "correct"]
    assert dropped == {"solved by nano": len(right)}
    assert {f"mine/{problem.id}" for problem in EASY[:3]} <= set(
        right
    )  # one-step problems, which it was taught
    chosen = rows_of(tmp_path / "out" / "curated.jsonl")
    assert len(chosen) == 3
    assert not {row["id"] for row in chosen} & set(right)

    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert "nano: asked 12" in caplog.text
    caplog.clear()
    assert curate(*flags, "--out", tmp_path / "out") == 0
    assert "nano: 12 of 12 answers are there already" in caplog.text
    assert "asked" not in caplog.text
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir() if f.is_file()} == before


KILLED = """
import os, sys
from llama_o1.measure.ledger import Ledger
add, added = Ledger.add, []
def counting(ledger, trial):
    add(ledger, trial)
    added.append(trial)
    if len(added) == 5:
        os.kill(os.getpid(), 9)
Ledger.add = counting
from llama_o1.cli import main
main(sys.argv[1:])
"""


def test_a_curation_killed_while_models_answer_keeps_what_was_answered(tmp_path, caplog):
    source = write(tmp_path / "mine.jsonl", [*easy_rows(), *HARD])
    config = tmp_path / "config.yaml"
    config.write_text(SOLVER)
    flags = ["--config", config, "--problems", source, "--against", "[]", "--domains.by=set", "--count=3"]
    arguments = [str(one) for one in ("curate", *flags, "--out")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments, str(tmp_path / "a")], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    answered = (tmp_path / "a" / "difficulty" / "nano" / "trials.jsonl").read_bytes()
    assert answered.count(b"\n") == 5
    caplog.set_level("INFO")
    assert main([*arguments, str(tmp_path / "a")]) == 0
    assert "nano: 5 of 12 answers are there already" in caplog.text
    assert (tmp_path / "a" / "difficulty" / "nano" / "trials.jsonl").read_bytes().startswith(answered)
    assert main([*arguments, str(tmp_path / "b")]) == 0
    assert all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        for name in ("curated.jsonl", "funnel.json")
    )


def test_a_manifest_makes_the_same_bytes_without_model_and_tells_when_a_source_changed(tmp_path, capsys):
    source = write(tmp_path / "mine.jsonl", HARD)
    flags = ("--problems", source, "--against", "[]", "--domains.by", "column", "--columns.domain", "topic")
    assert curate(*flags, "--count", 4, "--seed", 3, "--out", tmp_path / "out") == 0
    manifest = tmp_path / "out" / "manifest.json"
    assert curate("--manifest", manifest, "--out", tmp_path / "again.jsonl") == 0
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out" / "curated.jsonl").read_bytes()

    first = rows_of(tmp_path / "again.jsonl")[0]["id"].removeprefix("mine/")
    write(
        source, [{**row, "answer": "0", "solution": "#### 0"} if row["id"] == first else row for row in HARD]
    )
    capsys.readouterr()
    assert curate("--manifest", manifest, "--out", tmp_path / "third.jsonl") == 2
    assert f"problem mine/{first} is another one" in capsys.readouterr().err
    assert not (tmp_path / "third.jsonl").exists()
    assert curate("--manifest", source, "--out", tmp_path / "third.jsonl") == 2
    assert "is no manifest" in capsys.readouterr().err
    assert curate("--manifest", manifest) == 2
    assert "--manifest needs --out" in capsys.readouterr().err


def test_a_selection_is_read_as_worked_problems_and_follows_from_its_seed(tmp_path):
    flags = ("--problems", json.dumps([{"name": "gsm8k", "limit": 40}]), "--against", "svamp", "--count", 12)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert curate(*flags, "--domains.clusters", 3, "--seed", seed, "--out", tmp_path / name) == 0
    a, b, c = ((tmp_path / name / "curated.jsonl").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    read = load_problems(str(tmp_path / "a" / "curated.jsonl")).problems
    stored = {f"gsm8k/{p.id}": p for p in load_problems("gsm8k", limit=40).problems}
    assert len(read) == 12
    for problem in read:
        assert (problem.question, problem.answer) == (stored[problem.id].question, stored[problem.id].answer)
        assert problem.steps == stored[problem.id].steps
    assert len({row["domain"] for row in rows_of(tmp_path / "a" / "curated.jsonl")}) == 3


def test_hidden_states_of_a_model_are_clustered_too(tmp_path, tiny_model):
    flags = ("--domains.embedding", "model", "--domains.model", tiny_model, "--domains.clusters", 2)
    problems = json.dumps([{"name": "gsm8k", "limit": 20}])
    assert curate("--problems", problems, "--against=[]", *flags, "--out", tmp_path / "out", "--count=6") == 0
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert [domain["pool"] for domain in funnel["domains"]] == sorted(
        (domain["pool"] for domain in funnel["domains"]), reverse=True
    )
    assert sum(domain["pool"] for domain in funnel["domains"]) == 20


def test_clusters_without_their_library_name_the_extra_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("llama_o1.curate.domains.find_spec", lambda name: None)
    assert curate("--problems", "gsm8k", "--out", tmp_path / "out") == 2
    assert ".[curate]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


TRACE = "3 + 4 = 7\n#### 7"


@pytest.mark.parametrize(
    ("rule", "question", "trace"),
    [
        ("short question", "Add three.", TRACE),
        ("picture", "What is the area of the triangle shown in the figure below?", TRACE),
        ("picture", "What does ![graph](a.png) show us here today?", TRACE),
        ("drawing", "Find the angle. [asy] draw((0,0)--(1,1)); [/asy] What is it?", TRACE),
        ("drawing", "How many crosses are in this?\n+--+--+\n|##|  |\n+--+--+\nCount all of them.", TRACE),
        ("numbering", "Problem 12. How many apples does she have left?", TRACE),
        ("numbering", "(b) Hence find how many apples she has left.", TRACE),
        ("numbering", "7. Find the number of apples that she has left.", TRACE),
        ("link", "See https://example.org and tell how many there are.", TRACE),
        ("damaged text", "How many apples&nbsp;does she have left now?", TRACE),
        ("no trace", "How many apples does she have left now?", ""),
        ("api error", "How many apples does she have left now?", "Error: rate limit exceeded"),
        ("api error", "How many apples does she have left now?", "I'm sorry, I cannot answer that."),
        ("long trace", "How many apples does she have left now?", "so " * 101),
        ("repeating trace", "How many apples does she have left now?", "let me think again\n" * 4),
        ("wrong trace", "How many apples does she have left now?", "3 + 4 = 8\n#### 8"),
        ("gold answer", "How many apples does she have left now?", "it is 7 apples"),
    ],
)
def test_each_format_rule_drops_what_it_is_for(rule, question, trace):
    texts = Texts(question, trace, lambda: "8" not in trace, lambda: "it is" not in trace)
    limits = Limits(least_words=5, longest_trace=100, length=len(trace.split()))
    assert broken_rules(texts, limits, tuple(RULES)) == [rule]


@pytest.mark.parametrize(
    "question",
    [
        "After she drew the puzzle picture she drew the rest picture by picture; how many?",
        "There are 12. How many apples does she have left now?",
        "She sees 5 pictures in a gallery; how many figures are drawn on two of them?",
        "5 apples and 3 pears cost $4.50 in all; what does a pear cost?",
        "A 3 x 4 table:\n1 2 3\n4 5 6\nWhat is the sum of all its numbers?",
    ],
)
def test_no_format_rule_drops_a_plain_question(question):
    texts = Texts(question, TRACE, lambda: True, lambda: True)
    assert broken_rules(texts, Limits(5, 100, 5), tuple(RULES)) == []


def test_a_question_again_is_counted_apart_where_its_answer_differs(tmp_path):
    one = HARD[0]
    again = {**one, "id": "again", "question": "  " + one["question"].upper()}
    other = {**one, "id": "other", "answer": "5", "solution": "#### 5"}
    source = write(tmp_path / "mine.jsonl", [one, again, other, HARD[1]])
    assert curate("--problems", source, "--against=[]", "--domains.by=set", "--out", tmp_path / "out") == 0
    assert stage(tmp_path / "out", "deduplicated")["dropped"] == {"again": 1, "again, with another answer": 1}


def test_a_set_that_shrinks_to_nothing_says_where(tmp_path, capsys):
    source = write(tmp_path / "mine.jsonl", [{**HARD[0], "solution": ""}])
    flags = ("--problems", source, "--against=[]", "--domains.by=set", "--out", tmp_path / "out")
    assert curate(*flags) == 2
    assert "no problem is left after the stage quality (1 no trace)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--count", 0), "count must be at least 1, got 0"),
        (("--rules", "pictures"), "no rule 'pictures', did you mean 'picture'?"),
        (("--domains.by", "column"), "needs columns.domain, got none"),
        (("--domains.embedding", "model"), "domains.model belongs to domains.embedding model"),
        (("--problems", "word", "--domains.by=set"), "is generated without end"),
        (("overlapp",), "no curation 'overlapp'"),
    ],
)
def test_a_curation_that_cannot_be_is_refused(tmp_path, capsys, flags, words):
    extra = () if flags[0] == "overlapp" else ("--out", tmp_path / "out")
    assert curate(*flags, *extra) == 2
    assert words in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert curate("--problems", "gsm8k", "--domains.by=set", "--out", tmp_path) == 2
    assert "holds mine.txt" in capsys.readouterr().err


def test_domains_are_drawn_uniformly_and_in_them_by_halves_of_rank():
    # Two domains, three traces and one: the first draw takes the short-listed domain half of the time, and
    # of the three the longest with 4/7, the next with 2/7, the shortest with 1/7.
    domains, lengths = ["a", "a", "a", "b"], [10, 30, 20, 5]
    draws = 20_000
    first = Counter(select(domains, lengths, 1, Random(seed))[0] for seed in range(draws))
    for index, share in ((3, 1 / 2), (1, 2 / 7), (2, 1 / 7), (0, 1 / 14)):
        assert abs(first[index] / draws - share) < 0.015  # over four standard deviations


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=30),
    st.integers(0, 40),
    st.integers(0, 5),
)
def test_a_selection_repeats_nothing_and_each_first_part_is_a_selection(pool, count, seed):
    domains, lengths = [domain for domain, _ in pool], [length for _, length in pool]
    drawn = select(domains, lengths, count, Random(seed))
    assert len(drawn) == len(set(drawn)) == min(count, len(pool))
    assert drawn[: count // 2] == select(domains, lengths, count // 2, Random(seed))


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        ("attempts: 0", "attempts must be at least 1, got 0"),
        ("attempts: 2", "attempts of a greedy line are all the same, got 2"),
        ("search: {method: greedy, run_budget_tokens: 9}", "run_budget_tokens is shared by all problems"),
    ],
)
def test_a_solver_that_cannot_be_is_refused(tmp_path, capsys, solver, words):
    config = tmp_path / "config.yaml"
    config.write_text(f"solvers:\n  nano:\n    {solver}\n")
    assert curate("--config", config, "--out", tmp_path / "out") == 2
    assert words in capsys.readouterr().err
