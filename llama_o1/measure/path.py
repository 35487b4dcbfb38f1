"""How long a finished tree thought on the way to its answer, read from the record of its tokens."""

from __future__ import annotations

from llama_o1.measure.lengths import Length
from llama_o1.play.expand import Expander, trail_of
from llama_o1.play.methods import Method
from tree.actions import MetaAction
from tree.node import Tree


def length_of(tree: Tree, leaf: int | None, expander: Expander, method: Method) -> Length:
    """The length of the path to this conclusion; None: of the path that thought most.

    A path ends by itself where the model drew its conclusion: a line of text its delimiter before the limit,
    a thought the tag of a conclusion. Where kinds are not drawn by the model, no path of thoughts does.
    """
    if leaf is None:
        leaf = max(range(len(tree.nodes)), key=lambda i: (trail_of(tree, i).spent, _concludes(tree, i)))
    trail, concludes = trail_of(tree, leaf), _concludes(tree, leaf)
    if not concludes or trail.sample is None:
        return Length(trail.spent, 0, ended=False, declared=False)
    drawn = trail.sample.ids[trail.sample.sampled]
    if method == "line":
        ended = trail.spent < expander.settings.thinking_limit
    else:
        ended = bool((drawn == expander.codec.special.tags[MetaAction.CONCLUDE]).any())
    return Length(trail.spent, len(drawn), ended, tree.nodes[leaf].answer is not None)


def _concludes(tree: Tree, index: int) -> bool:
    return tree.nodes[index].action is MetaAction.CONCLUDE
