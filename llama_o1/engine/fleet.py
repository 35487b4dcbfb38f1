"""Several servers of one model: which one a group of requests goes to, and what happens when it fails.

Rendezvous hashing (Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates"): a group
stays with its server, and only the groups of a lost one move.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from threading import Lock

from llama_o1.engine.replica import PAUSES_S, Answer, Call, Replica
from llama_o1.errors import EngineError

ASK_AGAIN_S = 30.0  # how long a server that was taken out is left alone
_BROKEN = (429, 500, 502, 503, 504)  # statuses that are no verdict on the request

_log = logging.getLogger(__name__)


class _Standing:
    """Whether a server is asked at present."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.lock = Lock()
        self.failure: OSError | EngineError | None = None  # why it was taken out; None: it is up
        self.ask_again_at = 0.0


class Fleet:
    """Replicas of one model; asked by many threads at once."""

    def __init__(self, replicas: list[Replica], welcome: Callable[[Replica], None]) -> None:
        """`welcome` is called with a server that was out: OSError or EngineError leave it out."""
        self._standings = [_Standing(replica) for replica in replicas]
        self._welcome = welcome

    def post(self, group: str, path: str, body: object, call: Call) -> Answer:
        """The answer of the group's server or, where that fails, of the next one that is up.

        EngineError when none is left; OSError when the call was given up.
        """
        order = sorted(self._standings, key=lambda s: _weight(group, s.replica.url), reverse=True)
        for standing, wait in [*((s, False) for s in order), *((s, True) for s in order)]:
            if not self._is_up(standing, wait):
                continue
            try:
                return self._try(standing, path, body, call)
            except OSError as error:
                if call.given_up:
                    raise
                self._take_out(standing, error)
        raise self.none_left()

    def up(self) -> Iterator[Replica]:
        """The servers that are asked at present."""
        return (standing.replica for standing in self._standings if standing.failure is None)

    def take_out(self, replica: Replica, failure: OSError) -> None:
        """Ask a server no more, for a while."""
        self._take_out(next(s for s in self._standings if s.replica is replica), failure)

    def ask_all_again(self) -> None:
        """Let no server wait until it is asked again."""
        for standing in self._standings:
            standing.ask_again_at = 0.0

    def none_left(self) -> EngineError:
        """The error of a fleet in which no server is up."""
        reasons = ", ".join(f"{s.replica.url} ({s.failure})" for s in self._standings)
        return EngineError(f"no server is left: {reasons}; check that they run and are reachable")

    def close(self) -> None:
        """Close every connection."""
        for standing in self._standings:
            standing.replica.close()

    def _try(self, standing: _Standing, path: str, body: object, call: Call) -> Answer:
        """Ask one server, again after a pause when it fails. Too slow is not tried twice."""
        for pause_s in (*PAUSES_S, None):
            try:
                answer = standing.replica.post(path, body, call)
                if answer.status not in _BROKEN:
                    return answer
                failure: OSError = ConnectionError(f"answered {answer.message}")
            except TimeoutError:
                raise
            except OSError as error:
                failure = error
            if call.given_up or pause_s is None or standing.failure is not None:
                raise failure
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _is_up(self, standing: _Standing, wait: bool) -> bool:
        """Whether a server is asked at present; `wait`: for another thread that tries it again."""
        if standing.failure is not None and standing.lock.acquire(blocking=wait):
            try:
                if standing.failure is not None and time.monotonic() >= standing.ask_again_at:
                    self._ask_again(standing)
            finally:
                standing.lock.release()
        return standing.failure is None

    def _ask_again(self, standing: _Standing) -> None:
        try:
            self._welcome(standing.replica)
        except (OSError, EngineError) as error:
            standing.failure = error
            standing.ask_again_at = time.monotonic() + ASK_AGAIN_S
            return
        standing.failure = None
        _log.warning("server %s is back", standing.replica.url)

    def _take_out(self, standing: _Standing, failure: OSError) -> None:
        with standing.lock:
            if standing.failure is not None:
                return
            standing.failure = failure
            standing.ask_again_at = time.monotonic() + ASK_AGAIN_S
        _log.warning(
            "server %s is taken out (%s); its work goes to the others, it is asked again after %d s",
            standing.replica.url,
            failure,
            ASK_AGAIN_S,
        )


def _weight(group: str, url: str) -> bytes:
    return blake2b(f"{url} {group}".encode(), digest_size=8).digest()
