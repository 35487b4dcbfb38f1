"""The engine of one process: any Hugging Face causal LM, many requests in one batch.

Every step feeds each running row what it has not seen (a drawn token, a forced block or a whole
context) in one forward pass, and draws the next tokens. A finished row's place is taken at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from llama_o1.engine.batch import Batch
from llama_o1.engine.draw import draw, rating_value
from llama_o1.engine.forward import make_forward
from llama_o1.engine.packed import PackedLinears
from llama_o1.engine.protocol import EngineFigures, Reply, Request
from llama_o1.engine.queue import RequestQueue
from llama_o1.engine.row import Row
from llama_o1.engine.sampling import uniforms
from llama_o1.errors import EngineError
from llama_o1.threads import torch_threads
from llama_o1.value_head import ValueHead, head_width


class LocalEngine:
    """An `Engine` over a torch module, which a learner may share: nothing of it is copied or changed.

    Only with a `dtype` other than the module's does it work on a copy, which `load` brings up to date.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int = 64,
        max_context: int | None = None,
        cache_bytes: int = 1 << 30,
        threads: int = 0,
        dtype: torch.dtype | None = None,
        value_head: ValueHead | None = None,
    ) -> None:
        """`max_context` None: the model's own; `cache_bytes` limits the prefix cache, 0 turns it off.

        `threads`: CPU threads while the engine works; 0: as many as torch has. `dtype` None: the model's own.
        Values come from the `value_head`, which a learner may share, or where there is none from the rating.
        """
        if slots < 1:
            raise EngineError(f"slots must be at least 1, got {slots}")
        self._threads = threads
        self._slots = slots
        self._cache_bytes = cache_bytes
        self._dtype = dtype
        self._head = value_head
        if value_head is not None and head_width(model) != value_head.weight.numel():
            raise EngineError(
                f"the value head reads {value_head.weight.numel()} numbers, the model has {head_width(model)}"
            )
        self._queue = RequestQueue(_vocab_size(model), _max_context(model, max_context))
        self._closed = False
        self._take(model)

    @property
    def max_context(self) -> int:
        """Positions of context and sample together."""
        return self._queue.max_context

    @property
    def slots(self) -> int:
        """Samples worked on at once."""
        return self._slots

    def submit(self, key: Hashable, request: Request) -> None:
        """Queue a request."""
        self._check_open()
        self._queue.submit(key, request)

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """Work until at least one reply is ready and return all that are."""
        self._check_open()
        # Not inference_mode: buffers that a model makes on the way (dynamic RoPE) must stay fit for training.
        with torch.no_grad(), _evaluating(self._modules), torch_threads(self._threads), self._packed.in_use():
            while not self._queue.is_ready and (self._queue.waiting or self._batch.rows):
                self._step()
        return self._queue.take_ready()

    def cancel(self, key: Hashable) -> None:
        """Forget a request."""
        self._check_open()
        self._queue.cancel(key)
        self._sweep()

    def load(self, weights: object, version: int) -> None:
        """Take a module (None: the one there is, changed in place) as this version.

        Nothing is copied, unless the engine's dtype is another than the module's; layers are packed anew
        when they are next used (packed.py).
        """
        self._check_open()
        self._queue.check_idle()
        if weights is not None and not isinstance(weights, nn.Module):
            raise EngineError(f"weights must be a torch module or None, got {type(weights).__name__}")
        if weights is not None and weights is not self._given:
            self._check_fit(weights)
            self._take(weights)
        elif self._model is not self._given:
            _copy_weights(self._given, self._model)
        self._packed.forget()
        self._batch.clear_cache()
        self._queue.version = version

    def figures(self) -> EngineFigures:
        """The counters so far, and how full the engine is."""
        self._check_open()
        return self._queue.counters.figures(self._slots, len(self._batch.rows), len(self._queue.waiting))

    def reuse_forced(self, allowed: bool) -> None:
        """Whether what programs force at the start may come from the prefix cache, too, as it does at first.

        For benches: a request whose continuation is known then costs no less than before it was.
        """
        self._batch.reuses_forced = allowed

    def close(self) -> None:
        """Free the model and all keys and values; later calls are errors."""
        self._closed = True
        for name in ("_given", "_model", "_modules", "_packed", "_batch", "_head"):
            self.__dict__.pop(name, None)

    def _step(self) -> None:
        """Admit, feed, draw: one forward pass."""
        for row in self._batch.admit(self._queue.waiting):
            prefilled = len(row.request.context) - row.cached
            self._queue.counters.add_context(row.cached, prefilled, row.fed - row.cached)
        rows = self._batch.rows
        logits, ratings = self._read()
        self._queue.counters.add_step(len(rows))
        self._draw(rows, logits, ratings)
        asking = [row for row in rows if not row.runs_free]
        failures = [failure for row in asking if (failure := self._advance(row)) is not None]
        if failures:
            self._sweep()
            raise failures[0]

    def _read(self) -> tuple[Tensor, Tensor | None]:
        """Logits [rows, vocab], and with a value head the rows' logits of right and wrong [rows, 2]."""
        if self._head is None:
            return self._batch.logits(), None
        logits, hidden = self._batch.with_hidden()
        return logits, self._head(hidden)

    def _draw(self, rows: list[Row], logits: Tensor, ratings: Tensor | None) -> None:
        """Give every running row its next token, and every ended one its value."""
        drawing: list[int] = []
        for i, row in enumerate(rows):
            if row.stopped is None:
                drawing.append(i)
            elif row.request.rating is not None:
                row.value = (
                    rating_value(logits[i], *row.request.rating)
                    if ratings is None
                    else rating_value(ratings[i], 0, 1)
                )
        if not drawing:
            return
        if len(drawing) < len(rows):
            rows, logits = [rows[i] for i in drawing], logits[drawing]
        requests = [row.request for row in rows]
        drawn = draw(
            logits,
            [request.temperature for request in requests],
            uniforms(
                [request.seed for request in requests],
                [row.number for row in rows],
                [len(row.ids) for row in rows],
            ),
        )
        for row, token, logprob, entropy, varentropy in zip(rows, *drawn, strict=True):
            row.append_drawn(token, logprob, entropy, varentropy)

    def _advance(self, row: Row) -> EngineError | None:
        """Ask a row's program what comes next and file the row when that is nothing; the error it made."""
        valued = row.stopped is not None
        try:
            row.advance()
        except EngineError as error:
            self._queue.drop(row.ticket)
            return error
        if valued or (row.stopped is not None and row.request.rating is None):
            self._queue.finish(row)
            self._batch.release(row)
        return None

    def _sweep(self) -> None:
        """Free the places of requests that were dropped."""
        for row in self._batch.rows:
            if not self._queue.knows(row.ticket):
                self._batch.release(row)

    def _take(self, model: nn.Module) -> None:
        self._given = model
        self._model = model if self._dtype in (None, _dtype(model)) else _cast(model, self._dtype)
        self._modules = list(self._model.modules())
        self._packed = PackedLinears(self._model)
        with torch.no_grad(), _evaluating(self._modules):
            forward = make_forward(self._model, self._packed)
        self._packed.forget()  # what the proof made: weights may change before they are used
        self._batch = Batch(forward, self._slots, self._cache_bytes)

    def _check_fit(self, model: nn.Module) -> None:
        if _vocab_size(model) != self._queue.vocab_size:
            raise EngineError(
                f"new weights have a vocabulary of {_vocab_size(model)}, expected {self._queue.vocab_size}; "
                "make a new engine for another model"
            )
        _max_context(model, self.max_context)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed; make a new one")


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with parameters of this dtype. Buffers stay: rotary frequencies need their precision."""
    copied = deepcopy(model)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.to(dtype)
    return copied


def _copy_weights(given: nn.Module, copied: nn.Module) -> None:
    """Make the weights of the copy those of the given module, in the copy's dtype."""
    now = given.state_dict()
    with torch.no_grad():
        for name, tensor in copied.state_dict().items():
            tensor.copy_(now[name])


def _vocab_size(model: nn.Module) -> int:
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]


def _max_context(model: nn.Module, asked: int | None) -> int:
    """Positions to use: all that the model has, unless fewer are asked for."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    held: int | None = getattr(config, "max_position_embeddings", None)
    if asked is None:
        if held is None:
            raise EngineError("the model's config has no max_position_embeddings; set max_context")
        return held
    if asked < 1 or (held is not None and asked > held):
        raise EngineError(f"max_context must be from 1 to the model's {held} positions, got {asked}")
    return asked


@contextmanager
def _evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """A model's modules in eval mode; every one gets its own mode back."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
