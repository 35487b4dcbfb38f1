"""Which curves a report shows, as plain data: one run in several series, or several runs in one.

Knows no matplotlib; draw.py makes pictures of what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from llama_o1.measure.calibrate import NUM_BINS
from llama_o1.measure.intervals import wilson
from llama_o1.report.groups import ALL, Group, correct_by_iteration, outcomes
from llama_o1.report.record import Json, RunRecord


class Line(NamedTuple):
    """Points joined by a line, with a band where there is one."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    lines: Sequence[Line]
    top: float | None = None  # of the y axis, which then begins at 0; None: as the data are
    is_reliability: bool = False  # both axes in [0, 1], with the diagonal


class Chart(NamedTuple):
    """One picture."""

    name: str  # of the file, without its ending
    title: str
    words: str  # what it shows
    panels: Sequence[Panel]


Source = Callable[[RunRecord], Line]


class _Axes(NamedTuple):
    """What is drawn together of one run, by how it is called."""

    title: str
    sources: Mapping[str, Source]
    top: float | None = None


class _Series(NamedTuple):
    """Numbers of a phase of the metrics that make one picture, by their keys how they are called."""

    name: str
    title: str
    words: str
    phase: str
    keys: Mapping[str, str]
    top: float | None = None


_SERIES = (
    _Series("reward", "Reward", "Training problems: share of conclusions that are right, and of trees that "
            "hold a right one.", "play", {"right": "conclusions right", "solved": "trees solved"}, 1),
    _Series("kl", "KL divergence", "Nats a token: from the policy that sampled, and from the reference where "
            "there is one.", "learn", {"approx_kl": "from behaviour", "reference_kl": "from reference"}),
    _Series("clip_fraction", "Clip fraction", "Share of tokens at which PPO's clip holds the gradient back.",
            "learn", {"clip_fraction": "clipped"}),
    _Series("entropy", "Entropy", "Of the policy where it sampled, nats a token.", "learn",
            {"entropy": "entropy"}),
    _Series("loss", "Losses", "Means of an iteration's learner steps.", "learn",
            {"policy_loss": "policy", "value_loss": "value"}),
    _Series("grad_norm", "Gradient", "Norm before it is clipped, mean of an iteration's steps.", "learn",
            {"grad_norm": "norm"}),
    _Series("batch_values", "Values of drawn batches", "Against the value targets of what was learned from, "
            "mean over steps: area under the ROC curve, expected calibration error, Brier score.", "step",
            {"auc": "AUC", "ece": "ECE", "brier": "Brier"}, 1),
    _Series("staleness", "Staleness", "Versions between the weights that made a drawn thought and those that "
            "learn from it: mean, and the oldest of a batch, both averaged over steps.", "step",
            {"staleness_mean": "mean", "staleness_max": "oldest"}),
    _Series("buffer_age", "Buffer age", "Versions that stored thoughts lie behind the newest.", "learn",
            {"replay_age_mean": "mean", "replay_age_max": "oldest"}),
    _Series("buffer_size", "Buffer size", "Thoughts stored, and for how many they count by their chances.",
            "learn", {"replay_size": "stored", "replay_effective_sample_size": "effective"}),
    _Series("sample_size", "Effective sample size", "Share of a batch that counts: by importance weights, "
            "and by ratios to the behaviour policy.", "step",
            {"effective_sample_size_weights": "weights", "effective_sample_size_ratios": "ratios"}, 1),
    _Series("tokens_per_s", "Speed of self-play", "Tokens a second by the wall clock, sampled and forced.",
            "play", {"tokens_per_s": "tokens/s"}),
    _Series("clock", "Time of an iteration", "CPU seconds of all threads, and seconds by the wall; with "
            "evaluations.", "clock", {"cpu_s": "CPU", "wall_s": "wall"}),
)  # fmt: skip


def charts(found: Sequence[Group]) -> list[Chart]:
    """Every picture that the runs have numbers for; accuracy first."""
    runs = [run for group in found for run in group.runs]
    wanted = [_accuracy(found), _values(found)]
    if len(runs) == 1:
        wanted.append(_reliability(runs[0]))
    wanted += [_of_series(series, found) for series in _SERIES]
    return [chart for chart in wanted if chart.panels]


def _accuracy(found: Sequence[Group]) -> Chart:
    runs = [run for group in found for run in group.runs]
    kinds = dict.fromkeys(kind for run in runs for kind in outcomes(run))
    axes = [
        _Axes(name, {m: partial(_share, method=m, name=name) for m, other in kinds if other == name}, 1)
        for name in dict.fromkeys(name for _, name in kinds)
    ]
    words = "Share of right answers on held-out problems by iteration. " + _bands(
        runs, "Wilson's 95 % interval"
    )
    return Chart("accuracy", "Accuracy", words, _panels(axes, found))


def _values(found: Sequence[Group]) -> Chart:
    runs = [run for group in found for run in group.runs]
    methods = dict.fromkeys(line["method"] for run in runs for line in run.lines("evaluate_values"))
    axes = [
        _Axes(title, {m: partial(_believed, method=m, key=key) for m in methods}, top)
        for key, title, top in (("auc", "AUC", 1.0), ("ece", "expected calibration error", None))
    ]
    words = "Values of thoughts on held-out problems against what came of them. "
    words += _bands(runs, "bootstrap over problems, 95 %")
    return Chart("values", "Values", words, _panels(axes, found))


def _reliability(run: RunRecord) -> Chart:
    """Mean label against mean value of each bin, at the first and the last look by each method."""
    panels = []
    for method in dict.fromkeys(line["method"] for line in run.lines("evaluate_values")):
        looks = [line for line in run.lines("evaluate_values", method=method) if line.get("count")]
        ends = {line["step"]: line for line in (*looks[:1], *looks[-1:])}
        lines = [_bins(line, f"iteration {step}") for step, line in ends.items()]
        if lines:
            panels.append(Panel(method, lines, 1, is_reliability=True))
    words = (
        "Share of thoughts that came out right, by value in ten bins; bars: the share of thoughts in a bin."
    )
    return Chart("reliability", "Reliability", words, panels)


def _of_series(series: _Series, found: Sequence[Group]) -> Chart:
    sources = {label: partial(_mean, phase=series.phase, key=key) for key, label in series.keys.items()}
    panels = _panels([_Axes("", sources, series.top)], found)
    return Chart(series.name, series.title, series.words, panels)


def _panels(axes: Sequence[_Axes], found: Sequence[Group]) -> list[Panel]:
    """One panel for each axes, its sources as lines; of several runs one for each source, runs as lines."""
    if len(found) == 1 and len(found[0].runs) == 1:
        run = found[0].runs[0]
        made = [
            Panel(a.title, [source(run)._replace(label=label) for label, source in a.sources.items()], a.top)
            for a in axes
        ]
    else:
        made = [
            Panel(", ".join(filter(None, (a.title, label))), [_over(group, source) for group in found], a.top)
            for a in axes
            for label, source in a.sources.items()
        ]
    kept = [panel._replace(lines=[line for line in panel.lines if line.x]) for panel in made]
    return [panel for panel in kept if panel.lines]


def _over(group: Group, source: Source) -> Line:
    """A group's runs as one line: their mean where all have a point, from the lowest to the highest."""
    lines = [source(run) for run in group.runs]
    if len(lines) == 1:
        return lines[0]._replace(label=group.name)
    points = [dict(zip(line.x, line.y, strict=True)) for line in lines]
    x = [at for at in lines[0].x if all(at in one for one in points)]
    columns = [[one[at] for one in points] for at in x]
    mean = [sum(column) / len(column) for column in columns]
    return Line(group.name, x, mean, list(map(min, columns)), list(map(max, columns)))


def _bands(runs: Sequence[RunRecord], of_one: str) -> str:
    return f"Bands: {of_one}" + (
        "." if len(runs) == 1 else "; of several seeds from the lowest to the highest."
    )


def _share(run: RunRecord, method: str, name: str) -> Line:
    sets = dict.fromkeys(look.set for look in run.history.looks if look.method == method)
    correct = correct_by_iteration(run, method, sets if name == ALL else [name])
    shares = [wilson(sum(one), len(one)) for one in correct.values()]
    return Line("", list(correct), *([share[i] for share in shares] for i in range(3)))


def _believed(run: RunRecord, method: str, key: str) -> Line:
    lines = [line for line in run.lines("evaluate_values", method=method) if key in line]
    x, y = [line["step"] for line in lines], [line[key] for line in lines]
    if not all(f"{key}_low" in line for line in lines):
        return Line("", x, y)
    return Line("", x, y, [line[f"{key}_low"] for line in lines], [line[f"{key}_high"] for line in lines])


def _mean(run: RunRecord, phase: str, key: str) -> Line:
    return Line("", *run.by_iteration(phase, key))


def _bins(line: Json, label: str) -> Line:
    """A reliability line; its band holds how large a share of all thoughts each bin has."""
    filled = [i for i in range(NUM_BINS) if line.get(f"bin_{i}_count")]
    shares = [line[f"bin_{i}_count"] / line["count"] for i in filled]
    x, y = ([line[f"bin_{i}_{name}"] for i in filled] for name in ("value", "label"))
    return Line(label, x, y, [0.0] * len(filled), shares)
