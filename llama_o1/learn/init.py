"""Our special tokens for any causal LM: rows to start from, and what was added, checked and measured.

Works on tied and untied models, with a bias on the head or without, and on padded vocabularies.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llama_o1.errors import ModelError
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import SPECIAL_TOKENS, STRUCTURE, special_ids
from llama_o1.learn.model import Source, check_free, find_model, quiet, read_folder, read_weights, write_model

# What a model would write after each token of these is looked at before and after.
PROBES = (
    "Question: Tom has 3 boxes with 8 pens in each. How many pens does he have?\nAnswer: 3 * 8 = 24\n",
    "Let us check the last step.\nIt is right.\n",
)


class NewToken(NamedTuple):
    """One special token in the model."""

    token: str
    id: int
    added: bool  # False: the model had it, and its rows stay
    pieces: int  # ids that its text took before
    probability_before: float | None  # mean over the probes, with rows as a resize leaves them; None: no text
    probability: float | None  # with the rows that it starts from


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was done to a model."""

    tokens: list[NewToken]
    started_from: list[str]  # tokens whose mean row the new ones start from; []: of all tokens
    tied: bool
    rows_before: int
    rows: int

    @property
    def added(self) -> list[str]:
        """The tokens that the model did not have."""
        return [one.token for one in self.tokens if one.added]


def init_model(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    noise: float = 0.02,
    start: Literal["structure", "mean"] = "structure",
    reference: Sequence[str] | None = None,
    pad_to: int = 1,
    marks: MarkSettings | None = None,
) -> Initialised:
    """Write source with our special tokens into the folder out.

    A new token's input and output rows start from the mean row of the reference tokens (where none is named,
    the newline, begin and end tokens as far as each is one id, or with `start` mean all tokens) plus noise of
    `noise` times the spread of all rows, since equal rows could never be told apart. Tokens that exist keep
    their rows. Rows are padded to a multiple of `pad_to` by copies of the unlikeliest token's. ModelError
    where a text reads otherwise than before, or what was saved is not what is read back.
    """
    quiet()
    found, target = find_model(source), Path(out)
    check_free(target)
    tokenizer = read_folder(found, AutoTokenizer)
    model = read_weights(found, "auto").eval()
    begin = [] if start == "mean" and reference is None else _reference_ids(tokenizer, reference)
    names = SPECIAL_TOKENS if marks is None else (*STRUCTURE, *marks.names())
    known, used_rows, rows_before = tokenizer.get_vocab(), len(tokenizer), _num_rows(model)
    pieces = [len(tokenizer.encode(name, add_special_tokens=False)) for name in names]
    text = _Text(names, _plain_ids(tokenizer), marks)
    # Special, so that the name of a token in a question stays plain text (split_special_tokens).
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in names], special_tokens=True)
    _check_round_trip(tokenizer, text, found.name)
    ids = [tokenizer.convert_tokens_to_ids(name) for name in names]
    fresh = [i for name, i in zip(names, ids, strict=True) if name not in known]
    _resize(model, max(ids) + 1, pad_to, seed)
    before = _probabilities(model, text.plain, ids)
    _start_rows(model, fresh, begin, used_rows, noise, seed, filled=rows_before)
    _pad_rows(model, text.plain, range(max(rows_before, len(tokenizer)), _num_rows(model)))
    after = _probabilities(model, text.plain, ids)
    tied, rows = len(_tables(model)) == 1, _num_rows(model)
    write_model(model, tokenizer, target, _same_when_read(model, text, target))
    tokens = [
        NewToken(name, i, name not in known, count, chance, now)
        for name, i, count, chance, now in zip(names, ids, pieces, before, after, strict=True)
    ]
    return Initialised(tokens, tokenizer.convert_ids_to_tokens(begin), tied, rows_before, rows)


class _Text(NamedTuple):
    """What a tokenizer must do with texts."""

    names: Sequence[str]  # of tokens, each one id
    plain: list[list[int]]  # the probes as the model's own tokenizer reads them
    marks: MarkSettings | None


def _same_when_read(model: Any, text: _Text, target: Path) -> Callable[[Path], None]:
    """A check that a folder reads back as the model; takes the weights out of memory, as they are on disk."""
    sums = _checksums(model)

    def check(folder: Path) -> None:
        model.to("meta")  # two of them may be too much
        made = Source(str(target), folder)
        _check_round_trip(read_folder(made, AutoTokenizer), text, str(target))
        _check_same(sums, _checksums(read_weights(made, "auto")), target)

    return check


def _plain_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False) for text in PROBES]


def _check_round_trip(tokenizer: Any, text: _Text, name: str) -> None:
    """Each token one id both ways, alone and between words; plain text as before. Else ModelError."""
    special_ids(tokenizer, name, text.marks)
    if _plain_ids(tokenizer) != text.plain:
        raise ModelError(f"the tokenizer of {name} reads plain text otherwise once it has our tokens")
    for token in text.names:
        ids = tokenizer.encode(f"1{token}2", add_special_tokens=False)
        if ids.count(tokenizer.convert_tokens_to_ids(token)) != 1:
            raise ModelError(f"the tokenizer of {name} does not find {token} between words as one token")


def _reference_ids(tokenizer: PreTrainedTokenizerBase, names: Sequence[str] | None) -> list[int]:
    """Ids of the tokens that new rows start from; [] when the tokenizer has none of the usual ones."""
    if names is None:
        newline = tokenizer.encode("\n", add_special_tokens=False)
        usual = (tokenizer.bos_token_id, tokenizer.eos_token_id, newline[0] if len(newline) == 1 else None)
        return sorted({i for i in usual if i is not None and i != tokenizer.unk_token_id})
    ids = [tokenizer.encode(name, add_special_tokens=False) for name in names]
    for name, encoded in zip(names, ids, strict=True):
        if len(encoded) != 1:
            raise ModelError(f"reference token {name!r} must be one token of the model, got {len(encoded)}")
    return [encoded[0] for encoded in ids]


def _resize(model: Any, needed: int, pad_to: int, seed: int) -> None:
    """Make room for the new ids where there is none: many models keep spare rows."""
    rows = _num_rows(model)
    wanted = -(-max(needed, rows) // pad_to) * pad_to
    if wanted > rows:
        with torch.random.fork_rng(devices=[]):  # transformers fills the new rows from the global generator
            torch.manual_seed(seed)
            model.resize_token_embeddings(wanted, mean_resizing=False)


def _start_rows(
    model: Any, fresh: list[int], start: list[int], used_rows: int, noise: float, seed: int, *, filled: int
) -> None:
    """Give new ids their first input and output rows, biases included; `filled` rows came with the model."""
    # A tokenizer may have other tokens without a row.
    ids = sorted({*fresh, *range(filled, max(fresh, default=-1) + 1)})
    if not ids:
        return
    used_rows = min(used_rows, filled)
    start = start or list(range(used_rows))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in _tables(model):
            table[ids] = _near_mean(table[:used_rows], start, len(ids), noise, generator).to(table.dtype)
        bias = _bias(model)
        if bias is not None:
            bias[ids] = bias[start].mean()


def _near_mean(
    table: Float[Tensor, "vocab width"], ids: list[int], count: int, noise: float, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    mean, spread = table[ids].float().mean(dim=0), table.float().std()
    return mean + noise * spread * torch.randn(count, table.shape[1], generator=generator)


def _pad_rows(model: Any, plain: list[list[int]], padding: range) -> None:
    """Rows that no token has start as the unlikeliest token's, so that none is ever drawn more often."""
    if not padding:
        return
    chances = _probabilities(model, plain, list(range(padding.start)))
    least = min(range(padding.start), key=lambda i: chances[i] or 0.0)
    with torch.no_grad():
        for table in _tables(model):
            table[list(padding)] = table[least].clone()
        bias = _bias(model)
        if bias is not None:
            bias[list(padding)] = bias[least].clone()


def _probabilities(model: Any, plain: list[list[int]], ids: list[int]) -> list[float | None]:
    """The mean probability of each id after each token of the probes; None where these have no token."""
    texts = [text for text in plain if text]
    if not texts:
        return [None] * len(ids)
    with torch.no_grad():
        rows = torch.cat([_next_probabilities(model, torch.tensor(text)) for text in texts])
    return [float(one) for one in rows.mean(dim=0)[ids]]


def _next_probabilities(model: Any, text: Int[Tensor, " length"]) -> Float[Tensor, "length vocab"]:
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None) or len(text)
    logits: Tensor = model(input_ids=text[None, :room]).logits[0]
    return logits.float().softmax(dim=-1)


def _tables(model: Any) -> list[Tensor]:
    """Input and output rows, once where they are tied."""
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [inputs] if inputs is outputs else [inputs, outputs]


def _bias(model: Any) -> Tensor | None:
    bias: Tensor | None = getattr(model.get_output_embeddings(), "bias", None)
    return bias


def _num_rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _checksums(model: Any) -> dict[str, int]:
    """A checksum of the bytes of each tensor of a model."""
    return {name: zlib.crc32(_bytes(tensor)) for name, tensor in model.state_dict().items()}


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _check_same(saved: dict[str, int], read: dict[str, int], target: Path) -> None:
    differing = sorted(name for name in saved.keys() | read.keys() if saved.get(name) != read.get(name))
    if differing:
        raise ModelError(
            f"{target} reads back with {len(differing)} other tensors than were saved, {differing[0]} among "
            "them; it was not kept"
        )
