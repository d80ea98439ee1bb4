"""What the built engine computes on its device, against the graph that it was built from; a part of report.json."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.report.accuracy import Accuracy


@dataclass(frozen=True)
class EngineOutput:
    """One output of the engine beside the same output of the simulation.

    Attributes:
        name: of the output.
        error: root mean square of the difference, as a share of the output's; of integers the share that differ. None
            if the engine gives values that are not finite, or of another size.
        allowed: the most that other roundings can explain.
        kind: what the output is, such as ``class scores``.
        metric: how outputs of this kind are compared, such as ``top-1 agreement``.
        unit: ``%`` or ``dB``.
        agreement: of the engine with the simulation.
        fits: whether the output is what the graph says.
    """

    name: str
    error: float | None
    allowed: float
    kind: str
    metric: str
    unit: str
    agreement: float
    fits: bool


@dataclass(frozen=True)
class EngineCheck:
    """The engine of the result, run on its device on samples that the compile held out.

    Attributes:
        by: what ran it there: ``TensorRT's Python module`` or ``trtexec``.
        samples: number of samples.
        outputs: every output beside the simulation's.
        accuracy: of the engine itself: the user's evaluation, or fidelity to the original; None if it was not scored.
        faults: what is wrong with the engine and where that starts, in sentences; empty if nothing is.
    """

    by: str
    samples: int
    outputs: tuple[EngineOutput, ...]
    accuracy: Accuracy | None = None
    faults: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the engine computes what its graph says."""
        return not self.faults
