"""Fidelity: agreement with the original model on held-out data, without labels; each output as what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.model_outputs import outputs_of
from edgeprune.calibration.run import Run
from edgeprune.calibration.sources import Array, Feeds
from edgeprune.errors import EvaluationError
from edgeprune.outputs import Comparison, Outputs, worst
from edgeprune.report import OutputScore

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

    def compare(self, run: Run) -> tuple[OutputScore, ...]:
        """The agreement of every output.

        Raises:
            EvaluationError: the two models have different numbers of outputs.
        """
        comparison = Comparison(self.outputs)
        for feeds, wanted in self._reference_batches():
            got = run(feeds)
            if len(got) != len(wanted):
                raise EvaluationError(f"the model has {len(got)} outputs, the original {len(wanted)}")
            comparison.add(wanted, got)
        return comparison.scores()

    def score(self, run: Run) -> float:
        """Minus the points that the worst output loses, so that higher is better; see `compare`."""
        return -worst(self.compare(run)).drop

    def _reference_batches(self) -> Iterator[tuple[Feeds, Sequence[Array]]]:
        yield from self._kept
        room = self.kept_bytes - sum(_bytes(feeds, outputs) for feeds, outputs in self._kept)
        for number, feeds in enumerate(self.held_out.batches()):
            if number < len(self._kept):
                continue
            outputs = self.reference(feeds)
            if number == len(self._kept) and (size := _bytes(feeds, outputs)) <= room:
                self._kept.append((feeds, outputs))
                room -= size
            yield feeds, outputs


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
