"""Funnel: what each stage leaves and why it drops the others; as a table, JSON and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llama_o1.measure.cells import aligned
from llama_o1.measure.picture import COLOURS, new_figure, png, write_png

_COLOUR, _GREY = COLOURS[0], "#BBBBBB"


class Stage(NamedTuple):
    """What one stage left."""

    name: str
    kept: int
    dropped: dict[str, int]  # by reason, those that fewest meet last
    broken: dict[str, int] | None = None  # problems by each rule they break, of which one may break several


class Domain(NamedTuple):
    """A domain before and after the selection."""

    name: str
    pool: int
    selected: int


@dataclass(slots=True)
class Funnel:
    """The stages in order; made by pipeline.py."""

    stages: list[Stage] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    lengths: dict[str, list[int]] = field(default_factory=dict)  # of traces at 5, 25, 50, 75 and 95 %

    def add(
        self, name: str, kept: int, dropped: Mapping[str, int], broken: Mapping[str, int] | None = None
    ) -> None:
        """Put a stage at the end."""
        ordered = dict(Counter(dropped).most_common())
        self.stages.append(
            Stage(name, kept, ordered, None if broken is None else dict(Counter(broken).most_common()))
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, in what JSON holds."""
        return {
            "stages": [stage._asdict() for stage in self.stages],
            "domains": [domain._asdict() for domain in self.domains],
            "trace_lengths": self.lengths,
        }

    def table(self) -> str:
        """Stages and domains for a terminal."""
        stages = [["stage", "kept", "dropped", "why"]]
        for stage in self.stages:
            why = [f"{number:>6} {reason}" for reason, number in stage.dropped.items()] or [""]
            stages.append([stage.name, str(stage.kept), str(sum(stage.dropped.values())), why[0]])
            stages += [["", "", "", more] for more in why[1:]]
        domains = [["domain", "pool", "selected"]]
        domains += [[one.name, str(one.pool), str(one.selected)] for one in self.domains]
        lengths = [
            f"trace length of {name}: {', '.join(map(str, points))} at 5, 25, 50, 75, 95 %"
            for name, points in self.lengths.items()
        ]
        return "\n".join([aligned(stages, left=(0, 3)), "", aligned(domains), "", *lengths])

    def draw(self, file: Path) -> None:
        """Write one PNG: the stages with their reasons, the domains before and after."""
        height = max(3.5, 0.62 * len(self.stages), 0.36 * len(self.domains)) + 1.0
        figure = new_figure(13, height)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        self._draw_stages(left)
        self._draw_domains(right)
        write_png(file, png(figure))

    def _draw_stages(self, axes: Any) -> None:
        names = [stage.name for stage in self.stages]
        most = max(stage.kept + sum(stage.dropped.values()) for stage in self.stages)
        axes.barh(names, [stage.kept for stage in self.stages], color=_COLOUR)
        for place, stage in enumerate(self.stages):
            why = ", ".join(f"{reason} {count}" for reason, count in list(stage.dropped.items())[:4])
            more = len(stage.dropped) - 4
            shown = f"{stage.kept}" + (f"   - {why}" if why else "") + (f", {more} more" if more > 0 else "")
            inside = stage.kept > most / 2
            axes.annotate(
                shown,
                (0 if inside else stage.kept, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color="white" if inside else "black",
            )
        axes.invert_yaxis()
        axes.set_xlabel("problems that are left")
        axes.set_title("what each stage leaves, and why it drops the others", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)

    def _draw_domains(self, axes: Any) -> None:
        places = range(len(self.domains))
        pool, selected = [one.pool for one in self.domains], [one.selected for one in self.domains]
        for shift, counts, colour, label in (
            (-0.2, pool, _GREY, "pool"),
            (0.2, selected, _COLOUR, "selected"),
        ):
            total = max(sum(counts), 1)
            shares = [100 * count / total for count in counts]
            axes.barh(
                [i + shift for i in places], shares, height=0.38, color=colour, label=f"{label}: {total}"
            )
        axes.set_yticks(list(places), [one.name for one in self.domains], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("share of problems, %")
        axes.set_title("domains before and after the selection", fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)


def quantiles(lengths: Sequence[int]) -> list[int]:
    """The lengths at 5, 25, 50, 75 and 95 % of them, each one that is there; [] of none."""
    ordered = sorted(lengths)
    return (
        [ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in (5, 25, 50, 75, 95)]
        if ordered
        else []
    )
