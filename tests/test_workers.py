"""Processes that compare expressions: killable, limited, safe in threads, none left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama_o1.errors import RunError
from llama_o1.tasks import symbolic, worker_process
from llama_o1.tasks.verify import verify
from llama_o1.tasks.workers import GRACE_S, WorkerPool


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(num_workers=1, timeout_s=60) as one:
        yield one


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("gold", "given", "reply"),
    [
        (r"2\sqrt{2}", r"\sqrt{8}", "equal"),
        ("(x+1)^2", "x^2+2x+1", "equal"),
        ("x>3", "3<x", "equal"),
        (r"\frac{x}{2}", "0.5x", "equal"),
        (r"\pi", "3.14159265", "different"),
        ("10^{-7}x", "10^{-8}x", "different"),
        (r"\infty", r"-\infty", "different"),
        (r"\infty", r"\infty", "equal"),
        ("5", "2x+3=5", "different"),
        ("2x", "2y", "different"),
        ("", "}{", "different"),
        ("\ud800", "\x00", "different"),
        ('"', "\n", "different"),
    ],
)
def test_a_worker_compares_expressions(pool, gold, given, reply):
    assert pool.ask(gold, given) == reply


def test_a_worker_that_is_killed_from_outside_costs_one_retried_item(pool):
    assert pool.ask("x", "x") == "equal"
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert pool.ask("x", "x") == "equal"
    assert pool.pids != [pid]
    assert not is_alive(pid)


def test_a_slow_item_is_ended_and_the_pool_goes_on(pool):
    start = time.monotonic()
    assert pool.ask("9^{9^{9}}", "1", timeout_s=0.5) == "timeout"
    assert time.monotonic() - start < 0.5 + GRACE_S + 30  # not the minutes that the number would take
    assert pool.ask("x", "x") == "equal"


def test_a_comparison_out_of_memory_says_so(monkeypatch):
    def hungry(gold, given):
        raise MemoryError

    monkeypatch.setattr(worker_process, "equal", hungry)
    assert worker_process._reply("x", "x") == "memory"


def test_a_pool_that_cannot_start_a_worker_says_so():
    with WorkerPool(num_workers=1, memory_mb=30) as pool, pytest.raises(RunError, match="30 MB"):
        pool.ask("x", "x")


def test_threads_share_the_workers(pool):
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda n: pool.ask(f"{n}x", f"x*{n % 2}"), range(2, 12)))
    assert replies == ["different"] * 10


def test_a_closed_pool_leaves_no_process():
    pool = WorkerPool(num_workers=2, timeout_s=60)
    assert pool.ask("x", "x") == "equal"
    pids = pool.pids
    pool.close()
    assert pids
    assert not any(is_alive(pid) for pid in pids)


def test_workers_end_with_the_process_that_started_them():
    code = (
        "import os; from llama_o1.tasks.workers import WorkerPool; pool = WorkerPool(1, timeout_s=60); "
        "pool.ask('x', 'x'); print(pool.pids[0], flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(done.stdout)
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not is_alive(pid)


def test_expressions_beyond_the_limits_are_not_tried():
    for text in (
        "9^{9^{9}}",
        "10**10**10",
        "2^3^4",
        "(2^9)^{9^9}",
        "99999999!",
        "5!!",
        "x^{5000}",
        "1" * 61,
        "(" * 21,
        "x+" * 160,
    ):
        assert not symbolic.is_within_limits(text), text
    for text in ("x^{10}", r"\frac{1}{2}", "10!", "2^{100}", r"\sqrt{2}^{2}+x^2"):
        assert symbolic.is_within_limits(text), text


def test_the_fast_path_loads_no_sympy_and_starts_no_process():
    code = (
        "import sys; from llama_o1.tasks.verify import verify; "
        "assert verify('#### 1,234', '1234').verdict == 'correct'; "
        "assert verify(r'\\boxed{1/2}', '0.5').verdict == 'correct'; "
        "import llama_o1.tasks.symbolic as s; "
        "names = ('sympy', 'math_verify', 'torch', 'numpy'); "
        "print([n for n in names if n in sys.modules], s._pool_of.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "0"]


BOMBS = [
    "9**9**9",
    "10**10**10",
    "99999999!",
    "9^{9^{9^9}}",
    r"\prod_{i=1}^{99999999} i",
    r"\sum_{n=1}^{99999999} n^{n}",
    r"\binom{99999999}{4999999}",
    r"\int_0^1 x^{x^{x}} dx",
    r"\sqrt{" * 40 + "2" + "}" * 40,
    "(" * 300 + ")" * 300,
    "{" * 400,
    r"\frac{1}{" * 60 + "2" + "}" * 60,
    "((x+1)^{99}+1)^{99}",
    "1" * 480,
    "1e999999999",
    "0x" + "f" * 400,
    "\x00" * 100,
    "\ud800\udfff",
    "\u202e18\u202c",
    "a" * 5000 + "!",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@",
    "1,1" * 160,
    "x=" * 200,
    r"\text{" * 50 + "18" + "}" * 50,
    "__import__('os').system('true')",
    "$" * 400,
    "\\" * 401,
    "&" * 300,
    r"\begin{pmatrix}" + "1&" * 200 + r"\end{pmatrix}",
    r"\lim_{x\to\infty} x^{x^x}",
]
PIECES = [
    *r"0123456789+-*/^_=()[]{}\|!<>,.;:% $&~'",
    r"\frac{",
    r"\sqrt{",
    "**",
    "e9",
    "!!",
    "or",
    " and ",
    r"\pm ",
]
PIECES += [
    "x",
    "(",
    ")",
    "}",
    r"\boxed{",
    "####",
    "\n",
    "\x00",
    "\ud800",
    "<think>",
    "cm",
    "99999",
    r"\text{",
    "^{9",
]


def hostile(rng):
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(BOMBS)
    if kind < 0.12:
        return rng.choice("9({\\x ,$") * rng.choice((1000, 100_000, 1_000_000))
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 60)))
    return text if kind < 0.8 else text + rng.choice(BOMBS)


def attack(count, num_workers, timeout_s):
    """Seconds of the slowest verdict, and the memory of the workers at the end in MB."""
    rng = random.Random(0)
    with WorkerPool(num_workers, timeout_s=timeout_s, memory_mb=1024) as pool:

        def one(text):
            start = time.monotonic()
            verdicts = [verify(f"\\boxed{{{text}}}", gold, pool=pool) for gold in ("18", r"\sqrt{2}+x")]
            assert all(verdict.verdict != "correct" for verdict in verdicts)
            return time.monotonic() - start

        with ThreadPoolExecutor(num_workers) as threads:
            slowest = max(threads.map(one, (hostile(rng) for _ in range(count))))
        assert pool.ask("x", "x", timeout_s=60) == "equal"
        return slowest, [resident_mb(pid) for pid in pool.pids]


def resident_mb(pid):
    if sys.platform != "linux":
        return 0
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_hostile_strings_leave_the_pool_alive():
    slowest, memory = attack(count=60, num_workers=2, timeout_s=0.5)
    assert slowest < 60
    assert max(memory) < 512


@pytest.mark.slow
def test_ten_thousand_hostile_strings_leave_the_pool_alive_and_memory_flat():
    slowest, memory = attack(count=10_000, num_workers=2, timeout_s=2.0)
    assert slowest < 2 * (2.0 + GRACE_S) + 60  # two verdicts, and a busy machine that starts workers
    assert max(memory) < 512
