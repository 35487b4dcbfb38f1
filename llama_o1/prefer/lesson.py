"""The lesson on one page: pairs of solutions -> comparisons in both orders -> token ids -> a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llama_o1.assemble import NANO_FOLDER
from llama_o1.config import BUILTIN_MODEL
from llama_o1.errors import RunError
from llama_o1.format.compare import comparison
from llama_o1.format.encode import Codec
from llama_o1.learn.model import Loaded, check_free, load_model, merged, plain, write_model
from llama_o1.learn.prefer import Asked, Stood, answered, learn_preferences
from llama_o1.prefer.pairs import Pair, read_pairs
from llama_o1.prefer.settings import PreferConfig
from llama_o1.progress import bar
from llama_o1.threads import torch_threads
from llama_o1.value_head import tell_left_out

log = logging.getLogger(__name__)

MOST_LOOKED_AT = 256  # of the pairs held out: the rest would make the share no surer than the pairs are


class Lesson(NamedTuple):
    """What came of it."""

    num_learned: int  # pairs whose question leaves room for solutions
    num_held_out: int  # of such pairs, at most MOST_LOOKED_AT
    before: Stood | None  # of the pairs held out; None: there were none
    after: Stood | None

    def line(self) -> str:
        """In one line."""
        if self.before is None or self.after is None:
            return f"learned from {self.num_learned:,} pairs; none were held out"
        return (
            f"learned from {self.num_learned:,} pairs; of {self.num_held_out:,} held out it prefers the "
            f"better one in {self.before.accuracy:.1%} before and {self.after.accuracy:.1%} after, "
            f"and answers both orders alike in {self.before.agreement:.1%} and {self.after.agreement:.1%}"
        )


def prefer(config: PreferConfig) -> Lesson:
    """Teach as the config says and write the model to `config.out`; ModelError when that is taken."""
    out = Path(config.out)
    check_free(out)
    learned, held_out = read_pairs(config.solutions, config.held_out)
    source = NANO_FOLDER if config.model == BUILTIN_MODEL else config.model
    tell_left_out(source)
    with torch_threads(config.threads):
        loaded = load_model(
            source,
            adapter=config.lora if config.adapter == "lora" else None,
            seed=config.seed,
            marks=config.marks,
        )
        longest = min(config.max_tokens, positions_of(loaded))
        codec = Codec(loaded.tokenizer, loaded.special)
        looked_at = _asked(held_out[:MOST_LOOKED_AT], codec, longest)
        before = _stood(loaded, looked_at, config)
        asked = _asked(learned, codec, longest)
        _learn(loaded, asked, config)
        after = _stood(loaded, looked_at, config)
    write_model(merged(loaded.model), loaded.tokenizer, out)
    return Lesson(len(asked), len(looked_at), before, after)


def positions_of(loaded: Loaded) -> int:
    """Tokens that the model has positions for; a million where its settings do not say."""
    return int(getattr(plain(loaded.model).config, "max_position_embeddings", None) or 1_000_000)


def _asked(pairs: Sequence[Pair], codec: Codec, longest: int) -> list[Asked]:
    """Each pair in both orders; one whose question leaves no room for solutions is left out."""
    asked: list[Asked] = []
    for pair in pairs:
        orders = (pair.better, pair.worse), (pair.worse, pair.better)
        both = [comparison(codec, pair.question, *order, longest) for order in orders]
        if max(map(len, both)) <= longest:
            asked.append(Asked(*both))
    if pairs and not asked:
        raise RunError(f"no question of {len(pairs)} pairs fits in {longest} tokens; raise --max_tokens")
    return asked


def _ratings(loaded: Loaded) -> tuple[int, int]:
    return loaded.special.positive, loaded.special.negative


def _stood(loaded: Loaded, pairs: Sequence[Asked], config: PreferConfig) -> Stood | None:
    if not pairs:
        return None
    ratings, size = _ratings(loaded), config.prefer.batch_pairs
    return answered(loaded.model, pairs, ratings=ratings, pad_id=loaded.pad_id, batch_pairs=size)


def _learn(loaded: Loaded, pairs: Sequence[Asked], config: PreferConfig) -> None:
    steps = config.prefer.steps
    progress = bar(steps, "prefer", "step")

    def on_step(step: int, loss: float, kl: float) -> None:
        progress.set_postfix({"loss": f"{loss:.3f}", "kl": f"{kl:.4f}"}, refresh=False)
        progress.update()
        if progress.disable and (step % 50 == 0 or step == steps):
            log.info("step %d of %d: loss %.3f, kl %.4f", step, steps, loss, kl)

    learn_preferences(
        loaded.model,
        pairs,
        config.prefer,
        ratings=_ratings(loaded),
        pad_id=loaded.pad_id,
        seed=config.seed,
        on_step=on_step,
    )
    progress.close()
