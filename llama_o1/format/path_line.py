"""PathLine: a graded path as token ids, labels for the policy and values for the ends of its steps.

What AlphaMath calls value data. Knows no trees and no model: play/path_lines.py fills it, learn/paths.py
reads it.
Letters of a shape: T tokens of the path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORE = -100  # the ignore index of cross-entropy; no value in [-1, 1], so it serves the values as well


@dataclass(frozen=True, slots=True, eq=False)
class PathLine:
    """One path, root to the `<start_of_rating>` of its last thought."""

    problem: str
    right: bool
    ids: npt.NDArray[np.int32]  # [T]
    labels: npt.NDArray[np.int32]  # [T] the id where it is taught; all IGNORE on a wrong path
    step_values: npt.NDArray[np.float32]  # [T] in [-1, 1] at the last token of a thought, else IGNORE

    def row(self) -> dict[str, object]:
        """As JSON holds it."""
        return {
            "problem": self.problem,
            "right": self.right,
            "ids": self.ids.tolist(),
            "labels": self.labels.tolist(),
            "step_values": [round(float(value), 6) for value in self.step_values],
        }
