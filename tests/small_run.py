"""A run folder of two small trees, written by hand: what the tests of the inspector look into."""

import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from replay import Experience, PrioritizedReplayBuffer
from tree.actions import MetaAction
from tree.node import Node
from tree.record import to_row, write_rows

NANO = Path(__file__).resolve().parent.parent / "llama_o1" / "nano"
QUESTION = "2 + 3?"
# (tree, node, parent, action, text, value, value target, outcome), as two searches of one question left them
THOUGHTS = (
    (0, 1, 0, "expand", "add them", 0.6, 0.75, None),
    (0, 2, 1, "conclude", r"\boxed{5}", 0.9, 1.0, 1.0),
    (0, 3, 1, "conclude", r"\boxed{6}", 0.8, 0.0, 0.0),
    (0, 4, 1, "critic", "<script>window.owned = 1</script>", 0.5, 0.5, None),
    (1, 1, 0, "expand", "add them", 0.5, 0.25, None),
    (1, 2, 1, "conclude", r"\boxed{7}", 0.4, 0.0, 0.0),
    (1, 3, 1, "conclude", "it is </script><b>", 0.3, 0.5, None),
)
TAGS = {"expand": "", "conclude": "<conclusion>", "critic": "<critic>"}


def write_run(folder):
    """Write the folder; the ids of the nodes are the places in THOUGHTS."""
    (folder / "checkpoints" / "000000").mkdir(parents=True)
    shutil.copy(NANO / "tokenizer.json", folder / "checkpoints" / "000000")
    (folder / "config.yaml").write_text("seed: 7\n", encoding="utf-8")
    (folder / "trees").mkdir()
    write_rows(folder / "trees" / "000001.jsonl", [tree_row(number) for number in (0, 1)])
    with PrioritizedReplayBuffer(folder / "replay", capacity=64) as buffer:
        ids = buffer.extend(experiences(), np.arange(1.0, len(THOUGHTS) + 1))
        buffer.update_priority(ids[:2], [3.5, 2.5])
    return folder


def thought(parent, local, tag, text):
    head = (
        f"<start_of_father_id>{parent}<end_of_father_id><start_of_local_id>{local}<end_of_local_id>"
        f"<start_of_thought>{tag}"
    )
    return head, f"{text}<end_of_thought>", "<start_of_rating>"


def experiences():
    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    contexts = {}
    for number, node, parent, action, text, value, target, outcome in THOUGHTS:
        root = "".join(thought(-1, 0, "<problem>", QUESTION)[:2])
        context = contexts.get((number, parent), root)
        parts = [tokenizer.encode(part).ids for part in thought(parent, node, TAGS[action], text)]
        contexts[number, node] = (
            context + "".join(thought(parent, node, TAGS[action], text)) + "<positive_rating><end_of_rating>"
        )
        sampled = np.concatenate([np.full(len(part), i == 1) for i, part in enumerate(parts)])
        yield Experience(
            context=np.array(tokenizer.encode(context).ids, np.int32),
            ids=np.concatenate(parts).astype(np.int32),
            sampled=sampled,
            logprobs=np.where(sampled, -0.25, 0).astype(np.float32),
            temperature=1.0,
            advantage=target - value,
            value=value,
            value_target=target,
            outcome=outcome,
            version=number,
            action=action,
            problem="sum",
            tree=f"000001/{number:04d}",
            node=node,
            parent=parent,
        )


def tree_row(number):
    nodes = [Node(index=0, local_id=0, parent=-1, depth=0, action=MetaAction.PROBLEM, text=QUESTION)]
    for _, node, parent, action, text, value, _, outcome in (t for t in THOUGHTS if t[0] == number):
        answer = text.removeprefix(r"\boxed{").removesuffix("}") if outcome is not None else None
        nodes.append(
            Node(
                node, node, parent, nodes[parent].depth + 1, MetaAction(action), text,
                value=value, outcome=outcome, answer=answer, terminal=outcome is not None,
            )
        )  # fmt: skip
        nodes[parent].children.append(node)
    extra = {"seed": 1000 + number, "simulations": 1, "events": []}
    return to_row(nodes, problem=QUESTION, answer="5", confidence=1.0, tokens_used=9, **extra)
