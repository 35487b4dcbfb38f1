"""How far a command is: a bar on a terminal, a line a minute elsewhere."""

import pytest

from llama_o1.progress import Lines, bar


@pytest.fixture
def said(caplog):
    caplog.set_level("INFO", "llama_o1.progress")
    return lambda: caplog.messages


def test_without_a_terminal_a_line_a_minute_says_how_far_it_is(said):
    now = 0.0
    lines = Lines(4, "nano", "problem", clock=lambda: now)
    lines.set_postfix({"nodes/s": "7"}, refresh=False)
    lines.update()  # at 0 s
    now = 60.0
    lines.update()
    lines.update()  # the last line is new
    assert said() == ["nano: 2 of 4 problems done (nodes/s=7)"]
    now = 120.0
    lines.update()  # all is done, which the command says itself
    assert len(said()) == 1


def test_a_count_without_a_known_end_names_none(said):
    now = 0.0
    with Lines(0, "read", "problem", clock=lambda: now) as lines:
        now = 61.0
        lines.update(3)
    assert said() == ["read: 3 problems done"]


def test_a_bar_is_lines_where_stderr_is_no_terminal(said):
    shown = bar(2, "search", "problem")
    shown.set_postfix_str("mcts")
    shown.update()
    shown.close()
    assert (type(shown), said()) == (Lines, [])
