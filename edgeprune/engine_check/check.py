"""Run an engine on held-out samples on its device, and compare it with the graph that it was built from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import EngineDevice, simulation
from edgeprune.calibration import Calibration, Evaluator, Feeds, Run, is_fidelity
from edgeprune.engine_check.engine_run import EngineRun
from edgeprune.engine_check.locate import Seen, locate
from edgeprune.engine_check.rounding_noise import EXPLAINED, allowed_error, error_of, with_noise
from edgeprune.errors import BackendError
from edgeprune.graph import with_outputs
from edgeprune.outputs import Comparison, Outputs
from edgeprune.report import Accuracy, EngineCheck, EngineOutput, OutputScore
from edgeprune.support import Progress

Array = NDArray[Any]

SAMPLES = 8
"""Samples on which the outputs are compared."""

SLOW_ITEMS = 64
"""Most items that are scored where every one of them is a start of trtexec."""

WORTH_SAYING_POINTS = 1.0
"""How much more an engine may lose than its simulation before a sentence says so."""

MOST_BYTES = 1 << 30
"""Most bytes of an evaluation's samples that are sent to the device."""

NEGLIGIBLE_POINTS = 3.0
"""A loss of agreement that is never a fault; few samples tell no less."""


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        device: with TensorRT.
        model: the lowered model.
        engine: built from it on this device; None to build it.
        data: samples that were not used to build the model.
        outputs: what its outputs are.
        shapes: input name -> shape, for inputs with an open size.
        progress: shows the progress.
        threads: of onnxruntime, which simulates the engine.
    """

    device: EngineDevice
    model: ir.Model
    engine: bytes | None
    data: Calibration
    outputs: Outputs
    shapes: Mapping[str, tuple[int, ...]]
    progress: Progress
    threads: int = 1

    @property
    def samples(self) -> list[Feeds]:
        """The samples on which outputs are compared."""
        return list(itertools.islice(self.data.batches(1), SAMPLES))

    def run_of(self, model: ir.Model, engine: bytes | None) -> EngineRun:
        """An engine of a changed model."""
        return EngineRun(self.device, model, engine, self.data, self.shapes, self.progress)


def check_engine(subject: Subject, evaluator: Evaluator | None = None) -> EngineCheck:
    """Compare an engine with its simulation; if it is wrong, find where; else score it.

    Args:
        subject: what is checked.
        evaluator: scores the engine, too.

    Raises:
        BackendError: the engine cannot be run, or onnxruntime cannot simulate it.
    """
    samples = subject.samples
    run = subject.run_of(subject.model, subject.engine)
    run.prefetch(samples)
    with subject.progress.step("simulating the engine"):
        simulated = simulation.load(subject.model, subject.threads).run
        wanted = [simulated(feeds) for feeds in samples]
        noisy = _with_noise(subject, samples)
    got = [run.run(feeds) for feeds in samples]
    outputs = _compare(subject, wanted, noisy, got)
    wrong = [output for output in outputs if not output.fits]
    if wrong:
        place = _place(subject, wrong[0].name)
        faults = (f"{_said(wrong[0])}; {place}", *map(_said, wrong[1:]))
        return EngineCheck(run.by, len(samples), outputs, None, faults)
    return EngineCheck(run.by, len(samples), outputs, None if evaluator is None else _score(evaluator, run, simulated))


def _with_noise(subject: Subject, samples: Sequence[Feeds]) -> list[list[Array]] | None:
    try:
        run = simulation.load(with_noise(subject.model), subject.threads).run
        return [run(feeds) for feeds in samples]
    except BackendError:
        return None


def _compare(
    subject: Subject,
    wanted: Sequence[Sequence[Array]],
    noisy: Sequence[Sequence[Array]] | None,
    got: Sequence[Sequence[Array]],
) -> tuple[EngineOutput, ...]:
    """Every output of the engine beside the simulation's: by its values, and as what it is."""
    scores = _scores(subject.outputs, wanted, got)
    explained = {} if noisy is None else _scores(subject.outputs, wanted, noisy)
    found = []
    for place, value in enumerate(subject.model.graph.outputs):
        name = subject.outputs.names[place]
        expected = [outputs[place] for outputs in wanted]
        error = error_of(expected, [outputs[place] for outputs in got])
        allowed = allowed_error(None if noisy is None else error_of(expected, [o[place] for o in noisy]))
        score = scores[name]
        points = max(NEGLIGIBLE_POINTS, EXPLAINED * explained[name].drop if explained else 0.0)
        fits = error <= allowed and score.drop <= points
        found.append(
            EngineOutput(
                str(value.name),
                error if math.isfinite(error) else None,
                allowed,
                score.kind,
                score.metric,
                score.unit,
                score.after,
                fits,
            )
        )
    return tuple(found)


def _scores(
    outputs: Outputs, wanted: Sequence[Sequence[Array]], got: Sequence[Sequence[Array]]
) -> dict[str, OutputScore]:
    comparison = Comparison(outputs)
    for one, other in zip(wanted, got, strict=True):
        comparison.add(one, other)
    return {name: score for score in comparison.scores() for name in score.names}


def _said(output: EngineOutput) -> str:
    if output.error is None:
        return f"the engine's output {output.name!r} has values that are not finite, or another size"
    agreement = f"{output.metric} {output.agreement:.3g} {output.unit}"
    return (
        f"the engine's output {output.name!r} is not what its graph computes: it is off by {output.error:.2g} of its "
        f"size, roundings explain {output.allowed:.2g} ({agreement})"
    )


def _place(subject: Subject, output: str) -> str:
    """Where the fault starts, as the end of a sentence."""
    rounded = simulation.rounded_float32(subject.model)
    known = {value.name for node in rounded.graph for value in node.outputs}
    samples = subject.samples
    names = [str(value.name) for value in subject.model.graph.outputs]

    def probe(inner: Sequence[str]) -> Seen:
        every = [*names, *inner]
        stored = [f"{name}/float" if f"{name}/float" in known else name for name in every]
        got = _all(subject, with_outputs(subject.model, every), samples)
        wanted = _runs(simulation.load(with_outputs(rounded, stored), subject.threads).run, samples)
        noise = with_outputs(with_noise(subject.model), stored)
        noisy = _runs(simulation.load(noise, subject.threads).run, samples)
        wrong = _wrong(every, wanted, noisy, got)
        return Seen({name for name in inner if name in wrong}, {name for name in names if name in wrong})

    try:
        with subject.progress.step("finding where the engine is wrong"):
            return locate(subject.model, output, probe)
    except BackendError as error:
        return f"where it starts was not found: {error}"


def _all(subject: Subject, model: ir.Model, samples: Sequence[Feeds]) -> list[list[Array]]:
    run = subject.run_of(model, None)
    run.prefetch(samples)
    return [run.run(feeds) for feeds in samples]


def _runs(run: Callable[[Feeds], list[Array]], samples: Sequence[Feeds]) -> list[list[Array]]:
    return [run(feeds) for feeds in samples]


def _wrong(
    names: Sequence[str],
    wanted: Sequence[Sequence[Array]],
    noisy: Sequence[Sequence[Array]],
    got: Sequence[Sequence[Array]],
) -> Collection[str]:
    found = set()
    for place, name in enumerate(names):
        expected, other, engine = ([outputs[place] for outputs in runs] for runs in (wanted, noisy, got))
        if error_of(expected, engine) > allowed_error(error_of(expected, other)):
            found.add(name)
    return found


def _score(evaluator: Evaluator, run: EngineRun, simulated: Run) -> Accuracy | None:
    """The accuracy of the engine itself; None if its samples are too many or too large for the device."""
    fidelity = evaluator.evaluation if is_fidelity(evaluator) else None
    needed: list[Feeds] = []
    if fidelity is not None:
        needed = list(run.data.batches())
        size = sum(map(_bytes, needed))
    else:  # what the user's evaluation asks for is only known by running it
        size = 0

        def record(feeds: Feeds) -> list[Array]:
            nonlocal size
            size += _bytes(feeds)
            if size <= MOST_BYTES:
                needed.append({name: array.copy() for name, array in feeds.items()})
            return list(simulated(feeds))

        evaluator.accuracy(record)
    items = sum(map(run.data.rows, needed))
    if size > MOST_BYTES or (run.by == "trtexec" and items > SLOW_ITEMS):
        return None
    run.prefetch(needed)
    return evaluator.accuracy(run.run)


def _bytes(feeds: Feeds) -> int:
    return sum(array.nbytes for array in feeds.values())


def engine_warnings(check: EngineCheck | None, simulated: Accuracy) -> tuple[str, ...]:
    """Sentences for the report: the faults, and a loss of the engine that the simulation does not show."""
    if check is None:
        return ()
    found = list(check.faults)
    if (own := check.accuracy) is not None and own.drop > simulated.drop + WORTH_SAYING_POINTS:
        found.append(f"on the device the engine loses {own.drop:.2f} points, its simulation here {simulated.drop:.2f}")
    return tuple(found)
