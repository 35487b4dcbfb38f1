"""The prefix cache: token-exact, and never more than its limit."""

from __future__ import annotations

import torch

from llama_o1.engine.cache import PrefixCache


def fill(cache: PrefixCache, tokens: list[int]) -> None:
    """Insert with one number a token, which tells the prefix it stands for."""
    kv = torch.tensor([float(hash(tuple(tokens[: i + 1])) % 997) for i in range(len(tokens))])
    cache.insert(tokens, len(tokens), lambda start, end: kv[None, None, start:end, None].clone())


def known(cache: PrefixCache, tokens: list[int]) -> int:
    """Tokens of a known prefix, after a look at what is held for them."""
    length, _, pieces = cache.match(tokens, len(tokens))
    held = [number for piece in pieces for number in piece.flatten().tolist()]
    assert held == [float(hash(tuple(tokens[: i + 1])) % 997) for i in range(length)]
    return length


def test_the_cache_is_token_exact() -> None:
    cache = PrefixCache(1 << 20)
    fill(cache, [1, 2, 3, 4, 5])
    fill(cache, [1, 2, 3, 9])
    fill(cache, [1, 2, 3, 4, 5, 6])
    assert known(cache, [1, 2, 3, 4, 5, 6, 7]) == 6
    assert known(cache, [1, 2, 3, 9, 9]) == 4
    assert known(cache, [1, 2, 8]) == 2
    assert known(cache, [2, 1]) == 0
    assert cache.match([1, 2, 3, 4], 2)[0] == 2
    assert cache.held_bytes == 4 * (3 + 2 + 1 + 1)


def test_the_cache_drops_the_leaf_that_was_not_used_for_longest() -> None:
    cache = PrefixCache(4 * 6)  # six tokens of 4 bytes
    fill(cache, [1, 2, 3])
    fill(cache, [1, 2, 4])
    fill(cache, [5])
    known(cache, [1, 2, 3])
    fill(cache, [6, 7])
    assert [known(cache, tokens) for tokens in ([1, 2, 3], [1, 2, 4], [5], [6, 7])] == [3, 2, 1, 2]
    fill(cache, [8, 8, 8, 8, 8, 8, 8])
    assert cache.held_bytes <= 24
