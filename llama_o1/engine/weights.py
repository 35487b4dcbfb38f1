"""A folder of Hugging Face weights as an engine must know it before it reads them: names and shapes."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from llama_o1.errors import EngineError

Shapes = dict[str, tuple[int, ...]]


def read_shapes(folder: str | Path) -> Shapes:
    """The shape of every tensor in a folder's safetensors files; only their headers are read."""
    if not Path(folder).is_dir():
        raise EngineError(f"no folder of weights at {folder}")
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise EngineError(f"no .safetensors file in {folder}; save the model there with save_pretrained")
    shapes: Shapes = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise EngineError(f"{file} cannot be read ({error}); write it again") from error
    return shapes


def check_fit(folder: str | Path, expected: Shapes, *, tied: bool) -> None:
    """Raise EngineError unless a folder's tensors have exactly these names and shapes.

    What a loader makes itself may be there or not: rotary frequencies, and the head where it is `tied`.
    """
    shapes = read_shapes(folder)
    for name in sorted(expected.keys() | shapes.keys()):
        found, wanted = shapes.get(name), expected.get(name)
        made = name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight")
        if found != wanted and not (made and None in (found, wanted)):
            raise EngineError(
                f"the weights in {folder} do not fit the engine's model: {name} is "
                f"{'missing' if found is None else list(found)}, expected "
                f"{'no such tensor' if wanted is None else list(wanted)}; "
                "give merged weights of the same architecture and vocabulary"
            )
