"""Figures of a report as text for people, the same in every view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.compile_cost import Cost
from edgeprune.report.latency import Latency
from edgeprune.report.model import Report
from edgeprune.support import plural
from edgeprune.timing import Measurement

NO_TARGET = "none"
"""The target of a prune that is for no particular device."""

_WORTH_SAYING = 0.05

_CALLED = {"compile": "compiled", "prune": "pruned"}


COMPARISON_HEADER = ("", "before", "after", "change")


class Judged(Protocol):
    """An outcome, or a point of a curve."""

    @property
    def variant(self) -> str | None:
        """What the model is: ``compressed``, ``unpruned-int8``, ..."""

    @property
    def pays(self) -> bool | None:
        """Whether it is faster than the best network without pruning."""

    @property
    def below_floor(self) -> tuple[str, ...]:
        """Why it lost too much to be of use."""


class Row(NamedTuple):
    """One line of the comparison: what, before, after, and the change; each may be empty."""

    what: str
    before: str
    after: str
    change: str


def headline(report: Report) -> str:
    """The result in one line."""
    whole = f"{report.model.file} {_CALLED[report.command]}"
    parts = [whole if report.target == NO_TARGET else f"{whole} for {report.target}"]
    if report.latency is not None:
        parts.append(f"{_against(report)}{report.latency.speedup.value:.2f}x as fast as the original, measured")
    elif report.predicted is not None:
        speedup = f"{_against(report)}{report.predicted.speedup:.2f}x as fast as the original"
        parts.append(f"{speedup}, predicted, not measured")
    if report.accuracy is not None:
        parts.append(f"{report.accuracy.metric} {score_between(report.accuracy)}")
    return ", ".join([*parts, *doubts(report.outcome)])


def _spread(latency: Latency) -> list[Row]:
    """How far the medians of builds and boards are apart, if there are several."""
    if latency.builds == 1 and len(latency.boards) < 2:
        return []
    parts = [plural(latency.builds, "build")] if latency.builds > 1 else []
    parts += [f"{len(latency.boards)} boards"] if len(latency.boards) > 1 else []
    ends = [
        [run.baseline.median_ms for run in latency.runs],
        [run.result.median_ms for run in latency.runs],
    ]
    old, new = (f"{min(found):.4g} to {max(found):.4g} ms" for found in ends)
    return [Row(f"latency, medians of {' on '.join(parts)}", old, new, f"{max(ends[1]) / min(ends[1]) - 1:.1%} apart")]


def doubts(result: Judged) -> list[str]:
    """Why a result is perhaps not worth deploying, in a few words; the same in every view."""
    pays = result.pays is not False or result.variant != "compressed"
    return ["does not pay"] * (not pays) + ["below the floor of usefulness"] * bool(result.below_floor)


def variant(result: Judged) -> str:
    """What a result is, and its `doubts`: ``compressed (does not pay)``."""
    found = doubts(result)
    return f"{result.variant} ({', '.join(found)})" if found else str(result.variant)


def _against(report: Report) -> str:
    """The gain over the fastest other engine without pruning, which comes before the gain over what came in."""
    gain, against = report.outcome.gain, report.outcome.against
    if gain is not None and against not in (None, "original") and report.outcome.variant != f"unpruned-{against}":
        return f"{gain:.2f}x as fast as the unpruned {against} variant and "
    timed: Mapping[str, float] = {}
    if report.latency is not None:
        timed = {name: m.median_ms for name, m in report.latency.timed.items()}
    elif report.predicted is not None:
        timed = report.predicted.timed
    others = {n: ms for n, ms in timed.items() if n not in ("original", "result", _unpruned(report.outcome.variant))}
    if not others or report.outcome.variant == "original":
        return ""
    best = min(others, key=lambda name: others[name])
    return f"{others[best] / timed['result']:.2f}x as fast as the unpruned {best} variant and "


def _unpruned(variant: str) -> str:
    return variant.removeprefix("unpruned-")


def comparison(report: Report) -> list[Row]:
    """Latency, accuracy and sizes before and after."""
    rows = []
    if report.latency is not None:
        old, new, faster = report.latency.baseline, report.latency.result, report.latency.speedup
        change = f"{faster.value:.2f}x as fast ({faster.ci_low:.2f} to {faster.ci_high:.2f})"
        rows.append(Row("latency, median (95% interval)", latency(old), latency(new), change))
        rows.append(Row("latency, 95th percentile", f"{old.p95_ms:.4g} ms", f"{new.p95_ms:.4g} ms", ""))
        if old.tail is not None and new.tail is not None:
            rows.append(Row("latency, 99th percentile", f"{old.tail.p99_ms:.4g} ms", f"{new.tail.p99_ms:.4g} ms", ""))
        rows += _spread(report.latency)
    if report.predicted is not None:
        guess = report.predicted
        error = "" if guess.error is None else f", typical error {guess.error:.0%}"
        change = f"from {'a measured' if guess.source == 'measured' else 'an analytic'} profile{error}"
        rows.append(Row("latency, predicted", f"{guess.baseline_ms:.4g} ms", f"{guess.result_ms:.4g} ms", change))
    if (spent := report.energy.get("result")) is not None:
        old_mj = report.energy["original"].mj if "original" in report.energy else None
        what = f"energy of an inference above idling ({', '.join(spent.rails)})"
        change = "" if old_mj is None else f"{spent.mj / old_mj - 1:+.1%}"
        rows.append(Row(what, "" if old_mj is None else f"{old_mj:.4g} mJ", f"{spent.mj:.4g} mJ", change))
    elif report.predicted is not None and report.predicted.energy_mj is not None:
        guess, off = report.predicted, report.predicted.energy_error or 0.0
        shown = f"by published power, typical error {off:.0%}"
        rows.append(Row("energy of an inference above idling, predicted", "", f"{guess.energy_mj:.4g} mJ", shown))
    if (taken := report.memory.get("result")) is not None:
        first = report.memory.get("original")
        what, old_mb = "memory of weights and activations, by TensorRT", "" if first is None else f"{first.mb:.4g} MB"
        change = "" if taken.process_mb is None else f"{taken.process_mb:.4g} MB less available while it ran"
        rows.append(Row(what, old_mb, f"{taken.mb:.4g} MB", change))
    if (accuracy := report.accuracy) is not None:
        what = accuracy.metric if accuracy.kind == "evaluation" else f"fidelity to the original: {accuracy.metric}"
        before = "" if accuracy.before is None else score(accuracy, accuracy.before)
        samples = "" if accuracy.samples is None else f" on {accuracy.samples} samples"
        rows.append(Row(what, before, score_between(accuracy), f"{change_of(accuracy)}{samples}"))
    if report.engine is not None and (own := report.engine.accuracy) is not None:
        before = "" if own.before is None else score(own, own.before)
        rows.append(Row("the same, of the engine on the device", before, score_between(own), change_of(own)))
    old_size, new_size = report.sizes.baseline, report.sizes.result
    for what, old_count, new_count, text in (
        ("parameters", old_size.parameters, new_size.parameters, count),
        ("multiply-accumulates", old_size.macs, new_size.macs, count),
        ("file", old_size.file_bytes, new_size.file_bytes, file_size),
    ):
        rows.append(Row(what, text(old_count), text(new_count), _share(old_count, new_count)))
    old_bytes, new_bytes = old_size.activation_bytes, new_size.activation_bytes
    if old_bytes is not None and new_bytes is not None:
        change = _share(old_bytes, new_bytes)
        rows.append(Row("memory of activations, counted", file_size(old_bytes), file_size(new_bytes), change))
    return rows


OUTPUTS_HEADER = ("output", "what it is", "compared by", "agreement", "points lost")


def outputs(report: Report) -> list[tuple[str, str, str, str, str]]:
    """The agreement of each output with the original's."""
    scores = () if report.accuracy is None else report.accuracy.outputs
    return [
        (
            score.title,
            f"{score.kind}: {score.why}" if score.why else score.kind,
            score.metric,
            f"{score.after:.2f}{'' if score.unit == '%' else ' '}{score.unit}",
            f"{score.drop:.2f}" if score.counts else f"{score.drop:.2f}, not counted",
        )
        for score in scores
    ]


def conditions(report: Report) -> list[tuple[str, str]]:
    """The conditions of the measurement, as name and text."""
    facts = [("target", report.target)]
    if report.latency is not None:
        measured = report.latency
        threads = "" if measured.threads is None else f", {plural(measured.threads, 'thread')}"
        facts.append(("measured on", f"{measured.device}; {measured.runtime}{threads}"))
        if measured.baseline_runtime is not None:
            facts.append(("original run by", measured.baseline_runtime))
        runs = f"{measured.result.runs} runs in {plural(len(measured.result.blocks_ms), 'block')}"
        if aside := measured.result.set_aside:
            runs += f"; {plural(aside, 'disturbed round')} not counted"
        if (denied := measured.result.denied) > _WORTH_SAYING:
            runs += f"; other processes had the processor {denied:.0%} of the time, which is not counted"
        facts.append(("runs", runs))
    facts += report.operating_point.items()
    if (engine := report.engine) is not None:
        found = "its outputs are what the graph says" if engine.fits else "it computes something else than its graph"
        facts.append(("engine", f"run on {plural(engine.samples, 'sample')} by {engine.by}: {found}"))
    facts.append(("calibration", report.calibration or "none"))
    if (how := report.search) is not None:
        gap = "" if how.gap is None else f"; the first one within {how.gap:.1%} of the least predicted loss near it"
        tried = f"{plural(how.trials, 'candidate')} tried on {plural(how.samples, 'sample')}"
        facts.append(("search", f"{tried}, error {how.error_before:.3g} to {how.error_after:.3g}{gap}"))
    facts.append(("versions", ", ".join(f"{name} {number}" for name, number in report.versions.items())))
    facts.append(("time taken", seconds(sum(report.seconds.values()))))
    if report.cost is not None:
        facts.append(("cost of the compile", cost(report.cost.used)))
        if report.cost.expected is not None:
            facts.append(("expected cost", cost(report.cost.expected)))
    facts.append(("seed", str(report.seed)))
    return facts


def latency(measurement: Measurement) -> str:
    """Median and interval, such as ``4.02 ms (3.98 to 4.1)``."""
    return f"{measurement.median_ms:.4g} ms ({measurement.ci_low_ms:.4g} to {measurement.ci_high_ms:.4g})"


def count(number: int) -> str:
    """A count with three digits, such as ``1.21 G``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def file_size(number_of_bytes: int) -> str:
    """A size in decimal units, such as ``11.2 MB``."""
    return f"{number_of_bytes} bytes" if number_of_bytes < 1000 else f"{count(number_of_bytes)}B"


def cost(of: Cost) -> str:
    """What a compile takes, such as ``2 min 5 s of processor time, 1.5 GB of memory, 310 MB of temporary files``."""
    memory = f"{file_size(of.memory_bytes)} of memory"
    return f"{seconds(of.processor_s)} of processor time, {memory}, {file_size(of.temporary_bytes)} of temporary files"


def seconds(duration_s: float) -> str:
    """A duration, such as ``2 min 5 s``."""
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest} s"


def change_of(accuracy: Accuracy) -> str:
    """The gain or loss, such as ``-0.50 points``; zero after rounding has no sign.

    With its 95% interval, if that is known. For a signal-to-noise ratio, whose points are hundredths of the signal, it
    is the noise: ``0.36% noise``.
    """
    bounds = accuracy.drop_interval
    if accuracy.unit == "dB":
        return f"{accuracy.drop:.2f}% noise" + (f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else "")
    between = f" ({_signed(-bounds[1])} to {_signed(-bounds[0])})" if bounds else ""
    return f"{_signed(-accuracy.drop)} points{between}"


def score(accuracy: Accuracy, value: float) -> str:
    """A score with its unit, such as ``92.60%`` or ``31.50 dB``."""
    return f"{value:.2f}{'' if accuracy.unit == '%' else ' '}{accuracy.unit}".rstrip()


def score_between(accuracy: Accuracy) -> str:
    """The score of the result with its 95% interval, such as ``92.60% (90.1 to 94.5)``."""
    bounds = accuracy.interval
    return score(accuracy, accuracy.after) + (f" ({bounds[0]:.1f} to {bounds[1]:.1f})" if bounds else "")


def _signed(points: float) -> str:
    text = f"{points:+.2f}"
    return text.lstrip("+-") if float(text) == 0 else text


def shortened(text: str, limit: int) -> str:
    """The end of a long name, which is more specific than its beginning."""
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def _share(before: int, after: int) -> str:
    return f"{after / before - 1:+.1%}" if before else ""
