"""Which batches an iteration learns from."""

import numpy as np
from learning import experience

from llama_o1.learning import Played, tree_by_tree


def played(*sizes):
    """Trees of so many experiences, their ids counted on."""
    ends = np.cumsum(sizes)
    return [
        Played(
            np.arange(end - size, end),
            [experience([1, 2], [3, 4], node=node) for node in range(size)],
            np.arange(end - size, end) + 1.0,
        )
        for end, size in zip(ends, sizes, strict=True)
    ]


def test_each_pass_teaches_every_thought_once_and_no_tree_is_cut():
    trees = played(3, 1, 4, 0, 2)
    whole = [set(tree.ids.tolist()) for tree in trees if len(tree.ids)]
    batches = list(tree_by_tree(trees, 2, 4, np.random.default_rng(0)))
    assert sorted(np.concatenate([batch.ids for batch in batches]).tolist()) == sorted(
        [*range(10), *range(10)]
    )
    for batch in batches:
        ids = set(batch.ids.tolist())
        assert all(tree <= ids or not tree & ids for tree in whole)
        assert len(batch.experiences) == len(batch.ids)
        assert batch.weights.tolist() == [i + 1 for i in batch.ids.tolist()]  # its counts
    short = [len(batch.ids) for batch in batches if len(batch.ids) < 4]
    assert len(short) <= 2  # a pass's last


def test_passes_come_in_another_order_and_the_same_generator_gives_the_same():
    trees = played(*[2] * 8)
    first, again = (list(tree_by_tree(trees, 2, 2, np.random.default_rng(5))) for _ in range(2))
    order = [batch.ids.tolist() for batch in first]
    assert order == [batch.ids.tolist() for batch in again]
    assert order[:8] != order[8:]


def test_no_pass_gives_no_batch():
    assert not list(tree_by_tree(played(2, 2), 0, 4, np.random.default_rng(0)))
