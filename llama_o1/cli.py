"""The command line: what was asked for, checked and handed on. `--help` imports no torch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

USAGE = """llama-o1: one language model as policy and value, searched as a tree, trained by self-play.

usage: llama-o1 COMMAND [--config FILE] [--NAME VALUE ...]

  train    self-play: search problems, learn from the trees, search again
             llama-o1 train --config configs/nano.yaml
  rounds   self-training as AlphaMath: search, keep right and wrong paths, fine-tune policy and value
             llama-o1 rounds --config configs/alphamath.yaml
  search   solve a problem with a tree search, within a budget of tokens
             llama-o1 search --config configs/nano.yaml --problem "..." --html tree.html
  eval     compare search methods at equal tokens, with intervals and a picture
             llama-o1 eval --config configs/eval.yaml
  pool     compare what several evaluations found, of models that were taught differently
             llama-o1 pool --folders runs/a,runs/b --out runs/pool
  inspect  look into what a run has in its replay buffer, and at its trees
             llama-o1 inspect runs/nano --tree 3/12 --html tree.html
  report   curves and a page of a run; several runs compared
             llama-o1 report runs/nano
  init     add the special tokens to any Hugging Face causal LM
             llama-o1 init MODEL OUT
  sft      teach a model to write our thoughts, or plain text, from solutions
             llama-o1 sft --config configs/nano_coldstart.yaml
  prefer   teach a model which of two solutions is better, for searches that compare
             llama-o1 prefer --solutions runs/nano --out runs/prefer
  verify   check on your own model that packing is exact and that engine and learner agree
             llama-o1 verify --config configs/nano.yaml
  grade    check answers, or a problem set's gold answers, with the answer checker
             llama-o1 grade --pairs FILE.jsonl
  curate   select good, hard and varied problems out of many, as s1 does
             llama-o1 curate --config configs/curate.yaml
  export   plain Hugging Face weights of what a run learned
             llama-o1 export runs/nano OUT
  bench    measure speed against others, as ratios taken in one run
             llama-o1 bench engine

Every setting of a YAML file can be given on the command line: --search.budget_tokens 512.
`llama-o1 COMMAND --help` lists a command's settings, `--print_config` prints them as YAML.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one clear line when the user can mend it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from llama_o1 import __version__

        sys.stdout.write(f"llama-o1 {__version__}\n")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        guess = f", did you mean {close[0]!r}?" if close else ""
        return _refuse(f"no command {name!r}{guess}; `llama-o1 --help` lists them")
    return _run(name, rest)


def _run(name: str, arguments: list[str]) -> int:
    from llama_o1.errors import LlamaO1Error
    from replay.errors import ReplayError

    # Threads that spin while they wait make a small model many times slower where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "transformers", "accelerate", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        module = import_module(MODULES.get(name, "llama_o1.commands"))
        return int(getattr(module, FUNCTIONS.get(name, name))(arguments))
    except (LlamaO1Error, ReplayError) as error:
        return _refuse(" ".join(str(error).split()))
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: {error.strerror}; name another path, or allow this one")
    except KeyboardInterrupt:
        return _refuse(f"stopped by Ctrl-C{_HOW_TO_GO_ON.get(name, '')}")


def _refuse(message: str) -> int:
    sys.stderr.write(f"llama-o1: {message}\n")
    return 2


COMMANDS = (
    "train", "rounds", "search", "eval", "inspect", "report", "init", "sft", "prefer", "verify", "grade",
    "curate", "export", "bench", "pool",
)  # fmt: skip
FUNCTIONS = {"eval": "evaluate"}  # where a command has the name of one of Python's own functions
# Of commands that have a file of their own.
MODULES = {
    "curate": "llama_o1.curate.command",
    "init": "llama_o1.init_command",
    "inspect": "llama_o1.inspect_command",
    "pool": "llama_o1.pool_command",
    "prefer": "llama_o1.prefer.command",
    "report": "llama_o1.report.command",
}
_HOW_TO_GO_ON = {
    "curate": "; no answer of a solver is lost: go on by the same command",
    "train": "; nothing acknowledged is lost: go on by the same command with `--resume true`",
    "sft": "; go on from the last checkpoint by the same command with `--resume true`",
    "rounds": "; nothing acknowledged is lost: go on by the same command with `--resume true`",
    "eval": "; no finished trial is lost: go on by the same command",
}


if __name__ == "__main__":
    sys.exit(main())
