"""A folder of Hugging Face weights as a running server must find it. Knows no server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llama_o1.errors import EngineError

OUTPUT, OUTPUT_FILE = "lm_head.weight", "lm_head.safetensors"
INDEX = "model.safetensors.index.json"

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


def write_tied_output(folder: Path) -> None:
    """Write the output matrix of a model that ties it to its input embeddings as a tensor of its own.

    vLLM 0.32 packs the output matrix on a CPU, and a reload packs it anew only when the folder names it:
    without this a server goes on with the old one and says nothing. Elsewhere it changes nothing.
    """
    config = _config(folder) or {}
    if not config.get("tie_word_embeddings"):
        return
    tensors = _tensors(folder)
    if OUTPUT in tensors:
        return
    inputs = next((name for name in tensors if name.endswith("embed_tokens.weight")), None)
    if inputs is None:
        raise EngineError(f"{folder} holds no embed_tokens.weight, to which its output matrix is tied")
    with safe_open(tensors[inputs], framework="pt") as file:
        matrix = file.get_tensor(inputs)
    save_file({OUTPUT: matrix}, folder / OUTPUT_FILE, metadata={"format": "pt"})
    if (folder / INDEX).exists():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["weight_map"][OUTPUT] = OUTPUT_FILE
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _tensors(folder: Path) -> dict[str, Path]:
    """The file of every tensor."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found |= dict.fromkeys(file.keys(), path)
        except (SafetensorError, OSError) as error:
            raise EngineError(f"{path} cannot be read ({error}); write the weights again") from error
    return found


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
