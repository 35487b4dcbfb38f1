"""The card of a fine-tuned model: what it learned from, for how long, and what it can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_o1.run import write_whole

Card = Mapping[str, Any]


def write_card(card: Card, folder: Path) -> None:
    """README.md for people and, last, card.json for programs."""
    write_whole(folder / "README.md", card_text(card))
    write_whole(folder / "card.json", json.dumps(card, indent=1) + "\n")


def card_text(card: Card) -> str:
    """The card in Markdown."""
    lines = [
        f"# {card['name']}",
        "",
        f"A model of {card['parameters'] / 1e6:.1f} M parameters, fine-tuned from {card['model']} with "
        f"llama-o1 {card['version']} to write {'plain text' if card['form'] == 'line' else 'thoughts'}.",
        "",
        f"* Data: {card['data']}.",
        f"* Seed {card['seed']}, {card['steps']} steps, {card['tokens']} tokens (padding included), "
        f"{card['seconds']:.0f} s on {card['device']}.",
        f"* Loss of the last steps {card['loss']:.4f}"
        + ("" if card["held_out_loss"] is None else f", of held-out lines {card['held_out_loss']:.4f}")
        + ".",
        f"* Made by `{card['command']}`; every setting is in sft.yaml.",
        "",
    ]
    if card["accuracies"]:
        lines += [
            "| held-out problems | split | number | % right greedily, 95 % interval |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {one['set']} | {one['split']} | {one['problems']} | {100 * one['accuracy']:.1f} "
            f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}] |"
            for one in card["accuracies"]
        ]
        lines.append("")
    return "\n".join(lines)
