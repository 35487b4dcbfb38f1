"""Tree search one thought at a time, as in LLaMA-O1: what `bench search` compares ours with.

One `generate` continues a thought and one more forward pass reads its value; nothing is batched, no keys
and values outlive a call. The tree, its settings, the prompts and the lengths are ours; budget marks are
left out, which saves the loop their tokens. LLaMA-O1's own code is slower still.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from llama_o1.engine.draw import rating_value
from llama_o1.engine.protocol import Reply, Sample
from llama_o1.play.expand import Expander, trail_of
from llama_o1.play.judge import Judge
from llama_o1.threads import torch_threads
from tree.actions import MetaAction
from tree.interleave import Search
from tree.node import Ask, Failed, Told, Tree


class PlainLoop:
    """Grows one tree at a time."""

    def __init__(self, model: Any, expander: Expander, *, threads: int) -> None:
        self._model = model
        self._expander = expander
        self._threads = threads
        codec = expander.codec
        self._ends = sorted(codec.not_in_text | {codec.special.end_of_thought})

    def grow(self, tree: Tree, search: Search, judge: Judge) -> None:
        """Answer everything that a search asks for, until it is over."""
        asks = deque(next(search))
        with torch_threads(self._threads), suppress(StopIteration):
            while True:
                ask = asks.popleft()
                asks += search.send((ask.local_id, self._thought(tree, ask, judge)))

    @torch.no_grad()
    def _thought(self, tree: Tree, ask: Ask, judge: Judge) -> Told | Failed:
        codec, settings = self._expander.codec, self._expander.settings
        parent, trail = tree.nodes[ask.parent], trail_of(tree, ask.parent)
        header = codec.header(parent.local_id, ask.local_id, ask.action)
        concludes = ask.action is MetaAction.CONCLUDE
        left = settings.path_budget - trail.spent
        cap = settings.max_answer if concludes else min(settings.max_text, left)
        text, logprobs = self._generate([*trail.context, *header], cap - 1)
        if ask.action is None and len(text) == 1 and text[0] in codec.tag_ids:  # a kind, not an end
            more, more_logprobs = self._generate([*trail.context, *header, *text], cap - 1)
            text, logprobs = text + more, logprobs + more_logprobs
        end = [] if text[-1:] == [codec.special.end_of_thought] else [codec.special.end_of_thought]
        ids = [*header, *text, *end, codec.special.start_of_rating]
        logits = self._model(input_ids=torch.tensor([[*trail.context, *ids]])).logits[0, -1]
        value = rating_value(logits, codec.special.positive, codec.special.negative)
        sampled = np.zeros(len(ids), np.bool_)
        sampled[len(header) : len(header) + len(text)] = True
        all_logprobs = np.full(len(ids), np.nan, np.float32)
        all_logprobs[sampled] = logprobs
        sample = Sample(np.array(ids, np.int32), sampled, all_logprobs, None, None, value, "program")
        return self._expander.told(tree, ask, Reply((sample,), 0, 0), judge)

    def _generate(self, prompt: list[int], most: int) -> tuple[list[int], list[float]]:
        """Sampled ids, the end included where one was drawn, and their log-probs."""
        if most < 1:
            return [], []
        temperature = self._expander.settings.temperature
        self._model.generation_config = GenerationConfig(
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_k=0,
            top_p=1.0,
            max_new_tokens=most,
            eos_token_id=self._ends,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        ids = torch.tensor([prompt])
        out = self._model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        drawn = out.sequences[0, len(prompt) :]
        logprobs = torch.log_softmax(torch.cat(out.scores), -1).gather(1, drawn[:, None])[:, 0]
        return drawn.tolist(), logprobs.tolist()
