"""Trees that several tests draw."""

from random import Random

from tree.actions import MetaAction
from tree.node import Node
from tree.record import to_row


def make_tree(*thoughts):
    """A root and thoughts given as (parent, action, text, fields); ids are ten times the index."""
    nodes = [Node(index=0, local_id=0, parent=-1, depth=0, action=MetaAction.PROBLEM, text="2 + 2?")]
    for index, (parent, action, text, fields) in enumerate(thoughts, start=1):
        depth = nodes[parent].depth + 1
        nodes.append(Node(index, 10 * index, parent, depth, MetaAction(action), text, **fields))
        nodes[parent].children.append(index)
    return nodes


def four_thoughts():
    """0 -> 1 -> 3 (right), 0 -> 2 -> 4 (wrong); the line through 2 is visited more."""
    return make_tree(
        (0, "expand", "add", {"value": 0.5, "visits": 2, "value_sum": 1.5}),
        (0, "divide", "halve", {"value": 0.25, "visits": 3, "value_sum": 0.75}),
        (1, "conclude", "four", {"value": 0.9, "outcome": 1.0, "answer": "4", "terminal": True}),
        (2, "conclude", "five", {"value": 0.8, "outcome": 0.0, "answer": "5", "terminal": True}),
    )


def a_row(nodes, answer="4"):
    return to_row(nodes, problem=nodes[0].text, answer=answer, confidence=0.5, tokens_used=7)


def many_thoughts(total):
    """A tree of this many nodes: each thought below one of the last fifty, every seventh a conclusion."""
    rng, thoughts, open_nodes = Random(0), [], [0]
    for index in range(1, total):
        ends = index % 7 == 0
        fields = {"value": rng.random(), "visits": 1 + rng.randrange(40), "tokens": 12}
        fields["value_sum"] = fields["value"] * fields["visits"]
        if ends:
            fields |= {"terminal": True, "answer": str(index % 10), "outcome": float(index % 10 == 7)}
        parent = rng.choice(open_nodes[-50:])
        thoughts.append((parent, "conclude" if ends else "expand", f"thought {index} goes on", fields))
        if not ends:
            open_nodes.append(index)
    return make_tree(*thoughts)
