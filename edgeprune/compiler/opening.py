"""The first steps of every compile: open the model, its calibration data, and the evaluator."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.build import expected_cost, formats_of
from edgeprune.calibration import (
    ArrayCache,
    Calibration,
    CalibrationSpec,
    Evaluator,
    Feeds,
    LoadedWhenRun,
    Run,
    identity_of,
    open_evaluator,
    outputs_of,
)
from edgeprune.compiler.request import Conditions, Request
from edgeprune.dependency import OpenedModel, Shapes, analyse, open_model
from edgeprune.errors import ModelError
from edgeprune.latency import INT8, Network, input_shapes
from edgeprune.passes.dequantize import Lift
from edgeprune.passes.prune import try_cut
from edgeprune.passes.quantize import drop_idle_clips, equalize
from edgeprune.passes.tensorrt import fuse_layer_norms
from edgeprune.report import Cost
from edgeprune.search import Goal
from edgeprune.support import Progress, processor_s
from edgeprune.tokens import streams_to_try


@dataclass(frozen=True, eq=False)
class Opening:
    """A model with its data, independent of the target.

    Attributes:
        opened: the model; its channels are equalized if it may be quantized.
        data: all calibration data.
        fit: the part of it for the search, the refit and the quantization.
        evaluator: scores models, by the user's evaluation or on the held-out part of the data.
        cache: statistics that outlive the process.
        width_cache: those of units and widths; they are the same for a model with fewer tokens.
        conditions: threads, seed and data, for the report.
        progress: shows the progress.
        sample_s: processor seconds of one sample through the original.
        notes: sentences for the report.
        streams: how many narrower residual streams may be tried.
    """

    opened: OpenedModel
    data: Calibration
    fit: Calibration
    evaluator: Evaluator
    cache: ArrayCache
    width_cache: ArrayCache
    conditions: Conditions
    progress: Progress
    sample_s: float
    notes: tuple[str, ...] = ()
    streams: int = 0

    def announce_cost(
        self,
        network: Network,
        *,
        quantized: bool,
        cut: bool,
        measured: bool,
        sparse: int = 0,
        low_rank: Sequence[str] = (),
    ) -> Cost:
        """Tell the user and the progress what the rest of the compile is expected to take.

        Args:
            network: the blocks of the model.
            quantized: whether blocks may run in INT8.
            cut: whether widths must be priced.
            measured: whether candidates are measured on this processor.
            sparse: how many blocks have 2:4 weights priced.
            low_rank: nodes that may become two of low rank.
        """
        found = expected_cost(
            self.opened,
            network,
            self.fit,
            self.data.items - self.fit.items,
            sample_s=self.sample_s,
            spent_s=self.progress.used_s,
            quantized=quantized,
            cut=cut,
            measured=measured,
            sparse=sparse,
            low_rank=low_rank,
            streams=self.streams if cut else 0,
        )
        self.progress.expect(found.steps)
        self.progress.note(f"this will take {found}")
        return found.cost


def open_with_data(
    model: Path,
    shapes: Shapes,
    calibration: CalibrationSpec | None,
    progress: Progress,
    *,
    allow_statistic: bool = False,
    as_it_is: bool = False,
) -> tuple[OpenedModel, Calibration | None]:
    """A model and its calibration data; the data tells the sizes that ``shapes`` leaves open, if it has any.

    With ``as_it_is``, a model keeps its float type and its Q/DQ pairs if it can be cut, and the data run, with them.

    Raises:
        ModelError: the model is invalid or not supported.
        UsageError: ``shapes`` does not fit the inputs.
        CalibrationError: the data does not fit the model.
    """
    found: list[Calibration] = []
    lift: Lift = "all" if not as_it_is else "to cut" if calibration is None else "to run"

    def sizes(dense: ir.Model) -> Shapes:
        if calibration is None:
            return {}
        _check_runs(dense)
        if not calibration.has_sizes(dense):
            return calibration.random_shapes(dense)
        found.append(calibration.open(dense, shapes, progress))
        return {name: array.shape for name, array in next(iter(found[0].batches(1))).items()}

    opened = open_model(
        model,
        shapes,
        progress,
        allow_statistic=allow_statistic,
        lift=lift,
        data=sizes,
        fix_data=calibration is not None and calibration.size is not None,
        trial=try_cut,
    )
    if calibration is None:
        return opened, None
    _check_runs(opened.dense)
    is_same = found and not (graph.open_axes(opened.original) and not graph.open_axes(opened.dense))
    used = found[0] if is_same else calibration.open(opened.dense, opened.sizes.shapes, progress)
    for note in used.notes:
        graph.add_warning(opened.dense, note)
    if used.is_random:  # such a scale or length says nothing
        return opened, used
    return opened.at_values(next(iter(used.batches(1)))), used


def _check_runs(model: ir.Model) -> None:
    """Refuse a model that no samples can run through: inputs or layers are bfloat16, and it has no float32 form.

    Raises:
        ModelError: the text names an input or a layer.
    """
    inputs = [f"input {v.name!r}" for v in graph.data_inputs(model) if v.dtype == ir.DataType.BFLOAT16]
    layers = [n for n in model.graph if graph.is_op(n, "Conv", "ConvTranspose", "Gemm", "MatMul")]
    inside = [f"{n.op_type} {n.name!r}" for n in layers if n.outputs[0].dtype == ir.DataType.BFLOAT16]
    if places := inputs + inside:
        raise ModelError(
            f"{places[0]} is bfloat16, which onnxruntime has no CPU kernels for: export the model in float32; `prune` "
            "takes it without data, with --no-compensate"
        )


def open_model_and_data(request: Request, may: Goal, progress: Progress) -> Opening:
    """Read the model of a checked request and its data, equalize its channels for INT8, and score the original.

    Raises:
        ModelError: the model is invalid or not supported.
        CalibrationError, EvaluationError: data does not fit the model.
    """
    opened, data = open_with_data(request.model, request.shapes, request.calibration, progress)
    assert data is not None  # a checked request has data
    runtime = OnnxRuntime(request.threads)
    scored, notes = opened.scored, list[str]()

    def load() -> Run:
        runner = runtime.load(scored)
        notes[:] = [f"the original: {runner.note}"] if runner.note else []
        return runner.run

    original = LoadedWhenRun(load)
    meter = _Meter()
    with progress.step("looking at the outputs"):
        metered = functools.partial(meter.run, original.loaded(), data)
        data = data.judging(request.choice.applied_to(outputs_of(opened.dense, data, metered)))
    fit, held_out = data.split(seed=request.seed)
    if not request.runs_on.on_cpu:
        opened = for_tensorrt(opened)
    if opened.ranges:
        with progress.step("looking at the trained ranges"):
            opened = _without_idle_clips(opened, fit, request.threads)
    elif _may_equalize(request, may, fit):  # trained ranges belong to the channels as they are
        with progress.step("equalizing channels"):
            symmetric = request.runs_on.symmetric
            dense = equalize(opened.dense, fit, symmetric=symmetric, threads=request.threads)
        opened = replace(opened, dense=dense)
    with progress.step("scoring the original"):
        evaluator = open_evaluator(request.evaluation, opened, original, held_out)
        evaluator.check_scale(may.max_drop)
    with progress.step("looking up what is known"):
        cache = ArrayCache(identity_of(opened, fit, f"{runtime.device}, {request.threads} threads"))
    conditions = Conditions(request.threads, request.seed, data.describe())
    original.release()
    streams = streams_to_try(opened, fit) if request.embedding == "auto" else 0
    used = (conditions, progress, meter.sample_s, tuple(notes), streams)
    return Opening(opened, data, fit, evaluator, cache, cache, *used)


@dataclass
class _Meter:
    """The processor time of a model on all samples so far."""

    used_s: float = 0.0
    items: int = 0

    def run(self, run: Run, data: Calibration, feeds: Feeds) -> Sequence[NDArray[Any]]:
        """The outputs of a batch."""
        before = processor_s()
        outputs = run(feeds)
        self.used_s += processor_s() - before
        self.items += data.rows(feeds) if data.batchable else 1
        return outputs

    @property
    def sample_s(self) -> float:
        """Processor seconds of an item."""
        return self.used_s / max(1, self.items)


def _without_idle_clips(opened: OpenedModel, fit: Calibration, threads: int) -> OpenedModel:
    dense, ranges = drop_idle_clips(opened.dense, opened.ranges, fit, threads)
    return replace(_of(opened, dense), ranges=ranges)


def for_tensorrt(opened: OpenedModel) -> OpenedModel:
    """The model with its written-out LayerNormalizations as one operator each, which TensorRT computes in FP16."""
    dense = fuse_layer_norms(opened.dense)
    return opened if dense is opened.dense else _of(opened, dense)


def _of(opened: OpenedModel, dense: ir.Model) -> OpenedModel:
    """The opened model with another canonical form."""
    sizes = {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in opened.fixed.graph.inputs}
    fixed = graph.infer_shapes(graph.clone(dense), sizes)
    return replace(opened, dense=dense, fixed=fixed, analysis=analyse(fixed if opened.at_sizes else dense))


def _may_equalize(request: Request, may: Goal, fit: Calibration) -> bool:
    """Whether the model may run in INT8. For TensorRT the data must be real: random data has no real channel ranges."""
    if request.runs_on.on_cpu:
        return may.quantize
    return INT8 in formats_of(request.precision, request.profile) and not fit.is_random


def open_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """Fixed shapes of the inputs with dynamic dimensions, as used for this compile."""
    fixed = input_shapes(opened)
    return {
        str(v.name): fixed[str(v.name)]
        for v in opened.dense.graph.inputs
        if v.shape is not None and not all(isinstance(d, int) for d in v.shape)
    }
