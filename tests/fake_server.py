"""An OpenAI-style server without a model, in this process: the fake engine's policy behind HTTP.

It can lack what real servers lack, fail, hang and die.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import numpy as np

from llama_o1.engine.fake import FakeEngine

BLOCK = 8  # tokens of a cached piece


class FakeServer:
    """A server at `url` until it is closed. What it was asked is in `asked`."""

    def __init__(
        self,
        *,
        vocab_size=40,
        max_model_len=97,
        policy=None,
        model="fake",
        root="",
        lacks=(),
        key=None,
        port=0,
    ):
        self.model, self.root, self.max_model_len = model, str(root), max_model_len
        self.lacks = frozenset(lacks)
        self.engine = FakeEngine(vocab_size, 1 << 20, policy=policy)
        self.vocab_size = vocab_size
        self.asked = []  # (path, body)
        self.key = key  # None: anyone may ask
        self.loads = []  # folders
        self.statuses = deque()  # answers of the next completions instead of 200
        self.refuses = lambda body: None  # (status, message) for a completion it does not serve
        self.delay_s = 0.0
        self.slow_first_id = None  # a completion whose prompt starts with it takes 10 s
        self.at_the_slow_one = Event()  # it has come in
        self.broken_off = Event()  # a client closed its connection while it waited
        self.drawn = 0
        self.cache = set()
        self._http = _Http(("127.0.0.1", port), _handler(self))
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Die: nobody listens any more and every connection breaks."""
        self._http.shutdown()
        self._http.server_close()
        for connection in self._http.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._thread.join()

    def bodies(self, path="/v1/completions"):
        """What was asked at a path, the probe's questions left out."""
        return [body for at, body in self.asked if at == path and body.get("cache_salt") != "probe"]

    def answer(self, path, body):
        """Status and JSON."""
        self.asked.append((path, body))
        match path:
            case "/v1/models" if "models" not in self.lacks:
                entry = {"id": self.model, "root": self.root, "max_model_len": self.max_model_len}
                return 200, {"data": [entry]}
            case "/health":
                return 200, ""
            case "/v1/completions":
                return self._completion(body)
            case "/generative_scoring" if "scoring" not in self.lacks:
                return 200, {"data": [{"score": self._score(body)}]}
            case "/collective_rpc" if "dev" not in self.lacks:
                if "load" in self.lacks:
                    return 500, {"error": {"message": "it does\nnot fit"}}
                self.loads.append(body["kwargs"]["weights_path"])
                return 200, {"results": [None]}
            case "/reset_prefix_cache" if "dev" not in self.lacks:
                self.cache.clear()
                return 200, {"success": True}
        return 404, {"detail": "Not Found"}

    def _completion(self, body):
        if self.statuses:
            return self.statuses.popleft(), {"error": {"message": "on purpose"}}
        if refusal := self.refuses(body):
            return refusal[0], {"error": {"message": refusal[1]}}
        if max(body["prompt"]) >= self.vocab_size:
            return 400, {"error": {"message": f"Token id {max(body['prompt'])} is out of vocabulary"}}
        if len(body["prompt"]) + body["max_tokens"] > (self.max_model_len or 1000):
            return 400, {"error": {"message": "too long"}}
        choice = self._draw(body)
        usage = {"prompt_tokens_details": {"cached_tokens": self._cached(body)}}
        return 200, {"choices": [choice], "usage": usage}

    def _draw(self, body):
        tokens, rng = list(body["prompt"]), np.random.default_rng(body["seed"])
        ids, logprobs, tops = [], [], []
        stop = () if "stop" in self.lacks else body["stop_token_ids"]
        while len(ids) < body["max_tokens"] and not (ids and ids[-1] in stop):
            drawn_from, given = self._distributions(tokens, body)
            cumulated = np.exp(drawn_from).cumsum()
            token = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
            if body["temperature"] == 0:
                token = int(drawn_from.argmax())
            shown = [token, *np.argsort(-given)[: body["logprobs"]].tolist()]
            if body.get("logprob_token_ids") and "logprob_token_ids" not in self.lacks:
                shown = [token, *body["logprob_token_ids"]]
            tops.append({f"token_id:{i}": float(given[i]) for i in shown})
            ids.append(token)
            tokens.append(token)
            logprobs.append(float(given[token]))
        self.drawn += len(ids)
        if "stop_token" in self.lacks and ids[-1] in stop:
            ids.pop()
        choice = {
            "text": "",
            "token_ids": ids,
            "logprobs": {"token_logprobs": logprobs, "top_logprobs": tops},
        }
        return {name: value for name, value in choice.items() if name not in self.lacks}

    def _distributions(self, tokens, body):
        """Log-probs it draws from, and those it tells."""
        temperature = body["temperature"] or 1.0
        own = self.engine.distribution(tokens, temperature)
        allowed = body.get("allowed_token_ids")
        if allowed and "allowed_token_ids" not in self.lacks:
            left_out = np.ones(len(own), bool)
            left_out[list(allowed)] = False
            own = np.where(left_out, -1e9, own)
            own = own - np.log(np.exp(own).sum())
        return own, self.engine.distribution(tokens) if "processed" in self.lacks else own

    def _score(self, body):
        first, second = body["label_token_ids"]
        logprobs = self.engine.distribution([*body["query"], *body["items"][0]])
        self._cached({"prompt": body["query"], "cache_salt": body["cache_salt"]})
        return 1.0 / (1.0 + np.exp(logprobs[second] - logprobs[first]))

    def _cached(self, body):
        prompt = body["prompt"]
        pieces = [(body["cache_salt"], tuple(prompt[:end])) for end in range(BLOCK, len(prompt) + 1, BLOCK)]
        known = sum(piece in self.cache for piece in pieces)
        self.cache.update(pieces)
        return known * BLOCK


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args):
        self.connections = []
        super().__init__(*args)

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        return  # a client that went away


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            self._respond({})

        def do_POST(self):
            self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _respond(self, body):
            status, answer = 401, {"error": "Unauthorized"}
            if server.key is None or self.headers["Authorization"] == f"Bearer {server.key}":
                status, answer = server.answer(self.path, body)
            if self.path == "/v1/completions" and body["cache_salt"] != "probe" and not self._waits(body):
                return
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _waits(self, body):
            """Sit out the delay; False when the client closed its connection meanwhile."""
            slow = body["prompt"][0] == server.slow_first_id
            delay_s = 10.0 if slow else server.delay_s
            if slow:
                server.at_the_slow_one.set()
            until = time.monotonic() + delay_s
            while (left := until - time.monotonic()) > 0:
                readable, _, _ = select.select([self.connection], [], [], min(left, 0.01))
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    server.broken_off.set()
                    self.close_connection = True
                    return False
            return True

        def log_message(self, *_):
            return

    return Handler
