"""Whether the engine that was run on the device computes what its graph says, and what it loses there."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.gate.drops import drop_of
from edgeprune.gate.verdicts import Check, Verdict
from edgeprune.report import Report


def check_engine(report: Report, max_drop: float | None, outputs: Sequence[str] = ()) -> list[Check]:
    """The checks of a report whose engine was run on samples; none for other reports.

    An engine that computes something else than its graph fails, whatever the limits are. What the engine loses is
    checked against ``max_drop`` beside what its simulation loses: points, exact on their samples. If ``outputs`` are
    given, their fidelity is; all that the engine loses, where that is not known.
    """
    if (engine := report.engine) is None:
        return []
    wrong = [output for output in engine.outputs if not output.fits]
    value = f"{len(wrong)} of {len(engine.outputs)} outputs differ"
    detail = "; ".join(engine.faults) or f"run on {engine.samples} samples by {engine.by}"
    verdict: Verdict = "fail" if engine.faults else "pass"
    found = [Check("engine against its graph", value, "0 outputs", verdict, detail)]
    if max_drop is not None and (own := engine.accuracy) is not None:
        drop, metric = drop_of(own, outputs if own.outputs else ())
        verdict = "fail" if drop > max_drop else "pass"
        on = f"{metric}, of the engine on the device"
        found.append(Check("accuracy drop of the engine", f"{drop:.2f} points", f"{max_drop:g} points", verdict, on))
    return found
