"""Ablations as effects: rows, table and picture from trials made by hand."""

import pytest
from trials import by_key, trial

from llama_o1.measure.effects import Contrast, effects, figures_of, verdict
from llama_o1.measure.forest import costs_table, draw, effects_table, markdown, terminal
from tree.repairs import Repairs

SETS = {"s": [f"p{i}" for i in range(8)], "t": ["q"]}
CONTRASTS = [Contrast("critics", "whole", "no_critic"), Contrast("marks", "whole", "no_marks")]


@pytest.fixture(scope="module")
def result():
    """On s: whole right on 6 of 8, no_critic on p0 alone, no_marks as whole; on t all are wrong."""
    right = {"whole": range(6), "no_critic": [0], "no_marks": range(6)}
    trials = by_key(
        trial(
            problem,
            method,
            "correct" if name == "s" and int(problem[1:]) in right[method] else "wrong",
            set=name,
            failed=3 if method == "no_critic" else 0,
            repairs=Repairs(2, 1, 0.5, 0.25) if method == "whole" else Repairs(),
        )
        for method in right
        for name, problems in SETS.items()
        for problem in problems
    )
    return {
        "model": "small",
        "budget": 100,
        "seeds": [0],
        "sets": SETS,
        "effects": effects(trials, CONTRASTS, SETS, 100, [0]),
        "figures": figures_of(trials, list(right), SETS, 100, [0]),
    }


def row_of(result, name, without):
    return next(row for row in result["effects"] if (row["set"], row["without"]) == (name, without))


def test_an_effect_is_what_is_right_with_the_part_less_what_is_right_without_it(result):
    row = row_of(result, "s", "no_critic")
    assert (row["accuracy_with"], row["accuracy_without"], row["difference"]) == (6 / 8, 1 / 8, 5 / 8)
    assert (row["wins"], row["losses"]) == (5, 0)
    assert row["p"] == 2 / 2**5  # five wins in five
    assert row["p_holm"] == 2 * row["p"]  # two contrasts, the least p first
    assert 0 < row["low"] < 5 / 8 < row["high"] <= 1
    assert row["verdict"] == "pays"


def test_all_problems_are_compared_as_one_and_each_set_for_itself(result):
    assert row_of(result, "all", "no_critic")["difference"] == pytest.approx(5 / 9)
    assert row_of(result, "t", "no_critic")["difference"] == 0


def test_what_changes_nothing_is_not_told_apart(result):
    row = row_of(result, "all", "no_marks")
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)
    assert row["verdict"] == "not told apart"
    assert verdict(-0.2, -0.1) == "costs"
    assert verdict(1e-17, 0.2) == verdict(-0.2, -1e-17) == "not told apart"


def test_with_several_seeds_a_problem_counts_by_its_mean():
    trials = by_key(
        trial("p", method, "correct" if seed in right else "wrong", seed=seed)
        for method, right in (("whole", {0, 1}), ("no_critic", {1}))
        for seed in (0, 1)
    )
    (row, _) = effects(trials, CONTRASTS[:1], {"s": ["p"]}, 100, [0, 1])
    assert (row["difference"], row["wins"], row["losses"]) == (0.5, 1, 0)


def test_the_table_shows_effects_in_points_by_set_and_what_repairs_came_to(result):
    head, first, second = effects_table(result)
    assert head[-2:] == ("s", "t")
    assert first[:5] == ("critics", "whole", "no_critic", "66.7", "11.1")
    assert first[-3:] == ("pays", "+62.5", "+0.0")
    assert second[7] == "not told apart"
    costs = {row[0]: row for row in costs_table(result)[1:]}
    assert costs["whole"][-3:] == ("9 of 18", "4.5", "2.2")
    assert costs["no_critic"][3] == "3.0"
    assert "no_marks" in terminal(result)
    assert markdown(result).count("| critics |") == 1


def test_the_picture_is_a_png(result, tmp_path):
    draw(result, tmp_path / "effects.png")
    assert (tmp_path / "effects.png").read_bytes().startswith(b"\x89PNG")
