"""Fidelity: agreement with the original model on held-out data, without labels; each output as what it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.model_outputs import outputs_of
from edgeprune.calibration.run import LoadedWhenRun, Run
from edgeprune.calibration.sources import Array, Feeds
from edgeprune.errors import EvaluationError
from edgeprune.outputs import Comparison, Outputs, points, score_interval, worst
from edgeprune.report import OutputScore

FIRST_LOOK = 4
"""Samples after which a comparison with a limit may end; then at twice as many, and so on."""
SCORED_ITEMS = 8
"""Most items in a batch: enough for onnxruntime to run at full speed, and few enough to end early."""

KEPT_BYTES = 256 << 20
"""Outputs of the original that are kept between two comparisons; it computes the others again."""


@dataclass(frozen=True)
class Fidelity:
    """Agreement with a reference model; `edgeprune.outputs` says how each kind of output is compared.

    Attributes:
        reference: runs the original.
        held_out: the samples.
        outputs: what the outputs are.
        kept_bytes: see KEPT_BYTES.
    """

    reference: Run
    held_out: Calibration
    outputs: Outputs
    kept_bytes: int = KEPT_BYTES
    _kept: list[tuple[Feeds, Sequence[Array]]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def metric(self) -> str:
        """What the worst output is judged by depends on the result, so this only says that it is fidelity."""
        return "fidelity to the original"

    def compare(self, run: Run, *, with_intervals: bool = False) -> tuple[OutputScore, ...]:
        """The agreement of every output, perhaps with its 95% interval by the scatter of single samples.

        Raises:
            EvaluationError: the two models have different numbers of outputs.
        """
        return self._compare(run, with_intervals, math.inf)[0]

    def compare_until(self, run: Run, limit: float) -> tuple[tuple[OutputScore, ...], int]:
        """The agreement of every output with its interval, and on how many samples.

        Further samples are not run where the first ones show that the worst output loses more than ``limit`` points:
        its 95% interval is beyond that, and it would lose more even if all further samples lost nothing.

        Raises:
            EvaluationError: the two models have different numbers of outputs.
        """
        return self._compare(run, True, limit)

    def _compare(self, run: Run, with_intervals: bool, limit: float) -> tuple[tuple[OutputScore, ...], int]:
        comparison = Comparison(self.outputs)
        each: list[tuple[OutputScore, ...]] = []
        seen, look = 0, FIRST_LOOK
        for feeds, wanted in self._reference_batches():
            got = run(feeds)
            if len(got) != len(wanted):
                raise EvaluationError(f"the model has {len(got)} outputs, the original {len(wanted)}")
            comparison.add(wanted, got)
            seen += self.held_out.rows(feeds)
            if with_intervals:
                each += [self._scores(*sample) for sample in self._samples(feeds, wanted, got)]
            if seen >= look and limit < math.inf:
                look = 2 * seen
                so_far = _with_intervals(comparison.scores(), each)
                if surely_loses(so_far, limit, seen / self.held_out.samples):
                    return so_far, seen
        scores = comparison.scores()
        return (_with_intervals(scores, each) if with_intervals else scores), self.held_out.samples

    def _scores(self, wanted: Sequence[Array], got: Sequence[Array]) -> tuple[OutputScore, ...]:
        comparison = Comparison(self.outputs)
        comparison.add(wanted, got)
        return comparison.scores()

    def _samples(
        self, feeds: Feeds, wanted: Sequence[Array], got: Sequence[Array]
    ) -> Iterator[tuple[Sequence[Array], Sequence[Array]]]:
        """The outputs of every single sample; nothing if an output does not say where its samples are."""
        rows = self.held_out.rows(feeds)
        if rows == 1:
            yield wanted, got
            return
        axes = [self.held_out.axes.outputs.get(name) for name in self.outputs.names]
        places = [axis for axis in axes if axis is not None]
        lengths = [
            o.shape[a] if o.ndim > a else 0 for both in (wanted, got) for o, a in zip(both, places, strict=False)
        ]
        if len(places) < len(axes) or any(not length or length % rows for length in lengths):
            return
        for row in range(rows):
            yield _of_sample(wanted, places, row, rows), _of_sample(got, places, row, rows)

    def score(self, run: Run) -> float:
        """Minus the points that the worst output loses, so that higher is better; see `compare`."""
        return -worst(self.compare(run)).drop

    def _reference_batches(self) -> Iterator[tuple[Feeds, Sequence[Array]]]:
        try:
            yield from self._references()
        finally:
            if isinstance(self.reference, LoadedWhenRun):
                self.reference.release()

    def _references(self) -> Iterator[tuple[Feeds, Sequence[Array]]]:
        yield from self._kept
        room = self.kept_bytes - sum(_bytes(feeds, outputs) for feeds, outputs in self._kept)
        for number, feeds in enumerate(self.held_out.batches(min(SCORED_ITEMS, self.held_out.batch_size))):
            if number < len(self._kept):
                continue
            outputs = self.reference(feeds)
            if number == len(self._kept) and (size := _bytes(feeds, outputs)) <= room:
                self._kept.append((feeds, outputs))
                room -= size
            yield feeds, outputs


def _with_intervals(scores: Sequence[OutputScore], each: Sequence[Sequence[OutputScore]]) -> tuple[OutputScore, ...]:
    """Scores with their 95% intervals; ``each``: the scores of every single sample."""
    by_output = [[one[n].after for one in each if one[n].metric == s.metric] for n, s in enumerate(scores)]
    return tuple(replace(s, interval=score_interval(s, e)) for s, e in zip(scores, by_output, strict=True))


def surely_loses(scores: Sequence[OutputScore], limit: float, share: float) -> bool:
    """Whether the output that loses most will lose more than ``limit`` points on all samples.

    Args:
        scores: on the first samples, with intervals.
        limit: in points.
        share: of the samples that were seen. The first samples may be the worst ones, as in data that is sorted by
            class. So what they lost must be beyond the limit for all samples together.
    """
    main = worst(scores)
    beyond = main.interval is not None and points(main.unit, main.interval[1]) > limit
    return beyond and main.drop * share > limit


def _of_sample(arrays: Sequence[Array], axes: Sequence[int], row: int, rows: int) -> Sequence[Array]:
    """The part of every array that belongs to one of ``rows`` samples, which lie side by side on its axis."""
    sizes = [array.shape[axis] // rows for array, axis in zip(arrays, axes, strict=True)]
    parts = [range(row * size, (row + 1) * size) for size in sizes]
    return [array.take(part, axis) for array, part, axis in zip(arrays, parts, axes, strict=True)]


def fidelity(reference: Run, held_out: Calibration, model: ir.Model) -> Fidelity:
    """Fidelity to a reference model.

    Args:
        reference: runs the original.
        held_out: the samples.
        model: the original, or another form of it with the same outputs.

    Raises:
        CalibrationError: there are no samples.
    """
    return Fidelity(reference, held_out, outputs_of(model, held_out, reference))


def _bytes(feeds: Feeds, outputs: Sequence[Array]) -> int:
    return sum(array.nbytes for array in (*feeds.values(), *outputs))
