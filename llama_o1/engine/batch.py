"""The rows an engine works on at once, and what the prefix cache saves them.

Knows no sampling; that is local.py's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from llama_o1.engine.attend import FEW, Feed
from llama_o1.engine.cache import PrefixCache, Segment
from llama_o1.engine.forward import Forward
from llama_o1.engine.kv import KeyValues
from llama_o1.engine.places import Range, cut, joined
from llama_o1.engine.plain import CachedForward
from llama_o1.engine.ragged import RaggedForward
from llama_o1.engine.row import Row

_WORTH_WAITING = 16  # tokens; a shorter new prefix is computed by each row that needs it
_NEW_TOKENS = 512  # admitted rows feed about so many in one step: larger passes leave the processor's caches
_LOOK_AHEAD = 256  # waiting rows among which those that belong together are found
_ROOM = 64  # positions taken at a time for what a row will sample; those left over its continuation takes
_WORTH_A_MOVE = 8  # draws that a row may make; to move what it reads costs as much as a few
_MOVED = 512  # tokens at most
_SPARE = 4  # on a CPU a quarter more than the cache may hold, so that free ranges are long

Made = TypeVar("Made")


@dataclass(slots=True, eq=False)
class _Seat:
    """A running row: the prefix it reads, and the positions of what it computes itself."""

    row: Row
    prefix: Segment | None = None  # pinned in the cache; None: there is no cache
    base: int = 0  # tokens of the prefix
    above: list[Range] | tuple[()] = ()  # where they lie
    own: list[Range] | tuple[()] = ()
    past: list[Range] | None = None  # both; None: they have changed
    end: int = 0  # tokens that have positions in both


class Batch:
    """Running rows, their prefixes and their part of the memory."""

    def __init__(self, forward: Forward, slots: int, cache_bytes: int) -> None:
        self._forward = forward
        self._slots = slots
        # Other forwards hold no keys and values of ours, so there is nothing to share.
        self._memory = forward.memory if isinstance(forward, RaggedForward) else None
        self._gathers = self._memory is not None and _reads_in_place(self._memory)
        self._cache: PrefixCache | None = None
        if self._memory is not None and cache_bytes >= self._memory.token_bytes:
            self._cache = PrefixCache(self._memory, cache_bytes)
            tokens = cache_bytes // self._memory.token_bytes
            spare = tokens // _SPARE if self._gathers else slots * _ROOM
            self._memory.reserve(tokens + spare)
        self._seats: dict[Row, _Seat] = {}
        self.reuses_forced = (
            True  # what programs force at the start is looked up in the cache with the context
        )

    @property
    def rows(self) -> list[Row]:
        """The running rows, in the order of `logits`."""
        return list(self._seats)

    def admit(self, waiting: deque[Row]) -> list[Row]:
        """Move rows from `waiting` to free places until one runs out; the rows that moved.

        Few enough that a step stays short. A row whose next tokens another one is about to compute waits
        for it: samples of a request, requests for the same node and leaves of one prefix share that work.
        Rows that continue one cached prefix by many tokens go together, so that they attend to it together.
        """
        admitted: list[Row] = []
        deferred: list[Row] = []
        leaders: dict[tuple[int, ...], Row] = {}
        room = _NEW_TOKENS
        while len(self._seats) < self._slots and waiting and room > 0:
            row = waiting.popleft()
            leader = self._leader(row, leaders)
            if leader is not None:
                leader.shared = True
                deferred.append(row)
                continue
            self._seat(row)
            room -= len(row.tokens) - row.fed
            if row.fed and len(row.tokens) - row.fed > FEW and (not admitted or admitted[-1].fed != row.fed):
                _bring_forward(waiting, row.tokens[: row.fed])
            admitted.append(row)
        waiting.extendleft(reversed(deferred))
        return admitted

    def logits(self) -> Tensor:
        """Logits [rows, vocab] after the last token of each of `rows`, from one forward pass."""
        return self._pass(self._forward.logits)

    def with_hidden(self) -> tuple[Tensor, Tensor]:
        """The logits, and the hidden states [rows, width] they were made of."""
        return self._pass(self._forward.with_hidden)

    def _pass(self, forward: Callable[[list[Feed]], Made]) -> Made:
        """What a forward pass makes of what the rows have not seen yet."""
        made = forward([self._feed(seat) for seat in self._seats.values()])
        for seat in self._seats.values():
            seat.row.fed = len(seat.row.tokens)
            if seat.row.shared:
                seat.row.shared = False
                self._keep(seat, len(seat.row.request.context))
        return made

    def release(self, row: Row) -> None:
        """Free a row's place; the cache keeps what was computed for it."""
        seat = self._seats.pop(row)
        if isinstance(self._forward, CachedForward):
            self._forward.release(row.tokens)
        if self._memory is None:
            return
        if self._cache is not None:
            self._keep(seat, row.fed)
            assert seat.prefix is not None
            self._cache.release(seat.prefix)
        self._memory.give(seat.own)

    def clear_cache(self) -> None:
        """Drop every cached prefix; no row may run."""
        if self._cache is not None:
            self._cache.clear()

    def _leader(self, row: Row, leaders: dict[tuple[int, ...], Row]) -> Row | None:
        """The row admitted in this step that computes what this one would; None: it leads itself."""
        if self._cache is None:
            return None
        known = self._cache.known(row.tokens, self._limit(row))
        if len(row.request.context) - known <= _WORTH_WAITING:
            return None
        leader = leaders.setdefault(tuple(row.tokens[: known + _WORTH_WAITING]), row)
        return None if leader is row else leader

    def _seat(self, row: Row) -> None:
        """Give a row a place, with all that the cache knows of its beginning but the last token."""
        seat = self._seats[row] = _Seat(row)
        if self._cache is not None:
            seat.base, seat.prefix = self._cache.pin(row.tokens, self._limit(row))
            left = row.request.max_tokens - len(row.ids)
            if self._gathers and left >= _WORTH_A_MOVE:
                seat.own = self._cache.gather(seat.prefix, _MOVED, _ROOM)
            seat.above = seat.prefix.path()
            seat.end = seat.base + (_ROOM if seat.own else 0)
            row.fed = seat.base
            row.cached = min(row.fed, len(row.request.context))

    def _limit(self, row: Row) -> int:
        """Tokens that the cache may serve: the last one is fed for what comes after it."""
        last = len(row.tokens) - 1
        return last if self.reuses_forced else min(last, len(row.request.context))

    def _feed(self, seat: _Seat) -> Feed:
        """What the row has not seen yet, with positions for it."""
        row = seat.row
        if self._memory is None:
            return Feed(row.tokens, row.fed, [])
        if len(row.tokens) > seat.end:
            left = len(row.request.context) + row.request.max_tokens - len(row.tokens)
            taken = self._memory.take(len(row.tokens) - seat.end, min(left, _ROOM), self._after(seat))
            seat.own = joined((*seat.own, *taken))
            seat.end += sum(end - start for start, end in taken)
            seat.past = None
        if seat.past is None:
            seat.past = joined((*seat.above, *seat.own))
        alone = row.fed > seat.base or seat.prefix is None
        return Feed(row.tokens, row.fed, seat.past, id(row if alone else seat.prefix))

    def _after(self, seat: _Seat) -> int:
        """Where a row's positions could go on in one piece; -1: it has none."""
        last = seat.own or (seat.prefix.ranges if seat.prefix is not None else ())
        return last[-1][1] if last else -1

    def _keep(self, seat: _Seat, end: int) -> None:
        """Give the cache what the row computed up to `end`; the row reads it from there."""
        if self._cache is None or end <= seat.base:
            return
        assert seat.prefix is not None
        given, own = cut(seat.own, end - seat.base)
        seat.prefix = self._cache.extend(seat.prefix, seat.row.tokens[seat.base : end], given)
        seat.above, seat.own, seat.past = seat.prefix.path(), own, None
        seat.base = end


def _reads_in_place(memory: KeyValues) -> bool:
    """Whether attention of few tokens reads the memory where it lies; on a GPU it gathers first."""
    return memory.device.type == "cpu"


def _bring_forward(waiting: deque[Row], prefix: list[int]) -> None:
    """Let the waiting rows that begin with `prefix` go first; changes the order of `waiting`."""
    near = [waiting.popleft() for _ in range(min(_LOOK_AHEAD, len(waiting)))]
    alike = [row.tokens[: len(prefix)] == prefix for row in near]
    waiting.extendleft(reversed([row for row, other in zip(near, alike, strict=True) if not other]))
    waiting.extendleft(reversed([row for row, same in zip(near, alike, strict=True) if same]))
