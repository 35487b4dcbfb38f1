"""How a running server takes new weights: vLLM's development endpoints. Knows no versions."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from llama_o1.engine.replica import Replica
from llama_o1.errors import EngineError

_LOAD_TIMEOUT_S = 600.0
_NO_SUCH_PATH = (404, 405)
_RESET_PAUSES_S = (0.05, 0.2, 1.0)  # a cache is not reset while the last aborted request still holds a part

# What must be the same in config.json: vLLM goes down over weights of another shape, or keeps some old ones.
_SHAPE = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "tie_word_embeddings",
)

_log = logging.getLogger(__name__)


def load_into(replica: Replica, folder: Path | None) -> None:
    """Let a server load a folder (None: keep its weights) and drop its cached prefixes where it can.

    EngineError when it cannot load, OSError when it does not answer.
    """
    if folder is not None:
        _reload(replica, folder)
    for pause_s in _RESET_PAUSES_S:
        answer = replica.post("/reset_prefix_cache", {})
        if not (isinstance(answer.body, dict) and answer.body.get("success") is False):
            return
        time.sleep(pause_s)
    _log.warning("server %s keeps the cached prefixes of older weights; they are not used", replica.url)


def folder_of(weights: object) -> Path:
    """The absolute path of a folder with weights; EngineError when it is none."""
    if isinstance(weights, str | Path) and Path(weights).is_dir():
        return Path(weights).resolve()
    raise EngineError(
        f"a server loads a folder or None, got the {type(weights).__name__} {str(weights)[:200]!r}, which is "
        f"no folder"
    )


def check_fits(folder: Path, served: Path) -> None:
    """Raise EngineError when weights have another shape than the folder a server loaded before.

    Looks at config.json; passes where the served folder cannot be seen from here.
    """
    new, old = _config(folder), _config(served)
    if new is None:
        raise EngineError(
            f"{folder} holds no readable config.json; give a folder as save_pretrained writes it"
        )
    for name in _SHAPE:
        if old is not None and new.get(name) != old.get(name):
            raise EngineError(
                f"the weights of {folder} do not fit the servers' model: {name} is {new.get(name)}, "
                f"expected {old.get(name)}; start servers with the other model"
            )


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _reload(replica: Replica, folder: Path) -> None:
    body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    answer = replica.post("/collective_rpc", body, timeout_s=_LOAD_TIMEOUT_S)
    if answer.status in _NO_SUCH_PATH:
        raise EngineError(
            f"the server at {replica.url} takes no new weights; start vLLM's api_server with "
            f"VLLM_SERVER_DEV_MODE=1 in its environment"
        )
    if answer.status != 200:
        raise EngineError(
            f"the server at {replica.url} cannot load {folder}: {answer.message}; it must see the folder "
            f"under this path, and the weights must fit the model it serves"
        )
