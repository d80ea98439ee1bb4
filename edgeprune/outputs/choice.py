"""What the user says about the outputs: which count, with what weight, and by what metric (--outputs, --fidelity)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeprune.errors import UsageError
from edgeprune.outputs.output_spec import (
    EQUAL,
    IOU,
    MATCHES,
    METRICS,
    SQNR,
    TENSOR,
    TOP1,
    Outputs,
    OutputSpec,
)
from edgeprune.support import nearest_names

METRICS_OF_USERS = METRICS

_ALSO_CALLED = {"argmax": TOP1}


@dataclass(frozen=True)
class Choice:
    """The user's choice.

    Attributes:
        weights: output -> weight; if there are any, other outputs do not count.
        metrics: output -> metric.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, outputs: str | None, fidelity: Sequence[str] = ()) -> Choice:
        """From ``NAME[=WEIGHT],...`` and ``NAME=METRIC``.

        Raises:
            UsageError: naming the flag and the part that is wrong.
        """
        weights, metrics = {}, {}
        for part in (outputs or "").split(",") if outputs is not None else ():
            name, weight = _weighted(part.strip())
            weights[name] = weight
        for text in fidelity:
            name, separator, metric = text.rpartition("=")
            metric = _ALSO_CALLED.get(metric, metric)
            if not separator or not name or metric not in METRICS:
                raise UsageError(f"--fidelity {text!r}: expected NAME=METRIC, with one of {', '.join(METRICS)}")
            metrics[name] = metric
        return cls(weights, metrics)

    def flags(self) -> dict[str, object]:
        """The flags that give this choice; none for a choice that changes nothing."""
        found: dict[str, object] = {}
        if self.weights:
            found["outputs"] = ",".join(f"{name}={weight:g}" for name, weight in self.weights.items())
        if self.metrics:
            found["fidelity"] = tuple(f"{name}={metric}" for name, metric in self.metrics.items())
        return found

    def applied_to(self, found: Outputs) -> Outputs:
        """The outputs with the user's weights and metrics.

        Raises:
            UsageError: there is no such output, or the metric does not fit it.
        """
        for flag, names in (("--outputs", self.weights), ("--fidelity", self.metrics)):
            for name in names:
                if name not in found.names:
                    near = nearest_names(name, found.names) or list(found.names[:5])
                    raise UsageError(f"{flag}: the model has no output {name!r}; it has {', '.join(map(repr, near))}")
        return replace(found, specs=tuple(new for spec in found.specs for new in self._chosen(spec)))

    def _chosen(self, spec: OutputSpec) -> Iterator[OutputSpec]:
        metrics = {name: self.metrics[name] for name in spec.names if name in self.metrics}
        weights = {name: self.weights.get(name, 0.0) if self.weights else 1.0 for name in spec.names}
        together = set(metrics.values()) <= {MATCHES if spec.head is not None else next(iter(metrics.values()), "")}
        if len(spec.names) > 1 and (not together or len(set(weights.values())) > 1):
            for name in spec.names:
                alone = replace(spec, names=(name,), kind=TENSOR, metric=SQNR, head=None, why="judged on its own")
                yield _with_metric(replace(alone, weight=weights[name]), metrics.get(name))
            return
        yield _with_metric(replace(spec, weight=weights[spec.names[0]]), next(iter(metrics.values()), None))


def _with_metric(spec: OutputSpec, metric: str | None) -> OutputSpec:
    if metric is None or metric == spec.metric:
        return spec
    name = spec.names[0]
    if metric == MATCHES and spec.head is None:
        raise UsageError(f"--fidelity {name}=detections: no boxes with scores can be read from output {name!r}")
    if (metric == EQUAL) != (spec.metric == EQUAL):
        what = "integers" if spec.metric == EQUAL else "floats"
        raise UsageError(f"--fidelity {name}={metric}: the values of output {name!r} are {what}")
    if metric in (TOP1, IOU) and spec.head is not None:
        raise UsageError(f"--fidelity {name}={metric}: output {name!r} is detections; use detections or sqnr")
    return replace(spec, metric=metric, why=f"{spec.why}; --fidelity asks for {metric}")


def _weighted(part: str) -> tuple[str, float]:
    name, separator, text = part.rpartition("=")
    if not separator:
        name, text = part, "1"
    try:
        weight = float(text)
    except ValueError:
        name, weight = part, 1.0  # the name itself has a "="
    if not name or not 0 < weight < float("inf"):
        raise UsageError(f"--outputs {part!r}: expected NAME or NAME=WEIGHT, with a weight above 0")
    return name, weight
