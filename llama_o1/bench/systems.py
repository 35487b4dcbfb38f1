"""Those who do a bench's work in this process: our engine, and transformers' generate."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from llama_o1.bench.measure import Spent, timed
from llama_o1.bench.work import RATING, EndsAt, Spaced, Work
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Program, Request, free_running
from llama_o1.threads import torch_threads


class System(Protocol):
    """Who does work."""

    def run(self, work: Work) -> Spent:
        """Do it all at once; `units` are sampled tokens, or prompts where values are read."""
        ...


class Ours:
    """Our engine, as a search uses it: log-probs and entropy of every token, values where wanted."""

    def __init__(self, model: Any, *, slots: int, cache_bytes: int, threads: int) -> None:
        self._engine = LocalEngine(model, slots=slots, cache_bytes=cache_bytes, threads=threads)

    def run(self, work: Work) -> Spent:
        """Submit everything, poll until it came back; nothing is known but what is primed."""
        self._engine.load(None, 0)
        self._finish([Request(tuple(prefix), 0, seed=0, rating=RATING) for prefix in work.primed])
        requests = [_request(work, i) for i in range(len(work.prompts))]
        return timed(lambda: self._finish(requests))

    def _finish(self, requests: list[Request]) -> int:
        """Sampled tokens, or values where none were wanted."""
        for key, request in enumerate(requests):
            self._engine.submit(key, request)
        left, units = len(requests), 0
        while left:
            for _, reply in self._engine.poll():
                left -= 1
                units += sum(int(s.sampled.sum()) if len(s.ids) else 1 for s in reply.samples)
        return units


class Generate:
    """transformers' `generate`: one left-padded batch, sampling at temperature 1, no end before its time."""

    def __init__(self, model: Any, *, threads: int) -> None:
        self._model = model
        self._threads = threads

    def run(self, work: Work) -> Spent:
        """One call."""
        width = max(map(len, work.prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in work.prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in work.prompts])
        self._model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=work.draws,
            max_new_tokens=work.draws,
            pad_token_id=0,
        )

        def call() -> int:
            out = self._model.generate(input_ids=ids, attention_mask=mask)
            return int(out.shape[0] * (out.shape[1] - width))

        with torch_threads(self._threads):
            return timed(call)


def _request(work: Work, i: int) -> Request:
    program: Program = free_running
    if work.lengths:
        program = EndsAt(work.lengths[i])
    elif work.forced:
        program = Spaced(work.draws, tuple(work.forced))
    rating = None if work.draws else RATING
    return Request(tuple(work.prompts[i]), work.allowance, i, program, work.samples, rating=rating)
