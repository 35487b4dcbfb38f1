"""Work that every engine can be given: prompts in token ids and what to do with them.

Goes to the vLLM process as JSON, so it holds plain numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from llama_o1.bench.settings import EngineBench
from llama_o1.engine.protocol import Draw, Force, Halt, Span, Step

RATING = (1, 2)  # ids between which values are read; a random model rates by any two


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts to continue or, with `draws` 0, to rate."""

    prompts: list[list[int]]
    draws: int = 0  # tokens sampled in each segment
    samples: int = 1
    segments: int = 1
    forced: list[int] = field(default_factory=list)  # appended after each segment but the last
    primed: list[list[int]] = field(default_factory=list)  # computed before the clock starts
    lengths: list[int] = field(default_factory=list)  # where each prompt's sample ends; known to nobody

    @property
    def sampled(self) -> int:
        """Tokens sampled in all."""
        return sum(self.lengths) or len(self.prompts) * self.samples * self.segments * self.draws

    @property
    def allowance(self) -> int:
        """Tokens of one sample, forced ones included."""
        return self.segments * self.draws + (self.segments - 1) * len(self.forced)


@dataclass(frozen=True, slots=True)
class Spaced:
    """The program that forces the same ids after every so many draws."""

    draws: int
    forced: tuple[int, ...]

    def __call__(self, ids: Sequence[int]) -> Step:
        """What comes next by place alone."""
        place = len(ids) % (self.draws + len(self.forced))
        return Draw() if place < self.draws else Force(self.forced[place - self.draws :])

    def ahead(self, ids: Sequence[int]) -> Span:
        """To the end of the segment."""
        return Span(self.draws - len(ids) % (self.draws + len(self.forced)), frozenset())


@dataclass(frozen=True, slots=True)
class EndsAt:
    """The program that halts at a length which the engine is not told."""

    length: int

    def __call__(self, ids: Sequence[int]) -> Step:
        """What comes next by length alone."""
        return Draw() if len(ids) < self.length else Halt()


def works(row: str, settings: EngineBench, vocab: int, repeat: int) -> list[Work]:
    """The work of a row, to be done one after the other; new prompts in every repeat."""
    s, rng = settings, Random(f"{settings.seed}/{row}/{repeat}")

    def prompts(count: int, length: int, shortest: int | None = None) -> list[list[int]]:
        lengths = [rng.randint(shortest or length, length) for _ in range(count)]
        return [[rng.randrange(vocab) for _ in range(length)] for length in lengths]

    makers: dict[str, Callable[[], list[Work]]] = {
        "generate_b1": lambda: [Work(prompts(1, s.prompt), s.new) for _ in range(8)],
        "generate_b16": lambda: [Work(prompts(16, s.prompt), s.new) for _ in range(2)],
        "generate_b64": lambda: [Work(prompts(64, s.prompt), s.new)],
        "generate_b64_padded": lambda: [Work(prompts(64, s.prompt, s.prompt * 3 // 4), s.new)],
        "generate_b256": lambda: [Work(prompts(256, s.prompt), s.new)],
        "nodes4": lambda: [Work(prompts(s.nodes, s.prompt), s.new, s.samples)],
        "prefix_sharing": lambda: [Work(prompts(s.nodes, s.prompt), s.new, s.samples)],
        "segments": lambda: [_segments(prompts(s.nodes, s.prefix), s, prompts(1, s.forced)[0])],
        "leaf_scoring": lambda: [_leaves(prompts(s.leaves, s.prefix), prompts(s.leaves**2, s.suffix))],
        "prefill": lambda: [Work(prompts(s.nodes, s.prefix), 1)],
        "ragged": lambda: [_ragged(prompts(s.slots * 4, s.prompt), s.new, rng)],
        "forced": lambda: [_segments(prompts(s.nodes, s.prompt), s, prompts(1, 1)[0])],
    }
    return makers[row]()


def unforced(work: Work) -> Work:
    """The same draws in one segment."""
    return Work(work.prompts, work.draws * work.segments, work.samples)


def equal(work: Work) -> Work:
    """The same draws, the same for all; nobody knows the length beforehand here either."""
    mean = sum(work.lengths) // len(work.lengths)
    return Work(work.prompts, work.draws, lengths=[mean] * len(work.lengths))


def _segments(prompts: list[list[int]], s: EngineBench, forced: list[int]) -> Work:
    return Work(prompts, s.segment, s.samples, s.new // s.segment, forced)


def _leaves(prefixes: list[list[int]], suffixes: list[list[int]]) -> Work:
    leaves = [prefixes[i % len(prefixes)] + suffix for i, suffix in enumerate(suffixes)]
    return Work(leaves, primed=prefixes)


def _ragged(prompts: list[list[int]], mean: int, rng: Random) -> Work:
    """Lengths uniform around the mean, from an eighth of it; they come to the mean exactly."""
    spread = mean - max(1, mean // 8)
    half = [rng.randint(-spread, spread) for _ in range(len(prompts) // 2)]
    lengths = [mean + difference for difference in half] + [mean - difference for difference in half]
    rng.shuffle(lengths)
    return Work(prompts, mean + spread, lengths=lengths)
