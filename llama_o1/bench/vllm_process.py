"""The other end of vllm.py: reads settings and then works from stdin as JSON lines, answers on stdout.

Driven as one would drive vLLM for a tree: all prompts in one `generate`; where tokens are forced, a
segment for all, the forced tokens appended, the next segment, with prefix caching on. No seeds, no
detokenizer, no text.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from llama_o1.bench.measure import timed
from llama_o1.bench.work import RATING, Work


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever vLLM prints must not look like an answer
    engine: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        if engine is None:
            engine, answer = _engine(question), {}
        else:
            answer = _spend(engine, Work(**question))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _engine(settings: dict[str, Any]) -> Any:
    from vllm import LLM

    return LLM(
        **settings,
        skip_tokenizer_init=True,
        enforce_eager=True,
        block_size=32,  # 128, the default on CPUs, makes prefix caching coarse
        enable_prefix_caching=True,
        disable_log_stats=True,
    )


def _spend(engine: Any, work: Work) -> dict[str, float]:
    if work.primed:
        _generate(engine, work.primed, max_tokens=1)
    spent = timed(lambda: _score(engine, work) if not work.draws else _continue(engine, work))
    return spent._asdict()


def _continue(engine: Any, work: Work) -> int:
    """Sampled tokens, their log-probs read."""
    units = 0
    prompts, samples = work.prompts, work.samples
    for segment in range(work.segments):
        outputs = _generate(
            engine, prompts, n=samples, max_tokens=work.draws, temperature=1.0, ignore_eos=True, logprobs=0
        )
        drawn = [
            (output.prompt_token_ids, list(one.token_ids), _logprobs(one))
            for output in outputs
            for one in output.outputs
        ]
        units += sum(len(logprobs) for _, _, logprobs in drawn)
        if segment + 1 < work.segments:
            prompts, samples = [[*before, *ids, *work.forced] for before, ids, _ in drawn], 1
    return units


def _logprobs(output: Any) -> list[float]:
    return [at[token].logprob for token, at in zip(output.token_ids, output.logprobs, strict=True)]


def _score(engine: Any, work: Work) -> int:
    """Prompts whose rating log-probs were read."""
    outputs = _generate(engine, work.prompts, max_tokens=1, temperature=0.0, logprob_token_ids=list(RATING))
    values = [[at[i].logprob for i in RATING] for output in outputs for at in output.outputs[0].logprobs]
    return len(values)


def _generate(engine: Any, prompts: list[list[int]], **sampling: Any) -> Any:
    from vllm import SamplingParams

    return engine.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        SamplingParams(detokenize=False, **sampling),
        use_tqdm=False,
    )


if __name__ == "__main__":
    main()
