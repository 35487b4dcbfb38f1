"""What is asked of an OpenAI-compatible server, and how its answers are read.

Token ids in and out, never text. Every sampling default a model's folder may bring is overruled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp
from typing import Any, Literal

from llama_o1.engine.replica import Answer
from llama_o1.engine.segmented import Piece
from llama_o1.errors import EngineError

COMPLETIONS = "/v1/completions"
SCORING = "/generative_scoring"

# How a value can be read: vLLM's scoring; one token's log-probs at given ids; a choice among given ids only.
Rating = Literal["scoring", "logprob_token_ids", "allowed_token_ids"]
RATINGS: tuple[Rating, ...] = ("scoring", "logprob_token_ids", "allowed_token_ids")

_AS_SAMPLED = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,
    "skip_special_tokens": False,
    "add_special_tokens": False,
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
}


def completion(
    model: str,
    tokens: Sequence[int],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    stop: Iterable[int] = (),
    logprobs: int = 0,
    cache_salt: str,
) -> dict[str, object]:
    """The body that continues these tokens."""
    return {
        "model": model,
        "prompt": tokens,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "stop_token_ids": sorted(stop),
        "logprobs": logprobs,
        "cache_salt": cache_salt,
        **_AS_SAMPLED,
    }


def rating(
    how: Rating, model: str, tokens: Sequence[int], ids: tuple[int, int], cache_salt: str
) -> tuple[str, dict[str, object]]:
    """Path and body that read how likely the first of two ids is against the second after these tokens."""
    if how == "scoring":
        return SCORING, {
            "model": model,
            "query": tokens,
            "items": [[]],
            "label_token_ids": ids,
            "apply_softmax": True,
            "cache_salt": cache_salt,
        }
    body = completion(
        model, tokens, max_tokens=1, temperature=1.0, seed=0, logprobs=len(ids), cache_salt=cache_salt
    )
    return COMPLETIONS, {**body, how: ids}


def read_completion(answer: Answer) -> Piece:
    """The tokens of an answer; EngineError naming what it lacks."""
    choice = _choice(answer)
    ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
    if not ids:
        raise EngineError("its replies hold no token ids (return_token_ids)")
    if not isinstance(logprobs, list) or len(logprobs) != len(ids) or None in logprobs:
        raise EngineError("its replies hold no log-probs of the sampled tokens (logprobs)")
    details = (answer.body.get("usage") or {}).get("prompt_tokens_details") or {}
    return Piece(ids, logprobs, True, details.get("cached_tokens") or 0)


def read_top(answer: Answer) -> dict[int, float]:
    """Log-probs by id of the likeliest first tokens, or of those asked for."""
    top = ((_choice(answer).get("logprobs") or {}).get("top_logprobs") or [{}])[0] or {}
    prefix = "token_id:"
    return {int(k.removeprefix(prefix)): v for k, v in top.items() if k.removeprefix(prefix).isdecimal()}


def read_rating(how: Rating, answer: Answer, ids: tuple[int, int]) -> float:
    """The value of an answer to `rating`; EngineError when it is not in it."""
    if how == "scoring":
        try:
            return float(answer.body["data"][0]["score"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise EngineError(f"{SCORING} gave no score") from None
    top = read_top(answer)
    if not top.keys() >= set(ids):
        raise EngineError(f"its replies hold no log-probs of given ids ({how})")
    return 1.0 / (1.0 + exp(min(top[ids[1]] - top[ids[0]], 700.0)))


def _choice(answer: Answer) -> dict[str, Any]:
    try:
        choice = answer.body["choices"][0]
    except (KeyError, IndexError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        raise EngineError(f"{COMPLETIONS} gave no choices")
    return choice
