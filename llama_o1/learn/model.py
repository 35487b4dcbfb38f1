"""Models from disk or the hub: loading, LoRA, and plain weights again.

Works with any Hugging Face causal LM, tied or untied. Knows no losses and no batches.
"""

import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from llama_o1.errors import ConfigError, ModelError
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import SpecialIds, special_ids
from llama_o1.learn.settings import LoraSettings, ValueSource
from llama_o1.value_head import HEAD_FILE, ValueHead, new_head, read_head

CausalLM = PreTrainedModel | PeftModel
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


class Loaded(NamedTuple):
    """A model that is ready to search and to learn, in evaluation mode."""

    model: CausalLM
    tokenizer: PreTrainedTokenizerBase
    special: SpecialIds
    pad_id: int  # any id does: padding is masked
    value_head: ValueHead | None = None  # None: values are read from the rating tokens


def load_model(
    name: str | Path,
    *,
    adapter: LoraSettings | None = None,
    freeze_embeddings: bool = False,
    dtype: str = "float32",
    seed: int = 0,
    marks: MarkSettings | None = None,
    value: ValueSource = "rating",
    new_value_head: bool = True,
) -> Loaded:
    """The model in a folder or on the hub, with LoRA when adapter is given, else all weights trainable.

    Frozen embeddings stay as they are, an output head tied to them as well; under LoRA all rows of both.

    A folder with a LoRA adapter gives its base model with the adapter merged in. The seed draws LoRA's
    first weights, and those of a value head where none lies beside the weights and a new one may be made.
    ModelError when the model cannot be read, lacks our special tokens or the head that it should have.
    """
    quiet()
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype}")
    source = find_model(name)
    tokenizer = read_folder(source, AutoTokenizer)
    special = special_ids(tokenizer, source.name, marks)
    model = read_weights(source, DTYPES[dtype])
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {source.name} has {rows} embedding rows for {len(tokenizer)} tokens; "
            "its tokenizer and weights do not belong together: make it again with `llama-o1 init`"
        )
    head = _head(source, model, seed=seed, may_be_new=new_value_head) if value == "head" else None
    if adapter is not None:
        model = add_lora(model, [] if freeze_embeddings else special.all(), adapter, seed=seed)
    elif freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return Loaded(model.eval(), tokenizer, special, next(i for i in pads if i is not None), head)


def read_plain(name: str | Path, dtype: str = "float32") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any causal LM and its tokenizer, with or without our special tokens."""
    quiet()
    source = find_model(name)
    return read_weights(source, DTYPES[dtype]), read_folder(source, AutoTokenizer)


def quiet() -> None:
    """Turn off transformers' own progress bars, which also show where there is no terminal."""
    disable_progress_bar()


def export_model(source: str | Path, out: str | Path) -> None:
    """Write source with its tokenizer into the folder out as plain weights, whole or not at all.

    An adapter is merged in float32, in which it was trained; a value head lies beside the weights again.
    ModelError: out is in the way.
    """
    quiet()
    found, target = find_model(source), Path(out)
    check_free(target)
    tokenizer = read_folder(found, AutoTokenizer)
    adapted = (found.folder / "adapter_config.json").exists()
    model = read_weights(found, torch.float32 if adapted else "auto")
    write_model(model, tokenizer, target, beside=found.folder / HEAD_FILE)


def add_lora(
    model: PreTrainedModel, token_ids: Sequence[int], settings: LoraSettings, *, seed: int
) -> PeftModel:
    """LoRA on all linear layers; the embedding rows of token_ids train too, input and output; []: none."""
    inputs, head = model.get_input_embeddings(), cast(Any, model).get_output_embeddings()
    rows = {_module_name(model, inputs): sorted(token_ids)}
    whole: list[str] | None = None
    tied, biased = head.weight is inputs.weight, getattr(head, "bias", None) is not None
    if tied and biased:
        raise ModelError(
            "the output head of this model is tied and has a bias, which peft drops; train all weights"
        )
    if biased:
        whole = [_module_name(model, head)]  # for the same reason trained as a whole
    elif not tied:
        rows[_module_name(model, head)] = sorted(token_ids)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        trainable_token_indices=rows if token_ids else None,
        modules_to_save=whole if token_ids else None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def merged(model: CausalLM) -> PreTrainedModel:
    """Plain Hugging Face weights with the same logits; a copy when there is an adapter to merge."""
    if not isinstance(model, PeftModel):
        return model
    copy: PreTrainedModel = deepcopy(model).merge_and_unload()
    copy.tie_weights()
    return copy


def plain(model: CausalLM) -> PreTrainedModel:
    """The Hugging Face model inside, adapter layers in place."""
    inside: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return cast(PreTrainedModel, inside)


class Source(NamedTuple):
    """A model that was found."""

    name: str  # as the user wrote it
    folder: Path


def find_model(name: str | Path) -> Source:
    """The folder of a model, fetched from the hub when it is none here."""
    text, path = str(name), Path(name).expanduser()
    if path.is_dir():
        return Source(text, path)
    if path.exists():
        raise ModelError(f"model {text} is a file; name the folder that holds config.json and the weights")
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1:
        raise ModelError(f"model folder {text} does not exist; check the path, or name a model of the hub")
    try:
        # No subfolders: some repositories keep the same weights there once more, in another format.
        folder = snapshot_download(text, allow_patterns=HUB_FILES, ignore_patterns=["*/*", "consolidated*"])
    except Exception as error:  # connection, login, name: the hub's client has a type for each
        raise ModelError(
            f"model {text} is no folder here, and the Hugging Face hub does not give it: {_one_line(error)}"
        ) from error
    return Source(text, Path(folder))


def read_folder(source: Source, reader: Any, **options: Any) -> Any:
    """What a loader of transformers makes of the folder; ModelError with one line when it cannot."""
    if not any((source.folder / file).exists() for file in ("config.json", "adapter_config.json")):
        raise ModelError(
            f"model folder {source.name} cannot be read: it holds no config.json; name the folder that "
            "holds it and the weights"
        )
    try:
        return reader.from_pretrained(source.folder, **options)
    except Exception as error:  # the loaders raise nearly every type for a damaged file
        raise ModelError(f"model folder {source.name} cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def read_weights(source: Source, dtype: torch.dtype | str) -> Any:
    """The causal LM of a folder, an adapter merged; ModelError when it cannot be read or is damaged."""
    if (source.folder / "adapter_config.json").exists():
        config = read_folder(source, PeftConfig)
        base = read_weights(find_model(config.base_model_name_or_path), dtype)
        try:
            model = PeftModel.from_pretrained(base, source.folder).merge_and_unload()
            model.tie_weights()
        except Exception as error:  # as in read_folder
            raise ModelError(f"adapter folder {source.name} cannot be read: {_one_line(error)}") from error
    else:
        # Safetensors only: the other format is a pickle.
        options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
        if getattr(read_folder(source, AutoConfig).get_text_config(), "attn_logit_softcapping", None):
            # Of transformers' attentions only this one caps; an engine caps too, and both must agree.
            options["attn_implementation"] = "eager"
        model, report = read_folder(source, AutoModelForCausalLM, **options)
        missing = sorted(report["missing_keys"])
        if missing:
            raise ModelError(
                f"model folder {source.name} is damaged: {len(missing)} weights are not in its files, "
                f"{missing[0]} among them; copy or download it again"
            )
    model.name_or_path = source.name  # peft writes it into the adapter as the name of its base
    return model


def _head(source: Source, model: PreTrainedModel, *, seed: int, may_be_new: bool) -> ValueHead:
    """The head beside a model's weights, or a new one."""
    head = new_head(model, seed=seed)
    if (source.folder / HEAD_FILE).exists():
        read_head(source.folder, head)
    elif not may_be_new:
        raise ModelError(
            f"model {source.name} has no value head ({HEAD_FILE}); train one by `llama-o1 rounds`, or set "
            "model.value rating"
        )
    return head


def check_free(target: Path) -> None:
    """ModelError when the folder holds something."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} is in the way; name a folder that is new or empty")


def write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Path,
    check: Callable[[Path], object] = lambda folder: None,
    beside: Path | None = None,
) -> None:
    """Save both beside the target, check the folder, then rename: whole or not at all.

    A file `beside` the weights is copied where it exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        made = Path(temporary) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        if beside is not None and beside.exists():
            shutil.copyfile(beside, made / beside.name)
        check(made)
        made.replace(target)


def _module_name(model: nn.Module, module: nn.Module) -> str:
    return next(str(name) for name, found in model.named_modules() if found is module)
