"""What a running server offers, found out by asking it; one that lacks what a search needs is refused.

Nothing is believed from names or versions: each need is tried once on a prompt of three tokens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import exp
from typing import Any

from llama_o1.engine.replica import PAUSES_S, Answer, Replica
from llama_o1.engine.segmented import Piece
from llama_o1.engine.wire import (
    COMPLETIONS,
    RATINGS,
    Rating,
    completion,
    rating,
    read_completion,
    read_rating,
    read_top,
)
from llama_o1.errors import EngineError

_TOP = 5  # OpenAI's limit of log-probs a token
_CLOSE = 0.02  # how far a value may be from the log-probs of the same tokens: bf16 differs so much by batch
_SAME = 0.3  # how far log-probs of replicas may differ, for the same reason


@dataclass(frozen=True, slots=True)
class Offer:
    """What one server serves, and how it is to be asked."""

    url: str
    model: str
    root: str  # folder it was started with, as it sees it; "" when it does not say
    max_model_len: int | None  # None: it does not say
    scaled: bool  # log-probs are of the distribution sampled from; else of temperature 1
    rating: Rating
    top: dict[int, float] = field(repr=False)  # log-probs after the probe prompt: replicas must agree


def look_at(replica: Replica, vocab_size: int) -> Offer:
    """What a server offers; EngineError in one line when it does not answer or lacks something needed."""
    served = _served(replica)
    probe = _Probe(replica, str(served["id"]), (vocab_size - 1, 0, vocab_size // 2))
    try:
        top = probe.top(1.0)
        probe.check_stop(max(top, key=lambda token: top[token]))
        return Offer(
            url=replica.url,
            model=probe.model,
            root=served.get("root") or "",
            max_model_len=served.get("max_model_len"),
            scaled=_is_scaled(top, probe.top(0.5)),
            rating=probe.rating(top),
            top=top,
        )
    except OSError as error:
        raise EngineError(f"the server at {replica.url} answered once and then no more: {error}") from error
    except EngineError as error:
        raise EngineError(
            f"the server at {replica.url} cannot serve a search: {error}; vLLM's api_server can"
        ) from error


def check_same(offers: list[Offer]) -> None:
    """Raise EngineError when servers differ in what they serve."""
    first = offers[0]
    for other in offers[1:]:
        if (other.model, other.max_model_len) != (first.model, first.max_model_len):
            raise EngineError(
                f"all servers must serve the same model: {first.url} serves {first.model} with "
                f"max_model_len {first.max_model_len}, {other.url} {other.model} with {other.max_model_len}"
            )
        if other.rating != first.rating:
            raise EngineError(
                f"all servers must give values in the same way: {first.url} gives them by {first.rating}, "
                f"{other.url} by {other.rating}"
            )
        both = first.top.keys() & other.top.keys()
        if not both or any(abs(first.top[token] - other.top[token]) > _SAME for token in both):
            raise EngineError(
                f"all servers must serve the same weights: {first.url} and {other.url} give other "
                f"log-probs for the same tokens; start them from the same folder"
            )


class _Probe:
    """Small questions to one server."""

    def __init__(self, replica: Replica, model: str, prompt: tuple[int, ...]) -> None:
        self.model = model
        self._replica = replica
        self._prompt = prompt

    def top(self, temperature: float) -> dict[int, float]:
        """The likeliest next tokens and their log-probs as the server gives them."""
        answer, piece = self._complete(1, temperature, ())
        if len(piece.ids) != 1:
            raise EngineError(f"it gave {len(piece.ids)} tokens for max_tokens 1")
        top = read_top(answer)
        if len(top) < _TOP or piece.ids[0] not in top:
            raise EngineError("its replies hold no log-probs by token id (return_tokens_as_token_ids)")
        if max(top.values()) > 1e-3:
            raise EngineError(f"its log-probs must be at most 0, got {max(top.values()):.3f}")
        return top

    def check_stop(self, likeliest: int) -> None:
        """Refuse a server that draws on after a stop token, or leaves it out."""
        try:
            piece = self._complete(4, 0.0, (likeliest,))[1]
        except EngineError:
            raise EngineError("its replies leave out the stop token (stop_token_ids)") from None
        if likeliest in piece.ids[:-1] or (likeliest not in piece.ids and len(piece.ids) < 4):
            raise EngineError("it does not end with the stop token (stop_token_ids)")

    def rating(self, top: dict[int, float]) -> Rating:
        """The first way of reading a value that works."""
        first, second, *_, last = sorted(top, key=lambda token: -top[token])[:_TOP]
        rare = next(token for token in range(len(top) + 1) if token not in top)
        exact = _sigmoid(top[first] - top[second])
        least = _sigmoid(top[first] - top[last])  # a token beyond the top is rarer than the last in it
        for how in RATINGS:
            try:
                near = abs(self._value(how, (first, second)) - exact) <= _CLOSE
                if near and self._value(how, (first, rare)) >= least - _CLOSE:
                    return how
            except EngineError:
                continue
        raise EngineError(f"it gives no log-probs of two given ids ({', '.join(RATINGS)})")

    def _value(self, how: Rating, ids: tuple[int, int]) -> float:
        path, body = rating(how, self.model, self._prompt, ids, "probe")
        return read_rating(how, self._replica.post(path, body), ids)

    def _complete(self, max_tokens: int, temperature: float, stop: tuple[int, ...]) -> tuple[Answer, Piece]:
        body = completion(
            self.model,
            self._prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=0,
            stop=stop,
            logprobs=_TOP,
            cache_salt="probe",
        )
        answer = self._replica.post(COMPLETIONS, body)
        if answer.status != 200:
            raise EngineError(f"it answered {answer.message} to {COMPLETIONS} with token ids {self._prompt}")
        return answer, read_completion(answer)


def _sigmoid(difference: float) -> float:
    return 1.0 / (1.0 + exp(-difference))


def _is_scaled(at_1: dict[int, float], at_half: dict[int, float]) -> bool:
    """Whether log-probs are of the distribution sampled from: half the temperature doubles distances."""
    both = sorted(at_1.keys() & at_half.keys(), key=lambda token: at_1[token])
    distance, halved = (top[both[-1]] - top[both[0]] for top in (at_1, at_half))
    return abs(halved - 2 * distance) < abs(halved - distance)


def _served(replica: Replica) -> dict[str, Any]:
    """The entry of /v1/models; waits a little for a server that is just starting."""
    for pause_s in (*PAUSES_S, None):
        try:
            answer = replica.get("/v1/models")
            break
        except OSError as error:
            if pause_s is None:
                raise EngineError(
                    f"no server answers at {replica.url} ({error}); check the address and that it has started"
                ) from error
        time.sleep(pause_s)
    if answer.status in (401, 403):
        raise EngineError(f"the server at {replica.url} wants another api_key: it answered {answer.message}")
    try:
        served = answer.body["data"][0]
        served["id"]
    except (KeyError, IndexError, TypeError):
        raise EngineError(
            f"no OpenAI-compatible server answers at {replica.url}: /v1/models gave {answer.message}"
        ) from None
    return dict(served)
