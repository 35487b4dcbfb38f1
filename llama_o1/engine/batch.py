"""The rows an engine works on at once: who sits where in the pool, and what the prefix cache saves them.

Knows no sampling; that is local.py's.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from torch import Tensor

from llama_o1.engine.cache import PrefixCache
from llama_o1.engine.plain import PlainForward
from llama_o1.engine.ragged import ROWS_PER_CALL, Feed, RaggedForward
from llama_o1.engine.row import Row

_WORTH_WAITING = 16  # context tokens; a shorter new prefix is computed by each row that needs it
_NEW_TOKENS = 512  # admitted rows feed about so many in one step: larger passes leave the processor's caches
_LOOK_AHEAD = 64  # waiting rows among which one of fitting length is looked for


class Batch:
    """Running rows; row i sits in row i of the forward's pool."""

    def __init__(self, forward: RaggedForward | PlainForward, slots: int, cache_bytes: int) -> None:
        self._forward = forward
        self._slots = slots
        # A plain forward holds no keys and values, so there is nothing to keep.
        caching = isinstance(forward, RaggedForward) and cache_bytes > 0
        self._cache = PrefixCache(cache_bytes) if caching else None
        self._rows: list[Row | None] = []  # None: free
        self._picks = 0

    @property
    def rows(self) -> list[Row]:
        """The running rows, in any order."""
        return [row for row in self._rows if row is not None]

    def admit(self, waiting: deque[Row]) -> list[Row]:
        """Move rows from `waiting` to free places until one runs out; the rows that moved.

        Few enough that a step stays short. A row whose context another one is about to compute waits
        for it: samples of a request and requests for the same node share that work.
        """
        admitted: list[Row] = []
        deferred: list[Row] = []
        leaders: dict[tuple[int, ...], Row] = {}
        free = [place for place in range(self._slots) if place >= len(self._rows) or not self._rows[place]]
        room = _NEW_TOKENS
        while len(admitted) < len(free) and waiting and room > 0:
            place = free[len(admitted)]
            row = self._pick(waiting, place)
            pieces = self._find(row)
            leader = leaders.setdefault(row.request.context, row)
            if leader is not row and self._cache and len(row.request.context) - row.fed > _WORTH_WAITING:
                leader.shared = True
                deferred.append(row)
                continue
            room -= len(row.tokens) - row.fed
            self._place(row, place, pieces)
            admitted.append(row)
        waiting.extendleft(reversed(deferred))
        self._close_gaps()
        return admitted

    def logits(self) -> Tensor:
        """Logits [rows, vocab] after the last token of each of `rows`, from one forward pass."""
        running = self.rows
        logits = self._forward.logits([Feed(row.tokens, row.fed) for row in running])
        for i, row in enumerate(running):
            row.fed = len(row.tokens)
            if row.shared:
                self._keep(i, row)
                row.shared = False
        return logits

    def release(self, row: Row) -> None:
        """Free a row's place; the cache keeps what was computed for it."""
        place = self._rows.index(row)
        self._keep(place, row)
        self._rows[place] = None

    def clear_cache(self) -> None:
        """Drop every cached prefix."""
        if self._cache is not None:
            self._cache.clear()

    def _pick(self, waiting: deque[Row], place: int) -> Row:
        """The waiting row nearest in length to the place's neighbours, since they are padded together.

        The first one is taken in its turn, however its length, so that none waits for ever.
        """
        start = place - place % ROWS_PER_CALL
        near = [len(row.tokens) for row in self._rows[start : start + ROWS_PER_CALL] if row is not None]
        near = near or [len(row.tokens) for row in self._rows[start - 1 : start] if row is not None]
        self._picks += 1
        if not near or self._picks % _LOOK_AHEAD == 0:
            return waiting.popleft()
        wanted = sum(near) / len(near)
        ahead = [abs(len(row.tokens) - wanted) for row in islice(waiting, _LOOK_AHEAD)]
        best = ahead.index(min(ahead))
        row = waiting[best]
        del waiting[best]
        return row

    def _find(self, row: Row) -> list[Tensor]:
        """Cached keys and values of the row's beginning; at least one token is left to feed."""
        if self._cache is None:
            return []
        row.fed, pieces = self._cache.match(row.tokens, len(row.tokens) - 1)
        row.cached = min(row.fed, len(row.request.context))
        return pieces

    def _place(self, row: Row, place: int, pieces: list[Tensor]) -> None:
        self._forward.reserve(len(row.request.context) + row.request.max_tokens)
        self._forward.write(place, pieces)
        if place == len(self._rows):
            self._rows.append(row)
        else:
            self._rows[place] = row

    def _keep(self, place: int, row: Row) -> None:
        if self._cache is not None:
            self._cache.insert(row.tokens, row.fed, lambda start, end: self._forward.read(place, start, end))

    def _close_gaps(self) -> None:
        """Move the last rows into free places, so that running rows are the pool's first."""
        place = 0
        while place < len(self._rows):
            if self._rows[place] is None:
                last = self._rows.pop()
                if last is not None:
                    self._forward.move(len(self._rows), place, last.fed)
                    self._rows[place] = last
            else:
                place += 1
