"""Tokens as text: joined they are what the model saw, and what was forced is told from what was drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.play.expand import ThoughtSettings, trail_of
from llama_o1.play.methods import MethodSettings
from llama_o1.play.pieces import pieces, tree_pieces, with_pieces
from llama_o1.play.selfplay import tree_row
from tree.page import html_page
from tree.search import SearchSettings


@pytest.fixture(scope="module")
def tree(grow):
    method = MethodSettings(budget_tokens=1500, tree=SearchSettings(simulations=12))
    (tree,) = grow(["What is 2 + 3?"], ThoughtSettings(path_budget=48, max_text=12, calculator=True), method)
    return tree


def test_the_pieces_of_a_path_are_its_context_as_text(codec, tree):
    made = tree_pieces(tree, codec)
    assert len(tree.nodes) > 5
    for node in tree.nodes:
        joined = "".join(piece.text for i in tree.path(node.index) for piece in made[i])
        assert joined == codec.decode(trail_of(tree, node.index).context)


def test_a_piece_has_a_logprob_where_the_policy_drew_its_token(codec, tree):
    made = tree_pieces(tree, codec)
    assert all(piece.logprob is None for piece in made[0])
    for node in tree.nodes[1:]:
        sample = trail_of(tree, node.index).sample
        drawn = [piece.logprob is not None for piece in made[node.index]]
        assert drawn == [*sample.sampled.tolist(), False, False]  # the rating and its end are forced
        assert len(drawn) == node.tokens
        sampled = [piece.logprob for piece in made[node.index] if piece.logprob is not None]
        assert sum(sampled) / len(sampled) == pytest.approx(node.logprob, abs=1e-3)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 1023) | st.integers(0, 40), max_size=12))
def test_joined_pieces_are_the_text_whatever_its_bytes(tiny_tokenizer, ids):
    def decode(ids):
        return tiny_tokenizer.decode(ids, skip_special_tokens=False)

    ids = [token % len(tiny_tokenizer) for token in ids]
    made = pieces(decode, [], ids, [None] * len(ids))
    assert len(made) == len(ids)
    assert "".join(piece.text for piece in made) == decode(ids)


def test_a_character_of_several_tokens_stands_with_the_last(tiny_tokenizer):
    ids = tiny_tokenizer.encode("數", add_special_tokens=False, split_special_tokens=True)
    made = pieces(
        lambda ids: tiny_tokenizer.decode(ids, skip_special_tokens=False), [], ids, [-0.5] * len(ids)
    )
    assert [piece.text for piece in made] == ["", "", "數"]  # three bytes in UTF-8


def test_a_row_with_pieces_makes_a_page(codec, tree):
    row = with_pieces(tree_row(tree), tree_pieces(tree, codec))
    assert all(record["pieces"] for record in row["nodes"])
    assert html_page([row], "t")
    assert "pieces" not in tree_row(tree)["nodes"][0]
