"""What a bench found: a table to read and an object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from llama_o1.bench.measure import Measured
from llama_o1.run import write_whole


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one bench."""

    bench: str
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    measured: Sequence[Measured]
    figures: Mapping[str, float] = field(default_factory=dict)  # besides those of the rows
    ratios: Mapping[str, float] = field(default_factory=dict)  # besides those of the rows
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """`ratios` are medians, `spread` their least and greatest."""
        found = {r.name: m.ratio(r) for m in self.measured for r in m.row.ratios}
        return {
            "bench": self.bench,
            "model": dict(self.model),
            "ratios": {name: median(values) for name, values in found.items()} | dict(self.ratios),
            "spread": {name: [min(values), max(values)] for name, values in found.items()},
            "figures": {m.row.name: m.figures() for m in self.measured} | dict(self.figures),
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    def write(self, file: Path) -> None:
        """The object as one JSON file, whole or not at all."""
        write_whole(file, json.dumps(self.as_json(), indent=2) + "\n")

    def table(self) -> str:
        """The rows aligned, each ratio below its row; then figures and notes."""
        lines = [("row", "system", "unit", "per CPU-s", "min .. max", "per s")]
        for m in self.measured:
            for i, (system, f) in enumerate(m.figures().items()):
                spread = f"{_short(f['per_cpu_s_min'])} .. {_short(f['per_cpu_s_max'])}"
                name = "" if i else m.row.name
                lines.append((name, system, f["unit"], _short(f["per_cpu_s"]), spread, _short(f["per_s"])))
            for ratio in m.row.ratios:
                values = m.ratio(ratio)
                spread = f"{min(values):.2f} .. {max(values):.2f}"
                lines.append(("", f"= {ratio.name}", "", f"{median(values):.2f}", spread, ratio.goal))
        extra = [
            f"{name}: {_short(value)}" for name, value in (dict(self.ratios) | dict(self.figures)).items()
        ]
        return "\n".join([*_aligned(lines), *extra, *self.notes])


def _short(number: float) -> str:
    """Three significant digits, no exponent."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest entry; figures to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            entry.ljust(width) if i < 3 else entry.rjust(width)
            for i, (entry, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
