"""One running server over HTTP: the only door to the network. Knows JSON, neither tokens nor models.

Standard library: a connection a thread, kept open between requests. Closing it is what makes a server give
up the work.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llama_o1.errors import EngineError

PAUSES_S = (0.5, 1.0, 2.0)  # for whoever asks again where a server failed
_CONNECT_TIMEOUT_S = 10.0
_STALE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)  # a kept connection that was closed


class Answer(NamedTuple):
    """What a server said."""

    status: int
    body: Any  # parsed JSON; the text where it is none

    @property
    def message(self) -> str:
        """The server's own words in one line, for an error of ours."""
        body = self.body
        if isinstance(body, dict):
            error = body.get("error", body)
            body = error.get("message", error) if isinstance(error, dict) else error
        return f"{self.status} {' '.join(str(body).split())[:300]}"


class Call:
    """A request under way, which another thread may give up."""

    def __init__(self) -> None:
        self.given_up = False
        self._lock = Lock()
        self._connection: HTTPConnection | None = None

    def give_up(self) -> None:
        """Break the request off; whoever waits for it gets an OSError."""
        with self._lock:
            self.given_up = True
            if self._connection is not None and self._connection.sock is not None:
                _shut(self._connection.sock)

    def hold(self, connection: HTTPConnection | None) -> None:
        """Note which connection carries the request; None: it is over."""
        with self._lock:
            if self.given_up and connection is not None:
                raise ConnectionAbortedError("given up")
            self._connection = connection


class Replica:
    """A server at one address. May be asked by many threads at once."""

    def __init__(self, url: str, *, timeout_s: float, api_key: str | None = None) -> None:
        """`timeout_s` is how long an answer may take; `/v1` at the end of the URL is left out."""
        self.url = url.rstrip("/").removesuffix("/v1")
        self._secure, self._host, self._port, self._path = _split(self.url)
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._idle: list[HTTPConnection] = []
        self._closed = False

    def get(self, path: str) -> Answer:
        """The answer to a GET; OSError when there is none."""
        return self._ask("GET", path, None, Call(), self._timeout_s)

    def post(
        self, path: str, body: object, call: Call | None = None, timeout_s: float | None = None
    ) -> Answer:
        """The answer to a POST of JSON; OSError when there is none."""
        return self._ask(
            "POST", path, json.dumps(body).encode(), call or Call(), timeout_s or self._timeout_s
        )

    def close(self) -> None:
        """Close the connections nobody uses; one in use is closed when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _ask(self, method: str, path: str, body: bytes | None, call: Call, timeout_s: float) -> Answer:
        if self._idle:
            try:
                return self._exchange(self._kept(), method, path, body, call, timeout_s)
            except _STALE:
                if call.given_up:
                    raise
        return self._exchange(self._new(), method, path, body, call, timeout_s)

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        call: Call,
        timeout_s: float,
    ) -> Answer:
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout_s)
            call.hold(connection)
            connection.request(method, self._path + path, body, self._headers)
            response = connection.getresponse()
            text = response.read()
            call.hold(None)
        except OSError:
            connection.close()
            raise
        except HTTPException as error:
            connection.close()
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        self._idle.append(connection)
        if self._closed:
            self.close()
        return Answer(response.status, _parsed(text))

    def _kept(self) -> HTTPConnection:
        try:
            return self._idle.pop()
        except IndexError:  # another thread was quicker
            return self._new()

    def _new(self) -> HTTPConnection:
        make = HTTPSConnection if self._secure else HTTPConnection
        return make(self._host, self._port, timeout=_CONNECT_TIMEOUT_S)


def _split(url: str) -> tuple[bool, str, int | None, str]:
    """Whether it is https, host, port and path of an address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise EngineError(f"a server is given as http://HOST:PORT, got {url!r}")
    return parts.scheme == "https", f"[{host}]" if ":" in host else host, port, parts.path


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
