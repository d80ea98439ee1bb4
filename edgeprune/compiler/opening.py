"""The first steps of every compile: open the model, its calibration data, and the evaluator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import (
    ArrayCache,
    Calibration,
    CalibrationSpec,
    Evaluator,
    identity_of,
    open_evaluator,
)
from edgeprune.compiler.session import Conditions
from edgeprune.dependency import OpenedModel, Shapes, open_model
from edgeprune.support import Progress

HOLDOUT_FRACTION = 0.125


@dataclass(frozen=True, eq=False)
class Opening:
    """A model with its data, independent of the target.

    Attributes:
        opened: the model; its channels are equalized if it may be quantized.
        data: all calibration data.
        fit: the part of it for the search, the refit and the quantization.
        evaluator: scores models, by the user's evaluation or on the held-out part of the data.
        cache: statistics that outlive the process.
        conditions: threads, seed and data, for the report.
        progress: shows the progress.
    """

    opened: OpenedModel
    data: Calibration
    fit: Calibration
    evaluator: Evaluator
    cache: ArrayCache
    conditions: Conditions
    progress: Progress


def open_data(calibration: CalibrationSpec, opened: OpenedModel, shapes: Shapes) -> Calibration:
    """Calibration data for a model; random samples have the sizes that ``shapes`` fixes.

    Raises:
        CalibrationError: the data does not fit the model.
    """
    return calibration.open(opened.fixed if calibration.source == "random" and shapes else opened.dense)


def open_compile(
    model: Path,
    calibration: CalibrationSpec,
    evaluation: str | None,
    shapes: Shapes,
    threads: int,
    seed: int,
    progress: Progress,
    equalized: Callable[[OpenedModel, Calibration], ir.Model | None],
) -> Opening:
    """Read a model and its data, and score the original.

    Args:
        model: the ONNX file.
        calibration: samples.
        evaluation: the value of ``--eval``; without one the evaluator computes fidelity to the original.
        shapes: input name -> dimensions, for inputs with dynamic dimensions.
        threads: of onnxruntime.
        seed: of all random numbers.
        progress: shows the progress.
        equalized: gives the model with its channels equalized for the target's INT8, or None to leave it unchanged.

    Raises:
        ModelError: the model is invalid or not supported.
        CalibrationError, EvaluationError: data does not fit the model.
    """
    opened = open_model(model, shapes, progress)
    data = open_data(calibration, opened, shapes)
    fit, held_out = data.split(HOLDOUT_FRACTION, seed)
    if (dense := equalized(opened, fit)) is not None:
        opened = replace(opened, dense=dense)
    runtime = OnnxRuntime(threads)
    with progress.step("scoring the original"):
        evaluator = open_evaluator(evaluation, opened, runtime.load(model).run, held_out)
    with progress.step("looking up what is known"):
        cache = ArrayCache(identity_of(opened, fit, f"{runtime.device}, {threads} threads"))
    return Opening(opened, data, fit, evaluator, cache, Conditions(threads, seed, data.describe()), progress)


def open_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """Fixed shapes of the inputs with dynamic dimensions, as used for this compile."""
    fixed = {str(v.name): v.shape for v in opened.fixed.graph.inputs}
    return {
        str(v.name): tuple(int(str(d)) for d in fixed[str(v.name)] or ())
        for v in opened.dense.graph.inputs
        if v.shape is not None and not all(isinstance(d, int) for d in v.shape)
    }
