"""What report.json says: every measurement of one compile or prune. The dataclasses are the format, schema 1."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import edgeprune
from edgeprune.support import json_form as jsonform
from edgeprune.timing import Measurement, Ratio

SCHEMA = 1


@dataclass(frozen=True)
class ModelFile:
    """The model that came in: its file name, without folders, and the SHA-256 of the file in hexadecimal."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """What model.onnx is, and why.

    Attributes:
        variant: ``compressed``, or what came back in its place: ``unpruned-int8``, ``unpruned-fp16``, ``original``, ...
        pays: The result is at least 1.02 times as fast as the best unpruned variant, or no speed was asked for.
        reason: One sentence for people.
    """

    variant: str
    pays: bool
    reason: str


@dataclass(frozen=True)
class Budget:
    """What was asked for, at most one of the three in milliseconds, times, and points; and whether it was met."""

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    met: bool | None = None


@dataclass(frozen=True)
class Latency:
    """What was measured, all models in one run.

    Attributes:
        device: The processor or board, in words.
        runtime: Name and version of the runtime.
        threads: Threads of the runtime; None on devices that have no such setting.
        baseline: The model as it came in.
        result: The model that was written.
        speedup: Baseline over result, from paired blocks.
        variants: The unpruned alternatives by name, such as ``int8``.
    """

    device: str
    runtime: str
    threads: int | None
    baseline: Measurement
    result: Measurement
    speedup: Ratio
    variants: Mapping[str, Measurement] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What the latency table says, never to be taken for a measurement.

    Attributes:
        baseline_ms: Of the model as it came in.
        result_ms: Of the model that was written.
        source: ``measured`` or ``analytic``: where the profile has its times from.
        error: The profile's typical relative error, as a fraction; None where it has never been compared.
    """

    baseline_ms: float
    result_ms: float
    source: Literal["measured", "analytic"]
    error: float | None = None


@dataclass(frozen=True)
class Search:
    """How the choice was found; errors are of the outputs against the original's, without labels, unitless.

    Attributes:
        trials: Whole choices that were cut, refitted and run, each over all of the samples.
        samples: Of calibration data that a trial runs over.
        error_before: Of the choice by losses that were priced one by one.
        error_after: Of the best choice that was tried, of equal predicted time; the result is it or close to it.
        gap: How much more the priced losses of the first choice are than the least there can be near it, as a fraction;
            None where the solver found no bound in its time.
    """

    trials: int
    samples: int
    error_before: float
    error_after: float
    gap: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """How good the model was and is; higher is better.

    Attributes:
        kind: ``evaluation`` by the user's labels or function, or ``fidelity``: agreement with the model as it came in.
        metric: Such as ``top-1 accuracy``.
        unit: Such as ``%`` or ``dB``.
        before: Of the model as it came in; None where it agrees with itself without bound (a signal-to-noise ratio).
        after: Of the result.
        drop: What ``--max-drop`` limits, in points; negative where the result is better.
        samples: How many samples it was taken on; None where a user's function does not tell.
    """

    kind: Literal["evaluation", "fidelity"]
    metric: str
    unit: str
    before: float | None
    after: float
    drop: float
    samples: int | None = None


@dataclass(frozen=True)
class Size:
    """Size of a model: its file with external data in bytes, its parameters, and multiply-accumulates of one run.

    ``activation_bytes`` is the most that computed tensors take at once, counted from their shapes; None where a shape
    is not known.
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
    """One layer: a node and those that a runtime runs together with it.

    Attributes:
        node: the node that leads it, as plan.json names it.
        nodes: all of them.
        precision: what it was given, such as ``int8``.
        predicted_us: by the latency table, before the result was measured.
        measured_us: in the result, by the runtime's profiler; None where that was not measured.
        dense_us: in the original network, likewise.
        loss: predicted change of the network's outputs that its precision and the channels removed from what it makes
            cause, unitless; the layers' losses add up.
    """

    node: str
    nodes: tuple[str, ...]
    precision: str
    predicted_us: float
    measured_us: float | None = None
    dense_us: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Refusal:
    """How many axes were left whole for one reason, and the nodes that said so."""

    reason: str
    axes: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything one run measured and decided in sum; the single decisions are in plan.json.

    Attributes:
        seconds: Step -> seconds it took.
        search: How widths and precision were found by trying whole choices; None where none was tried.
        layers: What each layer takes and costs, in the order they run; empty for a prune, which looks at no latency.
        warnings: Sentences for people.
        calibration: The calibration data in words; None where there was none.
        recipe: Every flag of the compile, and ``model``; paths are relative to the folder of the report. None where it
            was not started from the command line.
        reproduce: The command line that says the same, to run in that folder.
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
    search: Search | None = None
    layers: tuple[Layer, ...] = ()
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of report.json."""
        return jsonform.dumps(self)

    @classmethod
    def from_json(cls, text: str, *, source: str = "report.json") -> Report:
        """Read the text of a report.json.

        Raises:
            UsageError: It is not of this form; the text names the place.
        """
        return jsonform.loads(cls, text, source=source, schema=SCHEMA)

    @classmethod
    def load(cls, file: Path) -> Report:
        """Read a report.json, or the one in a folder."""
        return jsonform.load(cls, file / "report.json" if file.is_dir() else file, schema=SCHEMA)


def installed_versions() -> dict[str, str]:
    """Versions of what has a say in the result: package -> version, with ``python``."""
    packages = ("onnx", "onnx-ir", "onnxruntime", "numpy", "scipy", "highspy")
    return {
        "edgeprune": edgeprune.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
