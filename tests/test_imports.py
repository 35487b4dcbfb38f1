"""Who may import whom, checked in fresh processes and in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "tree": ("replay", "llama_o1", "torch", "numpy", "transformers"),
    "replay": ("tree", "llama_o1", "torch", "transformers"),
    "llama_o1/engine": ("llama_o1.learn", "llama_o1.play", "llama_o1.tasks", "tree", "replay"),
    "llama_o1/learn": ("llama_o1.engine", "llama_o1.play", "llama_o1.tasks"),
    "llama_o1/format": ("llama_o1.engine", "llama_o1.learn", "llama_o1.play", "llama_o1.tasks", "replay"),
    "llama_o1/tasks": ("llama_o1.engine", "llama_o1.learn", "llama_o1.play", "llama_o1.measure", "replay"),
    "llama_o1/play": ("llama_o1.learn", "llama_o1.measure", "torch"),
    "llama_o1/measure": ("llama_o1.learn", "torch"),
    "llama_o1/bench": ("llama_o1.loop",),
}
JOINS = {"exactness.py", "loop.py", "assemble.py", "answer.py"}  # may see both engine and learn


BENCH_IS_ASKED_BY = {"commands.py"}  # nothing depends on a bench


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_it_must_not_know(room):
    for file in sorted((ROOT / room).rglob("*.py")):
        for name in imported(file):
            for other in FORBIDDEN[room]:
                assert f"{name}.".startswith(f"{other}.") is False, f"{file.name} imports {name}"


def test_only_the_joining_files_see_both_engine_and_learner():
    for file in sorted((ROOT / "llama_o1").rglob("*.py")):
        names = imported(file)
        both = all(any(n.startswith(f"llama_o1.{half}.") for n in names) for half in ("engine", "learn"))
        assert not both or file.name in JOINS, f"{file.name} sees both halves"


def test_nothing_but_the_command_line_sees_the_benches():
    for file in sorted((ROOT / "llama_o1").rglob("*.py")):
        sees = any(name.startswith("llama_o1.bench") for name in imported(file))
        assert not sees or file.parent.name == "bench" or file.name in BENCH_IS_ASKED_BY, file.name


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tree.search", ("replay", "llama_o1", "numpy", "torch")),
        ("tree.terminal", ("replay", "llama_o1", "numpy", "torch")),
        ("tree.page", ("replay", "llama_o1", "numpy", "torch")),
        ("replay.buffer", ("tree", "llama_o1", "torch")),
        ("replay.inspect.summary", ("tree", "llama_o1", "torch")),
        ("replay.inspect.serve", ("tree", "llama_o1", "torch")),
        ("llama_o1.inspection", ("torch", "transformers", "jaxtyping")),
        ("llama_o1.cli", ("torch", "numpy", "jsonargparse", "transformers")),
        ("llama_o1.commands", ("torch", "transformers")),
        ("llama_o1.inspect_command", ("torch", "transformers")),
        ("llama_o1.bench.settings", ("torch", "transformers")),
        ("llama_o1.engine.fake", ("torch", "transformers", "tree", "replay")),
    ],
)
def test_a_fresh_process_that_imports_a_module_loads_nothing_heavier(module, absent):
    code = f"import {module}, sys; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names
