"""The buffer's page, live: a small server for this machine's own browser. Reads only.

It listens on the loopback address alone and answers a request only when its Host names that address, so
that a page of another site whose name was pointed here (DNS rebinding) gets nothing. There is nothing to
change: GET and HEAD are all it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from replay.errors import ReplayError
from replay.inspect.overview import SAMPLE
from replay.inspect.page import Pieces, live_page, node_json, nodes_json, overview_json
from replay.inspect.query import ReplayReader

LOOPBACK = "127.0.0.1"
MOST_ROWS = 2_000  # of one answer
TreePage = Callable[[str], str]  # the page of a tree by its name; ReplayError when there is none

Answer = tuple[HTTPStatus, str, bytes]


class InspectServer(ThreadingHTTPServer):
    """Serves one folder. Every request reads the buffer as it is at that moment."""

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        texts: Pieces | None,
        tree_page: TreePage | None = None,
        *,
        port: int = 0,
        sample: int = SAMPLE,
    ) -> None:
        """Listen on the loopback address; port 0: any that is free. ReplayError when that cannot be."""
        self.folder, self.texts, self.tree_page, self.sample = folder, texts, tree_page, sample
        ReplayReader(folder).close()  # what is wrong with the folder is said now
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ReplayError(f"cannot listen on {LOOPBACK}:{port}: {error}; give another --port") from error

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def answer(self, path: str, asked: Mapping[str, str]) -> Answer:
        """What a path holds. ReplayError: the question cannot be answered."""
        if path == "/":
            return HTTPStatus.OK, "text/html", live_page().encode()
        if path.startswith("/tree/") and self.tree_page is not None:
            return HTTPStatus.OK, "text/html", self.tree_page(unquote(path.removeprefix("/tree/"))).encode()
        answers = {"/overview.json": self._overview, "/nodes.json": self._nodes, "/node.json": self._node}
        if path not in answers:
            return HTTPStatus.NOT_FOUND, "application/json", _json({"error": f"nothing at {path}"})
        with ReplayReader(self.folder) as reader:
            return HTTPStatus.OK, "application/json", _json(answers[path](reader, asked))

    def _overview(self, reader: ReplayReader, asked: Mapping[str, str]) -> dict[str, Any]:
        found = overview_json(reader, asked.get("where"), self.sample)
        return found | {"has_trees": self.tree_page is not None}

    def _nodes(self, reader: ReplayReader, asked: Mapping[str, str]) -> dict[str, Any]:
        limit = min(_whole(asked, "limit", MOST_ROWS), MOST_ROWS)
        top = reader.top(limit, asked.get("sort", "priority"), asked.get("where"))
        return nodes_json(list(reader.held([item.id for item in top])), self.texts)

    def _node(self, reader: ReplayReader, asked: Mapping[str, str]) -> dict[str, Any]:
        return node_json(reader.node(_whole(asked, "id", -1)), self.texts)


class _Handler(BaseHTTPRequestHandler):
    server: InspectServer
    server_version, sys_version = "llama-o1", ""
    timeout = 30  # of a connection that says nothing

    def do_GET(self) -> None:
        """Answer a question."""
        hosts = {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}
        if self.headers.get("Host", "").lower() not in hosts:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "application/json", _json({"error": "another host"}))
            return
        address = urlsplit(self.path)
        asked = {key: values[-1] for key, values in parse_qs(address.query).items()}
        try:
            status, kind, body = self.server.answer(address.path, asked)
        except ReplayError as error:
            status, kind, body = HTTPStatus.BAD_REQUEST, "application/json", _json({"error": str(error)})
        self._send(status, kind, body)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not logged."""

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _whole(asked: Mapping[str, str], name: str, otherwise: int) -> int:
    text = asked.get(name, str(otherwise))
    try:
        return int(text)
    except ValueError:
        raise ReplayError(f"{name} must be a whole number, got {text[:40]!r}") from None


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
