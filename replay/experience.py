"""Experience: what one node of a finished tree teaches. Ragged, numpy only.

Knows no trees and no models: whoever collects fills it, the learner reads it.
Letters of a shape: C context tokens, T own tokens of the node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Experience:
    """One node: exactly the tokens the policy saw and made, and what came of them."""

    context: npt.NDArray[np.int32]  # [C] ids before the node's own
    ids: npt.NDArray[np.int32]  # [T] own ids, header to <start_of_rating>
    sampled: npt.NDArray[np.bool_]  # [T] False where the token was forced
    logprobs: npt.NDArray[np.float32]  # [T] under the sampled distribution; 0 where forced
    temperature: float  # of the sampled distribution
    advantage: float
    value: float  # what the model said after `ids`, in [0, 1]
    value_target: float  # what it should have said, in [0, 1]
    outcome: float | None  # grade of the node's own answer; None: it declared none
    version: int  # of the weights that made it
    action: str  # meta-action of the node
    problem: str  # id of the problem
    tree: str  # name of the tree within the run
    node: int  # local id in the tree
    parent: int  # local id of the parent
