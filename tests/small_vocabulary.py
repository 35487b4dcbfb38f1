"""A tokenizer of 40 tokens in which all special ones have room, for engines of models that small."""

import re

from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import STRUCTURE, special_ids

RATIO = MarkSettings(size=4)  # three tokens
EVERY = MarkSettings("every", 5, longest=40)  # seven tokens
NAMES = (*STRUCTURE, *RATIO.names(), *EVERY.names(), *"0123456789-abcd")
_PIECES = re.compile("|".join(re.escape(name) for name in NAMES))


class SmallTokenizer:
    """Names of special tokens, digits, a sign and four letters."""

    eos_token_id = None

    def __len__(self):
        return len(NAMES)

    def encode(self, text, *, add_special_tokens, split_special_tokens):
        return [NAMES.index(piece) for piece in _PIECES.findall(text)]

    def decode(self, token_ids, *, skip_special_tokens):
        return "".join(NAMES[i] for i in token_ids)


def codec_of(marks):
    """What thoughts and lines are written with, under a family of control tokens."""
    tokenizer = SmallTokenizer()
    return Codec(tokenizer, special_ids(tokenizer, "small", marks))
