"""A folder of Hugging Face weights as an engine must know it before it loads them; knows no engine.

Only configs and the headers of safetensors files are read. vLLM goes down over weights of another shape, or
keeps some of the old ones, so whatever does not fit is refused here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llama_o1.errors import EngineError

_INDEX = "model.safetensors.index.json"
_OUTPUT, _OUTPUT_FILE = "lm_head.weight", "lm_head.safetensors"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
# vLLM computes their logits from the input embeddings themselves, and fails over an output matrix.
_NO_OUTPUT = ("gemma2", "gemma3n_text")
# What two configs must agree on although no tensor's shape need tell.
_SAME = ("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings")


class Weights(NamedTuple):
    """What a folder holds."""

    folder: Path
    config: Any  # transformers' config of the text side
    files: dict[str, Path]  # of every tensor
    shapes: dict[str, tuple[int, ...]]


def read_weights(folder: object) -> Weights:
    """The config and every tensor's file and shape; EngineError when it is no folder that can be loaded."""
    if not isinstance(folder, str | Path):
        raise EngineError(f"weights must be a folder or None, got {type(folder).__name__}")
    path = Path(folder).resolve()
    if not path.is_dir():
        raise EngineError(f"no folder of weights at {folder}; check the path")
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(path):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    files[name], shapes[name] = file, tuple(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise EngineError(f"{file} cannot be read ({error}); write it again") from error
    return Weights(path, _text_config(path), files, shapes)


def check_fit(new: Weights, held: Weights) -> None:
    """Raise EngineError unless new weights are of the model whose weights an engine holds.

    What a loader makes itself may be there or not: rotary frequencies, and the head where it is tied.
    """
    differs = f"the weights in {new.folder} do not fit the engine's model:"
    remedy = "give merged weights of the same architecture and vocabulary"
    for name in _SAME:
        found, wanted = getattr(new.config, name, None), getattr(held.config, name, None)
        if found != wanted:
            raise EngineError(f"{differs} {name} is {found}, expected {wanted}; {remedy}")
    for name in sorted(held.shapes.keys() | new.shapes.keys()):
        shape, expected = new.shapes.get(name), held.shapes.get(name)
        made = name.endswith("rotary_emb.inv_freq") or (new.config.tie_word_embeddings and name == _OUTPUT)
        if shape != expected and not (made and None in (shape, expected)):
            raise EngineError(
                f"{differs} {name} is {'missing' if shape is None else list(shape)}, expected "
                f"{'no such tensor' if expected is None else list(expected)}; {remedy}"
            )


@contextmanager
def with_output(weights: Weights) -> Iterator[Path]:
    """A folder of the same weights that names a tied output matrix too; it is there until the block ends.

    vLLM 0.32 packs the output matrix on a CPU, and a reload packs it anew only when the folder names it:
    without this a server goes on with the old one and says nothing. Where the matrix is tied and unnamed, the
    folder is a hidden one inside the given, which whoever sees that one sees too: the matrix and links to the
    other files. Nothing else is written.
    """
    config = weights.config
    if not config.tie_word_embeddings or config.model_type in _NO_OUTPUT or _OUTPUT in weights.files:
        yield weights.folder
        return
    try:
        inside = TemporaryDirectory(dir=weights.folder, prefix=".with_output-")
    except OSError as error:
        raise EngineError(
            f"a server reads tied weights only with their output matrix, which cannot be written into "
            f"{weights.folder} ({error.strerror}); make the folder writable"
        ) from error
    with inside:
        _fill(Path(inside.name), weights)
        yield Path(inside.name)


def _fill(target: Path, weights: Weights) -> None:
    """Links to all files of a folder, its tied output matrix, and an index of both where it has one."""
    inputs = next((name for name in weights.files if name.endswith(_EMBEDDINGS)), None)
    if inputs is None:
        raise EngineError(
            f"{weights.folder} holds no {' or '.join(_EMBEDDINGS)}, to which its output matrix is tied; "
            "save the model with save_pretrained"
        )
    target.chmod(0o755)  # a server may run as another user
    for file in weights.folder.iterdir():
        if file.is_file() and file.name != _OUTPUT_FILE:
            (target / file.name).symlink_to(os.path.join("..", file.name))
    with safe_open(weights.files[inputs], framework="pt") as tensors:
        matrix = tensors.get_tensor(inputs)
    save_file({_OUTPUT: matrix}, target / _OUTPUT_FILE, metadata={"format": "pt"})
    if (weights.folder / _INDEX).exists():
        index = json.loads((weights.folder / _INDEX).read_text(encoding="utf-8"))
        index["weight_map"][_OUTPUT] = _OUTPUT_FILE
        (target / _INDEX).unlink()
        (target / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    """The safetensors files a loader reads: those an index names, else all."""
    try:
        named = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except FileNotFoundError:
        files = sorted(folder.glob("*.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{folder / _INDEX} cannot be read ({error}); write it again") from error
    else:
        files = sorted({folder / str(name) for name in named})
    if not files:
        raise EngineError(f"no .safetensors file in {folder}; save the model there with save_pretrained")
    return files


def _text_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder).get_text_config()
    except (ValueError, OSError) as error:
        words = " ".join(str(error).split())[:300]
        raise EngineError(
            f"the config.json in {folder} cannot be read ({words}); save the model there with save_pretrained"
        ) from error
