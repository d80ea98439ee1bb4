"""The content of report.json: every measurement of one compile or prune. The dataclasses are the format, schema 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.compile_cost import CompileCost, Training
from edgeprune.report.engine import EngineCheck
from edgeprune.report.latency import Latency
from edgeprune.report.loss_part import LossPart
from edgeprune.report.rival import Rival
from edgeprune.report.token_steps import Tokens
from edgeprune.support import json_form
from edgeprune.timing import Energy, Memory

SCHEMA = 1


@dataclass(frozen=True)
class ModelFile:
    """The original model: its file name without folders, and the SHA-256 of the file in hexadecimal."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """What model.onnx is, and why.

    Attributes:
        variant: ``compressed``, or what was returned instead: ``unpruned-int8``, ``unpruned-fp16``, ``original``, ...
        pays: The result is at least 1.02 times as fast as the best unpruned variant, or no speed was asked for.
        reason: One sentence for people.
        gain: How many times as fast the result is as ``against``; None if they were not compared.
        against: The fastest engine without pruning: ``original`` or a variant such as ``int8``.
        below_floor: Why the result lost too much to be of use; empty if it is of use.
    """

    variant: str
    pays: bool
    reason: str
    gain: float | None = None
    against: str | None = None
    below_floor: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """What was asked for: milliseconds or a speed-up, points, further limits; and whether all of it was met."""

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    met: bool | None = None
    max_energy_mj: float | None = None
    max_memory_mb: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True)
class Prediction:
    """Latencies by the latency table; never presented as measured.

    Attributes:
        baseline_ms: Of the original model.
        result_ms: Of the model that was written.
        source: ``measured`` or ``analytic``: the source of the profile's times.
        error: The profile's typical relative error, as a fraction; None if it was never compared with measurements.
        variants_ms: Of the unpruned alternatives by name, such as ``fp16`` and ``int8``.
        energy_mj_at_most: The watts of the power mode times ``result_ms``; None if the mode states no watts.
        energy_mj: Millijoules above idling of the result, by published power; None if none of the device was published.
        energy_error: Typical relative error of ``energy_mj``, as a fraction.
    """

    baseline_ms: float
    result_ms: float
    source: Literal["measured", "analytic"]
    error: float | None = None
    variants_ms: Mapping[str, float] = field(default_factory=dict)
    energy_mj_at_most: float | None = None
    energy_mj: float | None = None
    energy_error: float | None = None

    @property
    def speedup(self) -> float:
        """Baseline over result."""
        return self.baseline_ms / self.result_ms

    @property
    def timed(self) -> dict[str, float]:
        """Name -> milliseconds of everything that was predicted."""
        return {"original": self.baseline_ms, **self.variants_ms, "result": self.result_ms}

    def span_ms(self, latency_ms: float) -> tuple[float, float, float]:
        """A latency between its bounds by the typical error."""
        error = self.error or 0.0
        return latency_ms * (1 - error), latency_ms, latency_ms * (1 + error)


@dataclass(frozen=True)
class Search:
    """How the candidate was found; errors compare its outputs with the original's, without labels, unitless.

    Attributes:
        trials: Whole candidates that were cut, refitted and run, each over all of the samples.
        samples: Calibration samples that a trial runs over.
        error_before: Of the candidate with the least sum of losses, each priced alone.
        error_after: Of the best candidate that was tried, of equal predicted time; the result is it or close to it.
        gap: How much the priced losses of the first candidate exceed the least possible near it, as a fraction; None
            if the solver found no bound in its time.
    """

    trials: int
    samples: int
    error_before: float
    error_after: float
    gap: float | None = None


@dataclass(frozen=True)
class Size:
    """Size of a model: its file with external data in bytes, its parameters, and multiply-accumulates of one run.

    ``activation_bytes`` is the peak size of all computed tensors that live at once, counted from their shapes; None if
    a shape is not known.
    """

    file_bytes: int
    parameters: int
    macs: int
    activation_bytes: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Sizes before and after."""

    baseline: Size
    result: Size


@dataclass(frozen=True)
class Layer:
    """One layer: a node and those that the runtime runs together with it.

    Attributes:
        node: its first node, as plan.json names it.
        nodes: all of its nodes.
        precision: its precision, such as ``int8``.
        predicted_us: by the latency table, before the result was measured.
        measured_us: in the result, by the runtime's profiler; None if it was not measured.
        dense_us: in the original network, likewise.
        loss: predicted change of the network's outputs from its precision and from the removed output channels,
            unitless; the losses of the layers add up.
        reason: why nodes of it are in FP32 where the others are in FP16.
    """

    node: str
    nodes: tuple[str, ...]
    precision: str
    predicted_us: float
    measured_us: float | None = None
    dense_us: float | None = None
    loss: float | None = None
    reason: str | None = None

    @property
    def time_us(self) -> float:
        """The measured time, or else the predicted one."""
        return self.predicted_us if self.measured_us is None else self.measured_us


@dataclass(frozen=True)
class Refusal:
    """The number of axes that one reason left whole, and the nodes that gave it."""

    reason: str
    axes: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """All results of one run; the single decisions are in plan.json.

    Attributes:
        seconds, cost: Step -> seconds it took; what the compile took, and was expected to, None for a prune.
        search: How trials of whole candidates found widths and precision; None if none was tried.
        tokens, training: Which tokens leave, None without attention; how ``distill`` trained, None if it did not.
        layers: Time and loss of each layer, in the order they run; empty for a prune, which measures no latency.
        calibration, warnings: The calibration data in words, None if there was none; sentences for people.
        recipe: Every flag of the compile, and ``model``; paths are relative to the report's folder. None without flags.
        reproduce: The command line that reproduces it, to run in that folder.
        losses: What the loss comes from, if that was asked for.
        operating_point: Power mode, TensorRT and clocks, for a device with TensorRT.
        energy: ``original`` and ``result`` -> energy of an inference, by power sensors of the device, if it has them.
        memory: Likewise what the engine takes on the device, as TensorRT says.
        engine: What the engine computes on the device, beside the simulation; None if it was not run.
        rival: The smaller model that the user compares the result with, as it is.
    """

    schema: int = SCHEMA
    command: Literal["compile", "prune"]
    target: str
    model: ModelFile
    outcome: Outcome
    sizes: Sizes
    versions: Mapping[str, str]
    seconds: Mapping[str, float]
    seed: int
    budget: Budget = Budget()
    latency: Latency | None = None
    predicted: Prediction | None = None
    accuracy: Accuracy | None = None
    calibration: str | None = None
    recipe: Mapping[str, object] | None = None
    reproduce: str | None = None
    losses: tuple[LossPart, ...] = ()
    operating_point: Mapping[str, str] = field(default_factory=dict)
    energy: Mapping[str, Energy] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    engine: EngineCheck | None = None
    rival: Rival | None = None
    search: Search | None = None
    tokens: Tokens | None = None
    training: Training | None = None
    layers: tuple[Layer, ...] = ()
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    cost: CompileCost | None = None

    def to_json(self) -> str:
        """The text of report.json."""
        return json_form.dumps(self)

    @classmethod
    def from_json(cls, text: str, *, source: str = "report.json") -> Report:
        """Read the text of a report.json.

        Raises:
            UsageError: It is not of this form; the text names the place.
        """
        return json_form.loads(cls, text, source=source, schema=SCHEMA)

    @classmethod
    def load(cls, file: str | Path) -> Report:
        """Read a report.json, or the one in a folder."""
        file = Path(file)
        return json_form.load(cls, file / "report.json" if file.is_dir() else file, schema=SCHEMA)
