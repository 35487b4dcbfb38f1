"""How a running server takes new weights: vLLM's development endpoints. Knows no versions."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from llama_o1.engine.replica import Replica
from llama_o1.errors import EngineError

_LOAD_TIMEOUT_S = 600.0
_NO_SUCH_PATH = (404, 405)
_RESET_PAUSES_S = (0.05, 0.2, 1.0)  # a cache is not reset while the last aborted request still holds a part

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
