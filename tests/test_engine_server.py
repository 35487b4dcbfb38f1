import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from safetensors.torch import load_file
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from llama_o1.engine import fleet, offer
from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.protocol import Request
from llama_o1.engine.server import THREAD, server_engine
from llama_o1.engine.weights import read_weights, with_output
from llama_o1.errors import EngineError

VOCAB = 40
RATING = (5, 6)
CONTEXT = (1, 2, 3, 39, 7, 8, 9, 10, 11, 12)
REQUEST = Request(CONTEXT, 6, seed=1, rating=RATING)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(fleet, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(offer, "PAUSES_S", (0.01,))


@pytest.fixture
def serve():
    """Starts fake servers and engines over them; all are closed at the end."""
    started = []

    def serve(count=1, *, slots=4, temperature=1.0, timeout_s=20.0, **settings):
        servers = [FakeServer(**settings) for _ in range(count)]
        started.extend(servers)
        engine = server_engine(
            [server.url for server in servers],
            slots=slots,
            vocab_size=VOCAB,
            temperature=temperature,
            timeout_s=timeout_s,
        )
        started.append(engine)
        return engine, servers

    yield serve
    for each in reversed(started):
        each.close()


def drain(engine):
    replies = {}
    while got := engine.poll():
        replies.update(got)
    return replies


def ask(engine, *requests):
    """The replies, in order."""
    for i, request in enumerate(requests):
        engine.submit(i, request)
    replies = drain(engine)
    return [replies[i] for i in range(len(requests))]


def drawn(replies):
    return [(sample.ids.tolist(), sample.value) for reply in replies for sample in reply.samples]


def in_groups(count):
    return [replace(REQUEST, seed=i, group=f"problem {i // 2}", num_samples=2) for i in range(count)]


# What a server is asked.


def test_the_context_leaves_room_for_the_token_a_value_costs(serve):
    engine, _ = serve(max_model_len=97)
    assert engine.max_context == 96


def test_tokens_go_out_as_ids_and_sampling_is_plain(serve):
    engine, (server,) = serve()
    ask(engine, replace(REQUEST, seed=-7, temperature=1.0, stop=frozenset({4, 2})))
    body = server.bodies()[0]
    assert body["prompt"] == list(CONTEXT)
    assert body["stop_token_ids"] == [2, 4]
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (1.0, 1.0, -1, 0.0)
    assert 0 <= body["seed"] < 1 << 63


def test_a_key_is_sent_with_every_question():
    with FakeServer(key="abc") as server:
        server_engine([server.url], slots=1, vocab_size=VOCAB, api_key="abc").close()
        for key in (None, "abd"):
            with pytest.raises(EngineError, match=f"{server.url} wants another api_key: .* 401"):
                server_engine([server.url], slots=1, vocab_size=VOCAB, api_key=key)


def test_no_token_is_drawn_in_vain_where_the_program_sees_ahead(codec, writer, grow):
    with FakeServer(vocab_size=len(codec.tokenizer), max_model_len=1025, policy=writer) as server:
        engine = server_engine([server.url], slots=4, vocab_size=len(codec.tokenizer))
        server.drawn = 0
        trees = grow(["1 + 1?", "2 + 2?"], engine=engine)
        assert all(len(tree.nodes) > 4 for tree in trees)
        assert server.drawn == engine.figures().sampled_tokens
        engine.close()


@pytest.mark.parametrize("lacks", [(), ("scoring",), ("scoring", "logprob_token_ids")])
def test_a_value_is_read_in_the_first_way_a_server_offers(serve, lacks):
    engine, (server,) = serve(lacks=lacks)
    (sample,) = ask(engine, REQUEST)[0].samples
    logprobs = FakeEngine(VOCAB, 200).distribution([*CONTEXT, *sample.ids.tolist()])
    assert sample.value == pytest.approx(1 / (1 + np.exp(logprobs[6] - logprobs[5])), abs=1e-6)
    assert ("/generative_scoring" in {path for path, _ in server.asked}) or lacks


# Servers that fail.


def test_a_group_stays_with_one_server_and_groups_are_spread(serve):
    engine, servers = serve(3)
    ask(engine, *in_groups(60))
    assert all(server.bodies() for server in servers)
    for i in range(30):
        before = [len(server.asked) for server in servers]
        ask(engine, *in_groups(60)[2 * i : 2 * i + 2])
        assert sum(len(server.asked) > old for server, old in zip(servers, before, strict=True)) == 1


def test_a_server_that_failed_once_is_asked_again(serve, caplog):
    engine, (server,) = serve()
    wanted = drawn(ask(engine, REQUEST))
    server.statuses.extend([503, 500])
    assert drawn(ask(engine, REQUEST)) == wanted
    assert not caplog.records


def test_the_work_of_a_dead_server_goes_to_the_others_with_one_warning(serve, caplog):
    engine, servers = serve(2)
    wanted = drawn(ask(engine, *in_groups(40)))
    assert servers[0].bodies()
    servers[0].close()
    assert drawn(ask(engine, *in_groups(40))) == wanted
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"server {servers[0].url} is taken out" in record.getMessage()


def test_a_server_that_dies_over_its_work_loses_none(serve):
    engine, servers = serve(2, slots=64)
    wanted = drawn(ask(engine, *in_groups(40)))
    servers[0].delay_s = 5.0
    for i, request in enumerate(in_groups(40)):
        engine.submit(i, request)
    engine.poll()  # the other one answered
    servers[0].close()
    drained = drain(engine)
    assert all(drawn([reply]) == wanted[2 * i : 2 * i + 2] for i, reply in drained.items())


def test_a_server_that_comes_back_is_used_with_the_weights_of_now(serve, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(fleet, "ASK_AGAIN_S", 0.1)
    save_llama(tmp_path)
    engine, servers = serve(2)
    servers[0].close()
    ask(engine, *in_groups(40))
    engine.load(tmp_path, 1)
    assert servers[1].loads == [str(tmp_path)]
    with FakeServer(port=servers[0].port) as again:
        time.sleep(0.15)
        ask(engine, *in_groups(40))
        assert again.loads == [str(tmp_path)]
        assert again.bodies()
        assert "is back" in caplog.text


def test_a_server_that_comes_back_with_another_model_stays_out(serve, monkeypatch):
    monkeypatch.setattr(fleet, "ASK_AGAIN_S", 0.1)
    engine, servers = serve(2)
    servers[0].close()
    ask(engine, *in_groups(40))
    with FakeServer(port=servers[0].port, model="other") as again:
        time.sleep(0.15)
        ask(engine, *in_groups(40))
        assert not again.bodies()


def test_an_answer_that_takes_too_long_is_asked_of_another_server(serve, caplog):
    engine, servers = serve(2, timeout_s=0.3)
    wanted = drawn(ask(engine, *in_groups(4)))
    servers[0].delay_s = servers[1].delay_s = 0.0
    slow = servers[0] if servers[0].bodies() else servers[1]
    slow.delay_s = 2.0
    assert drawn(ask(engine, *in_groups(4))) == wanted
    assert "timed out" in caplog.text


def test_when_no_server_is_left_one_line_names_them_all_and_polling_again_goes_on(serve):
    engine, servers = serve(2)
    wanted = drawn(ask(engine, REQUEST))
    for server in servers:
        server.close()
    engine.submit(0, REQUEST)
    with pytest.raises(EngineError) as failure:
        engine.poll()
    message = str(failure.value)
    assert all(server.url in message for server in servers)
    assert "check that they run" in message
    assert "\n" not in message
    with FakeServer(port=servers[0].port):
        ((_, reply),) = engine.poll()
        assert drawn([reply]) == wanted


def test_a_request_the_server_refuses_fails_alone_and_in_one_line(serve):
    engine, (server,) = serve()
    server.refuses = lambda body: (400, "no\nroom") if body["prompt"][0] == 9 else None
    engine.submit("bad", Request((9, 1), 3, 0))
    engine.submit("good", REQUEST)
    replies, failures = {}, []
    while "good" not in replies or not failures:
        try:
            replies.update(engine.poll())
        except EngineError as failure:
            failures.append(str(failure))
    assert failures[0] == "the server refused a request of 2 tokens to /v1/completions: 400 no room"
    engine.cancel("bad")
    assert replies.keys() == {"good"}
    assert engine.poll() == []


def test_a_cancelled_request_is_broken_off_at_the_server(serve):
    engine, (server,) = serve(slots=2)
    server.slow_first_id = 9
    engine.submit("slow", Request((9, 1), 3, 0))
    engine.submit("quick", Request((8, 1), 3, 0))
    assert dict(engine.poll()).keys() == {"quick"}
    assert server.at_the_slow_one.wait(60)
    engine.cancel("slow")
    assert server.broken_off.wait(60)
    assert engine.poll() == []
    assert len(ask(engine, REQUEST)) == 1


def test_closing_breaks_off_what_is_in_flight(serve):
    engine, (server,) = serve(slots=2)
    server.slow_first_id = 9
    engine.submit("slow", Request((9, 1), 3, 0))
    engine.submit("quick", Request((8, 1), 3, 0))
    engine.poll()
    engine.close()
    assert server.broken_off.wait(5)


def test_a_closed_engine_leaves_no_thread(serve):
    engine, _ = serve(slots=16)
    ask(engine, *in_groups(10))
    ours = [thread for thread in threading.enumerate() if thread.name == THREAD]
    assert len(ours) == 16
    engine.close()
    for thread in ours:
        thread.join(5)
        assert not thread.is_alive()


# New weights.


def save_llama(folder, **changes):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, **changes}))
    model.save_pretrained(folder, max_shard_size=changes.get("max_shard_size", "1GB"))
    return model


@pytest.fixture
def folder(tmp_path):
    save_llama(tmp_path)
    return tmp_path


def test_new_weights_are_loaded_by_every_server_and_no_old_prefix_is_used(serve, folder):
    engine, servers = serve(2)
    ask(engine, *in_groups(40))
    engine.load(folder, 3)
    replies = ask(engine, *in_groups(40))
    assert [server.loads for server in servers] == [[str(folder)]] * 2
    assert {reply.version for reply in replies} == {3}
    for server in servers:
        salts = list(dict.fromkeys(body["cache_salt"] for body in server.bodies()))
        assert len(salts) == 2
        assert [path for path, _ in server.asked].count("/reset_prefix_cache") == 1


def test_a_new_version_of_the_same_weights_needs_no_endpoint(serve):
    engine, _ = serve(lacks=["dev"])
    engine.load(None, 2)
    assert ask(engine, REQUEST)[0].version == 2


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("dev", "takes no new weights; start .* with VLLM_SERVER_DEV_MODE=1"),
        ("load", "cannot load .* 500 it does not fit"),
    ],
)
def test_a_server_that_cannot_load_is_named_in_one_line(serve, folder, lacks, words):
    engine, (server,) = serve(lacks=[lacks])
    with pytest.raises(EngineError, match=f"{server.url} {words}"):
        engine.load(folder, 1)


def test_weights_that_cannot_be_loaded_are_refused_before_a_server_sees_them(serve, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    engine, (server,) = serve(root=str(folder))
    for weights, words in (
        (other, "no .safetensors file"),
        (tmp_path / "nowhere", "no folder of weights"),
        (3, "must be a folder or None, got int"),
    ):
        with pytest.raises(EngineError, match=words):
            engine.load(weights, 1)
    save_llama(other, hidden_size=16, head_dim=4)
    with pytest.raises(EngineError, match=r"do not fit .* is \[40, 16\], expected \[40, 8\]"):
        engine.load(other, 1)
    save_llama(other, num_attention_heads=1)
    with pytest.raises(EngineError, match="num_attention_heads is 1, expected 2"):
        engine.load(other, 1)
    assert server.loads == []
    assert ask(engine, REQUEST)[0].version == 0


@pytest.mark.parametrize("shard", ["1GB", "3KB"])
def test_servers_find_a_tied_output_matrix_and_nothing_is_left_of_it(tmp_path, shard):
    model = save_llama(tmp_path, tie_word_embeddings=True, max_shard_size=shard)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert (len([name for name in before if name.endswith("safetensors")]) == 1) == (shard == "1GB")
    with with_output(read_weights(tmp_path)) as folder:
        assert folder.parent == tmp_path
        seen = read_weights(folder)
        output = load_file(seen.files["lm_head.weight"])["lm_head.weight"]
        assert output.equal(model.get_input_embeddings().weight)
        assert seen.shapes.keys() - {"lm_head.weight"} == read_weights(tmp_path).shapes.keys()
        again = LlamaForCausalLM.from_pretrained(folder)
        for name, tensor in model.state_dict().items():
            assert again.state_dict()[name].equal(tensor)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_that_has_no_output_layer_in_vllm_is_given_no_output_matrix(tmp_path):
    sizes = {"vocab_size": VOCAB, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = Gemma2Config(**sizes, num_attention_heads=1, num_key_value_heads=1, head_dim=8)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert config.tie_word_embeddings
    with with_output(read_weights(tmp_path)) as folder:
        assert folder == tmp_path


def test_a_server_reads_tied_weights_with_their_output_matrix(serve, tmp_path):
    save_llama(tmp_path, tie_word_embeddings=True)
    engine, (server,) = serve()
    engine.load(tmp_path, 1)
    assert server.loads[0].startswith(f"{tmp_path}/.with_output-")


# Servers that are refused.


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("token_ids", "return_token_ids"),
        ("logprobs", "logprobs"),
        ("stop", "does not end with the stop token"),
        ("stop_token", "leave out the stop token"),
        ("models", "no OpenAI-compatible server answers"),
    ],
)
def test_a_server_that_lacks_something_is_refused_by_its_name(lacks, words):
    with FakeServer(lacks=[lacks]) as server, pytest.raises(EngineError, match=words) as failure:
        server_engine([server.url], slots=1, vocab_size=VOCAB)
    assert server.url in str(failure.value)
    assert "\n" not in str(failure.value)


def test_no_policy_is_refused_by_chance():
    rng = np.random.default_rng(0)
    for spread in (0.01, 1.0, 8.0) * 6:
        logits = rng.normal(0, spread, VOCAB)
        with FakeServer(policy=lambda tokens, logits=logits: logits) as server:
            server_engine([server.url], slots=1, vocab_size=VOCAB, temperature=0.7).close()


def test_a_server_that_gives_no_values_is_refused():
    lacks = ["scoring", "logprob_token_ids", "allowed_token_ids"]
    with FakeServer(lacks=lacks) as server, pytest.raises(EngineError, match="log-probs of two given ids"):
        server_engine([server.url], slots=1, vocab_size=VOCAB)


def test_log_probs_of_another_temperature_are_refused_where_one_is_asked_for(serve):
    engine, (server,) = serve(lacks=["processed"])
    assert len(ask(engine, REQUEST, replace(REQUEST, temperature=0.0))) == 2
    with pytest.raises(EngineError, match=r"--logprobs-mode processed_logprobs"):
        server_engine([server.url], slots=1, vocab_size=VOCAB, temperature=0.7)
    engine.submit("warm", replace(REQUEST, temperature=0.7))
    with pytest.raises(EngineError, match=r"log-probs of temperature 1, not of 0\.7"):
        engine.poll()
    engine.cancel("warm")
    assert len(ask(engine, REQUEST)) == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "other"}, "same model"),
        ({"max_model_len": 50}, "same model"),
        ({"lacks": ["scoring"]}, "in the same way"),
        ({"policy": lambda tokens: np.arange(VOCAB) / 3}, "same weights"),
    ],
)
def test_servers_of_different_models_are_refused(other, words):
    with FakeServer() as a, FakeServer(**other) as b, pytest.raises(EngineError, match=words) as failure:
        server_engine([a.url, b.url], slots=1, vocab_size=VOCAB)
    assert a.url in str(failure.value)
    assert b.url in str(failure.value)


def test_a_vocabulary_the_server_does_not_have_is_refused():
    with FakeServer(vocab_size=30) as server, pytest.raises(EngineError, match="Token id 39"):
        server_engine([server.url], slots=1, vocab_size=VOCAB)


def test_a_context_longer_than_the_servers_is_refused():
    with FakeServer(max_model_len=97) as server:
        with pytest.raises(EngineError, match=r"from 1 to 96, .* got 97"):
            server_engine([server.url], slots=1, vocab_size=VOCAB, max_context=97)
        engine = server_engine([server.url], slots=1, vocab_size=VOCAB, max_context=50)
        assert engine.max_context == 50
        engine.close()


def test_a_server_that_does_not_say_its_context_must_be_told_one():
    with FakeServer(max_model_len=None) as server, pytest.raises(EngineError, match="give max_context"):
        server_engine([server.url], slots=1, vocab_size=VOCAB)


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ([], "at least one server"),
        (["http://127.0.0.1:1", "http://127.0.0.1:1/"], "each once"),
        (["127.0.0.1:8000"], "http://HOST:PORT"),
        (["http://"], "http://HOST:PORT"),
        (["http://127.0.0.1:80x"], "http://HOST:PORT"),
        (["http://127.0.0.1:1", "http://127.0.0.1:1/v1"], "each once"),
        (["http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1 .*check the address"),
    ],
)
def test_addresses_without_a_server_are_refused_in_one_line(urls, words):
    with pytest.raises(EngineError, match=words) as failure:
        server_engine(urls, slots=1, vocab_size=VOCAB)
    assert "\n" not in str(failure.value)


def test_an_engine_without_slots_is_refused():
    with FakeServer() as server, pytest.raises(EngineError, match="slots must be at least 1, got 0"):
        server_engine([server.url], slots=0, vocab_size=VOCAB)


# vLLM itself, where it is installed.


def of_vllm(*servers, **settings):
    return server_engine([server.url for server in servers], slots=8, vocab_size=VOCAB, **settings)


def vllm_requests(temperature=1.0):
    rng = np.random.default_rng(0)
    return [
        Request(
            tuple(rng.integers(0, VOCAB, int(rng.integers(1, 70))).tolist()),
            max_tokens=20,
            seed=i,
            num_samples=2,
            temperature=temperature,
            rating=RATING,
            group=str(i),
        )
        for i in range(24)
    ]


def assert_equals_forward(requests, replies, logprobs_of):
    """Log-probs within 1e-4 and values within 1e-5 of a plain forward."""
    for request, reply in zip(requests, replies, strict=True):
        for sample in reply.samples:
            tokens = list(request.context)
            for token, logprob in zip(sample.ids.tolist(), sample.logprobs, strict=True):
                scaled = logprobs_of(tokens) / request.temperature
                assert logprob == pytest.approx(scaled[token] - np.log(np.exp(scaled).sum()), abs=1e-4)
                tokens.append(token)
            positive, negative = np.exp(logprobs_of(tokens)[list(RATING)])
            assert sample.value == pytest.approx(positive / (positive + negative), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_vllm_agrees_with_a_plain_forward(vllm_server, temperature):
    engine = of_vllm(vllm_server, temperature=temperature)
    requests = vllm_requests(temperature)
    assert_equals_forward(requests, ask(engine, *requests), vllm_server.logprobs)
    engine.close()


def test_vllm_takes_new_weights_and_forgets_old_prefixes(vllm_server, tmp_path):
    from vllm_server import plain_forward, save_model

    engine, request = of_vllm(vllm_server), Request(CONTEXT * 5, 10, seed=3, rating=RATING)
    old = ask(engine, request)
    assert ask(engine, request)[0].cached_prefix == 32
    new_model = save_model(tmp_path, seed=1)
    engine.load(tmp_path, 1)
    replies = ask(engine, request)
    assert replies[0].cached_prefix == 0
    assert replies[0].version == 1
    assert_equals_forward([request], replies, lambda tokens: plain_forward(new_model, tokens))
    assert drawn(replies) != drawn(old)
    engine.load(vllm_server.folder, 2)
    assert_equals_forward([request], ask(engine, request), vllm_server.logprobs)
    engine.close()


def test_vllm_fills_the_context_to_the_token_a_value_costs(vllm_server):
    engine = of_vllm(vllm_server)
    request = Request(CONTEXT * 12, 7, seed=3, rating=RATING)
    assert engine.max_context == len(request.context) + request.max_tokens
    assert_equals_forward([request], ask(engine, request), vllm_server.logprobs)
    engine.close()


def test_weights_that_would_bring_vllm_down_do_not_reach_it(vllm_server, tmp_path):
    from vllm_server import save_model

    engine = of_vllm(vllm_server)
    save_model(tmp_path, seed=1, hidden_size=96)
    with pytest.raises(EngineError, match=r"is \[40, 96\], expected \[40, 64\]"):
        engine.load(tmp_path, 1)
    assert len(ask(engine, REQUEST)) == 1
    engine.close()


@pytest.fixture(scope="module")
def raw_vllm_server(vllm_server):
    """A second server of the same weights, which gives log-probs of temperature 1 only."""
    from vllm_server import VllmServer

    with VllmServer(vllm_server.folder, "--logprobs-mode", "raw_logprobs") as server:
        yield server


def test_vllm_must_give_processed_log_probs_for_another_temperature(vllm_server, raw_vllm_server):
    with pytest.raises(EngineError, match="--logprobs-mode processed_logprobs"):
        of_vllm(vllm_server, raw_vllm_server, temperature=0.6)


def test_the_work_of_a_killed_vllm_goes_to_the_other(vllm_server, raw_vllm_server, caplog):
    engine, requests = of_vllm(vllm_server, raw_vllm_server), vllm_requests()
    wanted = ask(engine, *requests)
    for i, request in enumerate(requests):
        engine.submit(i, request)
    replies = dict(engine.poll())
    raw_vllm_server.kill()
    replies |= drain(engine)
    for i, reply in replies.items():
        assert [s.ids.tolist() for s in reply.samples] == [s.ids.tolist() for s in wanted[i].samples]
    assert_equals_forward(requests, [replies[i] for i in range(len(requests))], vllm_server.logprobs)
    assert f"server {raw_vllm_server.url} is taken out" in caplog.text
    engine.close()
