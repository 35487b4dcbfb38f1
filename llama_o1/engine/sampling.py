"""The random numbers of sampling: one uniform per (request seed, sample number, position).

A counter-based generator, so a sample draws the same numbers alone or inside any batch. Knows numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]

# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIFORM_BITS = 40  # few enough that uniform * total stays below total in float64, many enough to be exact


def uniforms(seeds: Sequence[int], numbers: Sequence[int], positions: Sequence[int]) -> Float64:
    """Uniforms in (0, 1), one per (seed, sample number, position); integers of any size and sign."""
    state = mix(_words(seeds))
    state = mix(state ^ mix(_words(numbers) + _GOLDEN))
    state = mix(state ^ mix(_words(positions) + _GOLDEN))
    high = (state >> np.uint64(64 - _UNIFORM_BITS)).astype(np.float64)
    return (high + 0.5) * 2.0**-_UNIFORM_BITS


def segment_seed(seed: int, number: int, position: int) -> int:
    """A seed in [0, 2^63) for a sample's draws from a position on, where another generator makes them."""
    state = mix(
        mix(mix(_words([seed])) ^ mix(_words([number]) + _GOLDEN)) ^ mix(_words([position]) + _GOLDEN)
    )
    return int(state[0] >> np.uint64(1))


def mix(words: UInt64) -> UInt64:
    """Each word sent through one step of SplitMix64."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def _words(integers: Sequence[int]) -> UInt64:
    return np.array([integer & 0xFFFFFFFFFFFFFFFF for integer in integers], dtype=np.uint64)
