"""The nano model: a Llama of about 2 M parameters with a tokenizer of its own, made from scratch.

The tokenizer is a byte-level BPE of 1,024 entries in which every digit stands alone, a number's first
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

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 1024
MAX_CONTEXT = 1024
NANO_FOLDER = Path(__file__).resolve().parent.parent / "nano"  # where the shipped weights lie

_PIECES = r" ?\d|<<|>>|\\boxed\{| ?[A-Za-z]+| ?[^\sA-Za-z\d<>\\]|[<>\\]|\s+"


def nano_tokenizer(texts: Iterable[str], marks: MarkSettings | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer learned from these texts, with our special tokens; the same for the same texts."""
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
        vocab_size=VOCAB_SIZE,
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
        model_max_length=MAX_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def nano_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """An untrained nano model in fp32; the same for the same seed."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=64,  # the size GPU attention kernels are made for
        max_position_embeddings=MAX_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
