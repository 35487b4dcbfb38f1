"""Tiny untrained models of the families, over a tokenizer of characters."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHARACTERS = ["<unk>", "<s>", "</s>", "\n", *"0123456789abcdefghijklmnopqrstuvwxyz<>/+-=_ "]
SIZE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}


def characters(*, extra=()):
    vocabulary = {token: i for i, token in enumerate([*CHARACTERS, *extra])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def build(kind, vocab_size):
    torch.manual_seed(5)
    size = {**SIZE, "vocab_size": vocab_size}
    makers = {
        "llama tied": lambda: LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=True)),
        "llama untied": lambda: LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=False)),
        "qwen2": lambda: Qwen2ForCausalLM(
            Qwen2Config(**size, num_key_value_heads=2, tie_word_embeddings=True)
        ),
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**size, tie_word_embeddings=False)),
        "gemma2": lambda: Gemma2ForCausalLM(
            Gemma2Config(
                **size,
                num_key_value_heads=1,
                head_dim=8,
                query_pre_attn_scalar=1,
                attn_logit_softcapping=0.1,
            )
        ),
        "gemma3": lambda: Gemma3ForCausalLM(
            Gemma3TextConfig(**size, num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=8)
        ),
        "qwen3": lambda: Qwen3ForCausalLM(
            Qwen3Config(**size, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False)
        ),
        "phi3": lambda: Phi3ForCausalLM(
            Phi3Config(**size, num_key_value_heads=2, pad_token_id=0, tie_word_embeddings=False)
        ),
        "phi with a head bias": lambda: PhiForCausalLM(PhiConfig(**size, tie_word_embeddings=False)),
    }
    return makers[kind]().eval()


def save(folder, kind="llama tied", vocab_size=None, tokenizer=None):
    model = build(kind, vocab_size or len(CHARACTERS))
    model.save_pretrained(folder)
    (tokenizer or characters()).save_pretrained(folder)
    return model


def logits_of(model, ids=(4, 9, 30, 12)):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits


def tables(model):
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight
