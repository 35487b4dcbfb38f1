"""A finished tree becomes experiences: one a thought, with the tokens exactly as they were drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llama_o1.play.expand import trail_of
from replay.experience import Experience
from tree.node import Tree
from tree.targets import AdvantageMode, targets


def collect(
    tree: Tree,
    *,
    problem: str,
    name: str,
    mode: AdvantageMode,
    mix: float,
    discount: float,
    trace: float,
    by_deviation: bool = False,
    skip_zero: bool = False,
    rewards: Mapping[int, float] | None = None,
) -> list[Experience]:
    """Experiences of every thought below the root, in the order they were made.

    With `skip_zero` those are left out whose advantage is 0. `rewards` as for `targets`.
    """
    taught = targets(
        tree, mode=mode, mix=mix, discount=discount, trace=trace, by_deviation=by_deviation, rewards=rewards
    )
    experiences = []
    for node, target in zip(tree.nodes[1:], taught[1:], strict=True):
        trail = trail_of(tree, node.index)
        sample = trail.sample
        assert sample is not None, "only the root has no sample"
        assert target is not None
        assert node.value is not None
        if skip_zero and target.advantage == 0:
            continue
        experiences.append(
            Experience(
                context=np.asarray(trail.context[: trail.before], np.int32),
                ids=sample.ids,
                sampled=sample.sampled,
                logprobs=np.where(sample.sampled, sample.logprobs, 0).astype(np.float32),
                temperature=trail.temperature,
                advantage=target.advantage,
                value=node.value,
                value_target=target.value,
                outcome=node.outcome,
                version=trail.version,
                action=str(node.action),
                problem=problem,
                tree=name,
                node=node.local_id,
                parent=tree.nodes[node.parent].local_id,
            )
        )
    return experiences
