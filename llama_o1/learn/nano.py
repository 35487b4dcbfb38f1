"""A new model: a Llama with a tokenizer of its own, made from scratch; of about 2 M parameters by default.

The tokenizer is a byte-level BPE in which every digit stands alone, a number's first
digit taking the space before it, so that no stray space token comes before numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import STRUCTURE
from llama_o1.learn.settings import NewModelSettings

END_OF_TEXT = "<|endoftext|>"
NANO_FOLDER = Path(__file__).resolve().parent.parent / "nano"  # where the shipped weights lie

_PIECES = r" ?\d|<<|>>|\\boxed\{| ?[A-Za-z]+| ?[^\sA-Za-z\d<>\\]|[<>\\]|\s+"


def nano_tokenizer(
    texts: Iterable[str], marks: MarkSettings | None = None, size: NewModelSettings | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer learned from these texts, with our special tokens; the same for the same texts."""
    size = size or NewModelSettings()
    special = [*STRUCTURE, *(marks or MarkSettings()).names()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocab_size,
        special_tokens=[END_OF_TEXT, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    digits = [" 0 1 2 3 4 5 6 7 8 9 <<1+1=2>> \\boxed{3}"] * 1000  # these pieces must become single tokens
    tokenizer.train_from_iterator([*digits, *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=special,
        model_max_length=size.max_context,
        clean_up_tokenization_spaces=False,
    )


def nano_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, size: NewModelSettings | None = None
) -> PreTrainedModel:
    """An untrained model in fp32; the same for the same seed."""
    size = size or NewModelSettings()
    config = LlamaConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=64,  # the size GPU attention kernels are made for
        max_position_embeddings=size.max_context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
