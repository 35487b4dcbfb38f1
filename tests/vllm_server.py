"""A real vLLM server on the CPU as a process of its own, and small models for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import cached_property

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB = 40
MAX_MODEL_LEN = 128
START_S = 300.0

SETTINGS = """
    --enforce-eager --dtype float32 --kv-cache-memory-bytes 268435456 --block-size 32
    --logprobs-mode processed_logprobs --enable-prompt-tokens-details --served-model-name tiny
    --no-enable-chunked-prefill --disable-uvicorn-access-log --host 127.0.0.1
""".split()


def save_model(folder, seed, **changes):
    """Write an untrained Llama and a tokenizer with a word for each id; the model."""
    torch.manual_seed(seed)
    settings = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,  # vLLM's CPU attention takes no less
        "intermediate_size": 96,
        "vocab_size": VOCAB,
        "max_position_embeddings": MAX_MODEL_LEN,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()
    model.save_pretrained(folder)
    words = models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t0")
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), unk_token="t0", eos_token="t1"
    ).save_pretrained(folder)
    return model


def plain_forward(model, tokens):
    """Log-probs of what follows these tokens, at temperature 1."""
    with torch.no_grad():
        logits = model(torch.tensor([list(tokens)])).logits[0, -1].double()
    return torch.log_softmax(logits, -1).numpy()


class VllmServer:
    """A server of a folder, until it is killed."""

    def __init__(self, folder, *more):
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = open(f"{folder}.{self.port}.log", "wb")  # noqa: SIM115
        own = {
            "VLLM_SERVER_DEV_MODE": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *("--model", str(folder), "--port", str(self.port)),
                *SETTINGS,
                *more,
            ],
            env=os.environ | own,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        until = time.monotonic() + START_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                with open(self._log.name, encoding="utf-8", errors="replace") as log:
                    raise RuntimeError("vLLM did not start:\n" + log.read()[-4000:])
            time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """End the server and its workers at once."""
        if self._log.closed:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._log.close()

    @cached_property
    def model(self):
        """The same weights in transformers."""
        return LlamaForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def logprobs(self, tokens):
        """A plain forward's log-probs of what follows, at temperature 1."""
        return plain_forward(self.model, tokens)

    def _is_up(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


def _free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
