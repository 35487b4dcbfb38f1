from dataclasses import replace

import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import EngineError
from llama_o1.format.thoughts import Rating, parse
from llama_o1.play.drive import TREES_PER_SLOT, Job, drive
from llama_o1.play.expand import Expander, ThoughtSettings, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings, action_draw, start
from tree.actions import MetaAction, Transitions
from tree.record import to_row
from tree.search import SearchSettings

QUESTIONS = [f"What is {n}+1?" for n in range(8)]
THOUGHTS = ThoughtSettings(path_budget=61, max_text=12, max_answer=9, calculator=True)
METHODS = {
    "mcts": MethodSettings(budget_tokens=700, tree=SearchSettings(simulations=20, max_children=3)),
    "mcts, four at once": MethodSettings(
        budget_tokens=700, actions="uniform", tree=SearchSettings(simulations=20, concurrency=4)
    ),
    "transitions": MethodSettings(budget_tokens=500, actions="transitions"),
    **{
        name: MethodSettings(method=name, budget_tokens=700, num_lines=4, tree=SearchSettings(simulations=20))
        for name in ("ucb", "gumbel", "best_first", "refine", "beam", "dvts")
    },
    "value_vote": MethodSettings(method="value_vote", num_lines=4, budget_tokens=900),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Wrapped:
    """An engine whose every call goes to another."""

    def __init__(self, engine):
        self.engine = engine
        self.submitted = []
        self.in_flight = set()

    max_context = property(lambda self: self.engine.max_context)
    slots = property(lambda self: self.engine.slots)

    def submit(self, key, request):
        self.submitted.append(request)
        self.in_flight.add(key)
        self.engine.submit(key, request)

    def poll(self):
        replies = self.engine.poll()
        self.in_flight -= {key for key, _ in replies}
        return replies

    def cancel(self, key):
        self.in_flight.discard(key)
        self.engine.cancel(key)


def jobs_over(codec, engine, questions, method, judge=lambda text: Grade(None, None)):
    expander = Expander(codec, THOUGHTS, engine.max_context)
    for i, question in enumerate(questions):
        tree = expander.tree(question, i)
        kinds = action_draw(method, Transitions())
        search = start(tree, method, expander.limits(method.budget_tokens), kinds)
        yield Job(str(i), tree, search, expander, judge)


def rows(trees):
    return [
        to_row(t.nodes, problem=t.question, answer=None, confidence=None, tokens_used=t.tokens_used)
        for t in trees
    ]


@every_method
def test_a_context_only_ever_grows(codec, grow, method):
    for tree in grow(QUESTIONS[:4], THOUGHTS, method):
        assert trail_of(tree, 0).context == codec.root(tree.question)
        assert len(tree.nodes) > 3
        for node in tree.nodes[1:]:
            trail, above = trail_of(tree, node.index), trail_of(tree, node.parent)
            assert trail.before == len(above.context)
            assert trail.context[: trail.before] == above.context
            own = trail.context[trail.before :]
            assert own == (*trail.sample.ids.tolist(), *codec.rating(node.value))


@every_method
def test_a_rating_is_frozen_when_its_thought_is_made(codec, grow, method):
    s = codec.special
    disagreeing = 0
    for tree in grow(QUESTIONS[:4], THOUGHTS, method):
        for node in tree.nodes[1:]:
            expected = s.positive if node.value >= 0.5 else s.negative
            assert trail_of(tree, node.index).context[-2:] == (expected, s.end_of_rating)
            disagreeing += (node.q >= 0.5) != (node.value >= 0.5)
    assert disagreeing  # backups went another way, and the texts stayed


@every_method
def test_every_token_is_counted_and_no_budget_is_exceeded(grow, method):
    for tree in grow(QUESTIONS[:4], THOUGHTS, method):
        own = [trail_of(tree, n.index) for n in tree.nodes[1:]]
        lengths = [len(trail.context) - trail.before for trail in own]
        assert [node.tokens for node in tree.nodes[1:]] == lengths
        merged = any(node.count > 1 for node in tree.nodes)
        assert tree.tokens_used >= sum(lengths) if merged else tree.tokens_used == sum(lengths)
        assert tree.tokens_used <= method.budget_tokens
        assert tree.tokens_reserved == 0
        assert all(node.pending == 0 for node in tree.nodes)
        assert tree.terminals() or any(node.action is MetaAction.CONCLUDE for node in tree.nodes)


@every_method
def test_the_order_of_replies_changes_nothing(codec, writer, grow, method):
    expected = rows(grow(QUESTIONS, THOUGHTS, method))
    engine = FakeEngine(len(codec.tokenizer), 1024, slots=3, policy=writer, scramble_seed=1)
    assert rows(grow(QUESTIONS, THOUGHTS, method, engine)) == expected


def test_a_context_is_a_record_of_the_thoughts_on_its_path(codec, writer, grow):
    tags, out_of_place = list(codec.tag_ids), list(codec.not_in_text - codec.tag_ids)

    def tame(tokens):
        logits = writer(tokens)
        logits[[*out_of_place, *codec.special.remaining]] = -60.0
        if tokens[-1] != codec.special.start_of_thought:
            logits[tags] = -60.0
        logits[[codec.special.positive, codec.special.negative]] = [-9.0, -9.0 + len(tokens) % 3 - 1]
        return logits

    engine = FakeEngine(len(codec.tokenizer), 1024, policy=tame)
    (tree,) = grow(QUESTIONS[:1], THOUGHTS, METHODS["mcts"], engine)
    for node in tree.nodes:
        path = [tree.nodes[i] for i in tree.path(node.index)]
        thoughts = parse(codec.decode(trail_of(tree, node.index).context))
        assert [t.local for t in thoughts] == [n.local_id for n in path]
        assert [t.father for t in thoughts] == [-1, *(n.local_id for n in path[:-1])]
        assert [t.action for t in thoughts] == [n.action for n in path]
        assert [t.text.strip() for t in thoughts] == [n.text for n in path]
        assert [t.rating for t in thoughts[1:]] == [Rating.of(n.value) for n in path[1:]]


def test_jobs_are_begun_only_as_the_engine_has_room(codec, writer):
    engine = Wrapped(FakeEngine(len(codec.tokenizer), 1024, slots=2, policy=writer))
    begun = []

    def jobs():
        for job in jobs_over(codec, engine, QUESTIONS, METHODS["mcts"]):
            begun.append(job.name)
            yield job

    finished = 0
    for _ in drive(engine, jobs()):
        finished += 1
        assert len(begun) <= finished - 1 + TREES_PER_SLOT * engine.slots
    assert finished == len(begun) == len(QUESTIONS)


@pytest.mark.parametrize("method", ["mcts, four at once", "value_vote"])
def test_closing_the_driver_cancels_everything(codec, writer, method):
    engine = Wrapped(FakeEngine(len(codec.tokenizer), 1024, policy=writer))
    jobs = list(jobs_over(codec, engine, QUESTIONS, METHODS[method]))
    driver = drive(engine, iter(jobs))
    next(driver)
    assert engine.in_flight
    driver.close()
    assert not engine.in_flight
    engine.engine.load(None, 1)  # would refuse while requests are in flight
    for job in jobs:
        assert job.tree.tokens_reserved == 0
        assert all(node.pending == 0 for node in job.tree.nodes)


def test_an_error_of_the_engine_leaves_every_tree_at_rest(codec, writer):
    class Failing(Wrapped):
        def poll(self):
            if len(self.submitted) > 40:
                raise EngineError("out of memory")
            return super().poll()

    engine = Failing(FakeEngine(len(codec.tokenizer), 1024, policy=writer))
    jobs = list(jobs_over(codec, engine, QUESTIONS, METHODS["mcts"]))
    with pytest.raises(EngineError, match="out of memory"):
        list(drive(engine, iter(jobs)))
    assert not engine.in_flight
    assert all(job.tree.tokens_reserved == 0 for job in jobs)


def test_a_judge_that_raises_leaves_nothing_in_flight(codec, writer):
    def judge(text):
        raise RuntimeError("no verdict")

    engine = Wrapped(FakeEngine(len(codec.tokenizer), 1024, policy=writer))
    with pytest.raises(RuntimeError, match="no verdict"):
        list(drive(engine, jobs_over(codec, engine, QUESTIONS, METHODS["mcts"], judge)))
    assert not engine.in_flight


@every_method
def test_a_reply_that_was_cut_is_an_event_and_no_thought(codec, writer, grow, method):
    class Cutting(Wrapped):
        def submit(self, key, request):
            if key[1] % 2:  # by local id
                request = replace(request, max_tokens=13)
            super().submit(key, request)

    engine = Cutting(FakeEngine(len(codec.tokenizer), 1024, policy=writer))
    for tree in grow(QUESTIONS[:2], THOUGHTS, method, engine):
        cut = [r for r in engine.submitted if r.max_tokens == 13]
        assert cut
        assert tree.events
        assert all(event.startswith("request for thought ") for event in tree.events)
        assert tree.tokens_reserved == 0
        assert tree.tokens_used <= method.budget_tokens


def test_a_model_may_draw_a_conclusion_itself_and_nothing_follows_it(grow):
    (tree,) = grow(QUESTIONS[:1], THOUGHTS, METHODS["mcts"])
    concluded = [node for node in tree.nodes if node.action is MetaAction.CONCLUDE]
    assert concluded
    assert all(node.terminal and not node.children for node in concluded)
