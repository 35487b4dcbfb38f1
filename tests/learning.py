"""Shared by the tests of the learner: tiny models of many architectures, and awkward trees to learn from."""

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from llama_o1.format.tokens import SpecialIds
from replay.experience import Experience

VOCAB = 48
SPECIAL = SpecialIds(*range(11), tags={}, remaining=())
SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZE, "num_key_value_heads": 2}
WINDOWS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": VOCAB,
       "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
ARCHITECTURES = {
    "llama": ("LlamaConfig", GROUPED),
    "llama tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "mistral with windows": ("MistralConfig", GROUPED | {"sliding_window": 6}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", GROUPED | {"head_dim": 8}),
    "gemma2 with windows and capped scores": ("Gemma2Config", GROUPED | WINDOWS | {"head_dim": 8, "attn_logit_softcapping": 2.0}),  # noqa: E501
    "gemma3 with windows": ("Gemma3TextConfig", GROUPED | WINDOWS | {"head_dim": 8}),
    "gpt_neox": ("GPTNeoXConfig", SIZE | {"tie_word_embeddings": False}),
    "phi": ("PhiConfig", GROUPED),
    "gpt2, whose positions are learned": ("GPT2Config", GPT),
    "opt": ("OPTConfig", SIZE | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
}  # fmt: skip
NO_TRIES = {
    "bloom, whose scores know distances": ("BloomConfig", GPT),
    "falcon": ("FalconConfig", SIZE | {"alibi": True}),
    "mamba": ("MambaConfig", {k: SIZE[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers")}),
    "gpt_neo": ("GPTNeoConfig", {"vocab_size": VOCAB, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
                                 "attention_types": [[["global", "local"], 1]], "window_size": 6}),
}  # fmt: skip


def make_model(architecture):
    """A model with random weights, the same each time."""
    name, settings = (ARCHITECTURES | NO_TRIES)[architecture]
    attention = {"attn_implementation": "eager"} if "capped" in architecture else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = getattr(transformers, name)(**settings)
        return AutoModelForCausalLM.from_config(config, **attention).eval()


def experience(context, ids, node=0, sampled=None, seed=0, **over):
    rng = np.random.default_rng([seed, len(context), len(ids)])
    drawn = np.array([False] + [True] * (len(ids) - 1) if sampled is None else sampled, dtype=np.bool_)
    fields = {
        "context": np.array(context, dtype=np.int32),
        "ids": np.array(ids, dtype=np.int32),
        "sampled": drawn,
        "logprobs": np.where(drawn, -3.0, 0.0).astype(np.float32),
        "temperature": 0.7,
        "advantage": float(rng.normal()),
        "value": 0.5,
        "value_target": float(rng.random()),
        "outcome": None,
        "version": 0,
        "action": "expand",
        "problem": "p",
        "tree": "t",
        "node": node,
        "parent": 0,
    }
    return Experience(**fields | over)


def awkward_trees():
    """Two trees with what packing could get wrong; the last tokens of thoughts are 3, a rating's 4."""
    rng = np.random.default_rng(1)
    root, other = [5, *rng.integers(11, VOCAB, 20).tolist()], [5, *rng.integers(11, VOCAB, 9).tolist()]
    step = [6, 12, 13, 14, 15, 3, 4]
    below = root + step
    deep = [*below, 6, 16, 17, 3, 4]
    return [
        *(experience(root, [6, first, 20 + first % 5, 3, 4], first) for first in range(12, 18)),  # branches
        experience(root, step, 20),
        experience(root, step, 20, advantage=-1.0, value_target=0.9),  # the same node twice
        experience(root, step[:4], 21),  # begins another
        experience(below, [6, 16, 17, 3, 4], 22),
        experience(below, [6, 16, 18, 3, 4], 23),  # shares its first token with the one before
        experience(below, [3, 4], 24),  # an empty thought
        experience(below, [4], 25, sampled=[True]),  # a single token
        experience(below, [6, 3, 4], 26, sampled=[False, False, False]),  # nothing sampled
        experience(deep, [7, 19, 4], 27, temperature=1.3),
        experience(deep, [*rng.integers(11, VOCAB, 25).tolist(), 4], 28),
        experience(deep, [7, 19, 19, 19, 4], 29),
        experience(other, [6, 12, 3, 4], 30, tree="other"),
        experience(other[:1], other[1:], 31, tree="other"),
        experience([], [5, 40, 41], 32, tree="third"),  # without a context
    ]  # fmt: skip
