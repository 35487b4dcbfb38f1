"""What the thoughts of a saved tree teach, beside each, for people who look at the tree.

Worked out when a tree is shown, so that the files of trees need not hold it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from replay.batch import priority_of
from tree.node import Tree
from tree.record import from_row
from tree.targets import AdvantageMode, targets


def with_lessons(
    row: dict[str, Any], *, mode: AdvantageMode, mix: float, discount: float, trace: float, by_deviation: bool
) -> dict[str, Any]:
    """The row with value target, advantage and replay priority of every thought below the root.

    The row as it is where a thought has no value: then there is nothing to compare its target with.
    """
    nodes, _ = from_row(row)
    values = [node.value for node in nodes[1:] if node.value is not None]
    if len(values) < len(nodes) - 1 or not values:
        return row
    tree = Tree(row["problem"], 0, nodes)
    told = row.get("rewards")
    worth = None if told is None else {n.index: told[str(n.local_id)] for n in nodes if n.outcome is not None}
    found = targets(
        tree, mode=mode, mix=mix, discount=discount, trace=trace, by_deviation=by_deviation, rewards=worth
    )
    taught = [target for target in found if target is not None]
    priorities = priority_of([t.advantage for t in taught], [t.value for t in taught], np.asarray(values))
    records = [
        record | {"value_target": target.value, "advantage": target.advantage, "priority": float(priority)}
        for record, target, priority in zip(row["nodes"][1:], taught, priorities, strict=True)
    ]
    return row | {"nodes": [row["nodes"][0], *records]}
