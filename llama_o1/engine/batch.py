"""The rows an engine works on at once: who sits where in the pool, and what the prefix cache saves them.

Knows no sampling; that is local.py's.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from llama_o1.engine.attend import Feed
from llama_o1.engine.cache import PrefixCache, Stem
from llama_o1.engine.plain import PlainForward
from llama_o1.engine.ragged import RaggedForward
from llama_o1.engine.row import Row

_WORTH_WAITING = 16  # context tokens; a shorter new prefix is computed by each row that needs it
_LEAST_STEM = 32  # tokens; a shorter prefix is copied, since a stem costs a call of its own
_NEW_TOKENS = 512  # admitted rows feed about so many in one step: larger passes leave the processor's caches
_LOOK_AHEAD = 64  # waiting rows among which one of fitting length is looked for


class _Seat(NamedTuple):
    """A running row, and the prefix it reads from outside its place in the pool."""

    row: Row
    stem: Stem | None


class Batch:
    """Running rows in the places of the forward's pool."""

    def __init__(self, forward: RaggedForward | PlainForward, slots: int, cache_bytes: int) -> None:
        self._forward = forward
        self._slots = slots
        # A plain forward holds no keys and values, so there is nothing to keep.
        caching = isinstance(forward, RaggedForward) and cache_bytes > 0
        self._cache = PrefixCache(cache_bytes) if caching else None
        self._takes_stems = isinstance(forward, RaggedForward) and forward.takes_stems
        self._seats: list[_Seat | None] = []  # by place; None: free
        self._picks = 0

    @property
    def rows(self) -> list[Row]:
        """The running rows, by their places."""
        return [seat.row for seat in self._seats if seat is not None]

    def admit(self, waiting: deque[Row]) -> list[Row]:
        """Move rows from `waiting` to free places until one runs out; the rows that moved.

        Few enough that a step stays short. A row whose next tokens another one is about to compute waits
        for it: samples of a request, requests for the same node and leaves of one prefix share that work.
        """
        admitted: list[Row] = []
        deferred: list[Row] = []
        leaders: dict[tuple[int, ...], Row] = {}
        free = [place for place in range(self._slots) if place >= len(self._seats) or not self._seats[place]]
        room = _NEW_TOKENS
        while len(admitted) < len(free) and waiting and room > 0:
            row = self._pick(waiting, free[len(admitted)])
            leader = self._leader(row, leaders)
            if leader is not None:
                leader.shared = True
                deferred.append(row)
                continue
            self._seat(row, free[len(admitted)])
            room -= len(row.tokens) - row.fed
            admitted.append(row)
        waiting.extendleft(reversed(deferred))
        self._close_gaps()
        return admitted

    def logits(self) -> Tensor:
        """Logits [rows, vocab] after the last token of each of `rows`, from one forward pass."""
        feeds = [
            Feed(seat.row.tokens, seat.row.fed, place, seat.stem)
            for place, seat in enumerate(self._seats)
            if seat is not None
        ]
        logits = self._forward.logits(feeds)
        for feed, row in zip(feeds, self.rows, strict=True):
            row.fed = len(row.tokens)
            if row.shared:
                self._share(feed.place)
        return logits

    def release(self, row: Row) -> None:
        """Free a row's place; the cache keeps what was computed for it."""
        place = next(i for i, seat in enumerate(self._seats) if seat is not None and seat.row is row)
        self._keep(place, row.fed)
        self._seats[place] = None

    def clear_cache(self) -> None:
        """Drop every cached prefix."""
        if self._cache is not None:
            self._cache.clear()

    def _pick(self, waiting: deque[Row], place: int) -> Row:
        """The waiting row nearest in length to the place's neighbours, since they are padded together.

        The first one is taken in its turn, however its length, so that none waits for ever.
        """
        near = [
            len(seat.row.tokens) for seat in self._seats[max(0, place - 4) : place + 5] if seat is not None
        ]
        self._picks += 1
        if not near or self._picks % _LOOK_AHEAD == 0:
            return waiting.popleft()
        wanted = sum(near) / len(near)
        ahead = [abs(len(row.tokens) - wanted) for row in islice(waiting, _LOOK_AHEAD)]
        best = ahead.index(min(ahead))
        row = waiting[best]
        del waiting[best]
        return row

    def _leader(self, row: Row, leaders: dict[tuple[int, ...], Row]) -> Row | None:
        """The row admitted in this step that computes what this one would; None: it leads itself."""
        if self._cache is None:
            return None
        known = self._cache.known(row.tokens, len(row.tokens) - 1)
        next_tokens = row.tokens[known : known + _WORTH_WAITING]
        if len(row.request.context) - known < len(next_tokens) or len(next_tokens) < _WORTH_WAITING:
            return None
        leader = leaders.setdefault((known, *row.tokens[: known + _WORTH_WAITING]), row)
        return None if leader is row else leader

    def _seat(self, row: Row, place: int) -> None:
        """Give a row a place, with all that the cache knows of its beginning but the last token."""
        stem, pieces = None, []
        if self._cache is not None:
            shared = len(row.request.context) - 1 if self._takes_stems else 0
            row.fed, stem, pieces = self._cache.match(
                row.tokens, len(row.tokens) - 1, shared=shared, least=_LEAST_STEM
            )
            row.cached = min(row.fed, len(row.request.context))
        self._take(place, row, stem, pieces)

    def _take(self, place: int, row: Row, stem: Stem | None, pieces: list[Tensor]) -> None:
        length = len(row.request.context) + row.request.max_tokens
        self._forward.start(place, pieces, length - (0 if stem is None else stem.length))
        if place == len(self._seats):
            self._seats.append(None)
        self._seats[place] = _Seat(row, stem)

    def _share(self, place: int) -> None:
        """Let waiting rows have the context of this one, and read it from the stem that they will."""
        seat = self._seats[place]
        assert seat is not None
        assert self._cache is not None
        row, end = seat.row, len(seat.row.request.context) - 1
        row.shared = False
        self._keep(place, end)
        if not self._takes_stems:
            return
        length, stem, pieces = self._cache.match(row.tokens, end, shared=end, least=_LEAST_STEM)
        if stem is not None and length == end:
            self._take(place, row, stem, [*pieces, self._forward.read(place, seat.stem, end, row.fed)])

    def _keep(self, place: int, end: int) -> None:
        seat = self._seats[place]
        assert seat is not None
        if self._cache is not None:
            self._cache.insert(
                seat.row.tokens, end, lambda start, end: self._forward.read(place, seat.stem, start, end)
            )

    def _close_gaps(self) -> None:
        """Move the last rows into free places where many are free: neighbours are computed together."""
        if 2 * len(self.rows) > len(self._seats):
            return
        place = 0
        while place < len(self._seats):
            if self._seats[place] is None:
                last = self._seats.pop()
                if last is not None:
                    length = last.row.fed - (0 if last.stem is None else last.stem.length)
                    self._forward.move(len(self._seats), place, length)
                    self._seats[place] = last
            else:
                place += 1
