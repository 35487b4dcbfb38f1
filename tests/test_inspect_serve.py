"""The live page's server: loopback only, reads only, answers nobody under another name."""

import http.client
import json
import threading
from urllib.parse import quote

import pytest
from small_run import write_run

from llama_o1.texts import texts_of
from replay import PrioritizedReplayBuffer, ReplayError
from replay.inspect.serve import InspectServer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run):
    with InspectServer(run, texts_of(run, None), tree_page=lambda name: f"<p>{name}") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def read(server, path):
    answer, body = asked(server, path)
    assert answer.status == 200, body
    return json.loads(body)


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_allows_itself_and_its_server_only(server):
    answer, body = asked(server, "/")
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert answer.getheader("X-Frame-Options") == "DENY"
    assert answer.getheader("Access-Control-Allow-Origin") is None
    assert b"default-src 'none'" in body
    assert b"connect-src 'self'" in body


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_another_host_gets_nothing(server, host):
    answer, body = asked(server, "/overview.json", Host=host.format(port=server.server_port))
    assert answer.status == 421
    assert json.loads(body) == {"error": "another host"}


def test_localhost_is_this_host(server):
    assert asked(server, "/overview.json", Host=f"LocalHost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_there_is_nothing_to_change(server, method):
    assert asked(server, "/overview.json", method)[0].status == 501


def test_a_head_has_no_body(server):
    answer, body = asked(server, "/", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.getheader("Content-Length")) > 1000


def test_questions_are_answered_as_on_the_command_line(server):
    assert read(server, "/overview.json")["num_live"] == 7
    where = quote("action = 'conclude' and value > 0.5")
    assert read(server, f"/overview.json?where={where}")["num_matching"] == 2
    nodes = read(server, f"/nodes.json?where={where}&sort=id%20asc&limit=9")
    assert nodes["id"] == [1, 2]
    assert nodes["text"][0] == r"\boxed{5}<end_of_thought>"
    node = read(server, "/node.json?id=1")
    assert (node["tree"], [one["id"] for one in node["above"]]) == ("000001/0000", [0])
    assert "".join(text for text, logprob in node["tokens"] if logprob == -0.25) == nodes["text"][0]
    assert asked(server, "/tree/000001/0000")[1] == b"<p>000001/0000"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nodes.json?where=" + quote("1=1; DROP TABLE nodes"), "cannot read the condition"),
        ("/nodes.json?sort=prioritty", "nearest is 'priority'"),
        ("/nodes.json?limit=many", "limit must be a whole number"),
        ("/nodes.json?limit=-1", "limit must not be negative"),
        ("/node.json?id=99", "no node 99"),
        ("/node.json?id=" + "9" * 30, "no node"),
        ("/node.json", "no node -1"),
    ],
)
def test_a_mistake_is_told_and_nothing_else(server, path, message):
    answer, body = asked(server, path)
    assert answer.status == 400
    assert message in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/replay.sqlite", "/nodes", "//evil.example/"])
def test_nothing_else_is_there(server, path):
    assert asked(server, path)[0].status in (400, 404)


def test_what_a_writer_adds_is_there_at_the_next_question(tmp_path):
    write_run(tmp_path)
    with InspectServer(tmp_path, None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with PrioritizedReplayBuffer(tmp_path / "replay", capacity=64) as buffer:
                buffer.update_priority([3], [50.0])
                assert read(server, "/nodes.json?limit=1")["id"] == [3]
                assert read(server, "/nodes.json?limit=1")["text"] is None
                assert asked(server, "/tree/000001/0000")[0].status == 404
        finally:
            server.shutdown()
            thread.join()


def test_a_port_that_is_taken_and_a_folder_without_a_buffer_are_one_line(server, run, tmp_path):
    with pytest.raises(ReplayError, match="cannot listen on 127"):
        InspectServer(run, None, port=server.server_port)
    with pytest.raises(ReplayError, match="cannot listen"):
        InspectServer(run, None, port=99_999)
    with pytest.raises(ReplayError, match="no replay buffer"):
        InspectServer(tmp_path, None)
