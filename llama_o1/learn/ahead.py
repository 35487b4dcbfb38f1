"""Making the lines of coming steps in a process beside, while a GPU works on those before them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from llama_o1.errors import LlamaO1Error

_AHEAD = 8  # steps


class _Given(IterableDataset[Any]):
    def __init__(self, steps: Iterable[Any]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._steps
        except LlamaO1Error as error:
            yield error  # raised here, torch would make a page of it


def ahead(steps: Iterable[Any]) -> Iterator[Any]:
    """The same in the same order; what making them raises comes through.

    The process is forked, so that what is half made need not be told to it; it may not touch the GPU.
    """
    loader = DataLoader(
        _Given(steps),
        batch_size=None,
        num_workers=1,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_alone,
        multiprocessing_context="fork",
    )
    for step in loader:
        if isinstance(step, LlamaO1Error):
            raise step
        yield step


def _as_it_is(step: Any) -> Any:
    return step


def _alone(_: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not come along, of which it warns
