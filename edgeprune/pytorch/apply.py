"""``edgeprune apply``: cut a PyTorch checkpoint to the widths of a plan, for fine-tuning in PyTorch.

The plan names initializers of ``dense.onnx``; `weight_match` finds the tensor that each comes from. Every tensor is cut
on the same axes as its initializers, and so are the tensors of BatchNormalizations. Then the initializers are computed
again from the cut checkpoint and compared with those of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.build import AxisPlan, Plan
from edgeprune.dependency import analyse
from edgeprune.errors import ModelError, UsageError
from edgeprune.passes.prune import prune_channels
from edgeprune.passes.rank import multiply_factors
from edgeprune.pytorch.carryover import carry_over
from edgeprune.pytorch.weight_form import SCALE_TOLERANCE, Match, Shift, relative_difference
from edgeprune.pytorch.weight_layers import array_of, float_initializers, layers_of
from edgeprune.pytorch.weight_match import Matcher
from edgeprune.support import Progress, check_file

OTHER_BASIS = "the residual stream is in a basis that no checkpoint can be cut to; compile with --embedding none"
LOW_RANK = "layers of low rank ({count}) stay one layer each in the checkpoint: compile it again after training"

Array = NDArray[Any]
Axes = Mapping[int, AxisPlan]


@dataclass(frozen=True)
class Applied:
    """The result of `apply_plan`.

    Attributes:
        file: the cut checkpoint.
        weights: ``checkpoint``: its own values; ``compiled``: the values that the compile refitted, carried over.
        tensors: number of tensors that were cut.
        parameters: number of values in the checkpoint, before and after.
        checked: what was compared, in words.
        deviation: largest difference in that comparison, relative to the largest value.
        notes: sentences on tensors whose match is not certain.
    """

    file: Path
    weights: str
    tensors: int
    parameters: tuple[int, int]
    checked: str
    deviation: float
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Text for the terminal."""
        before, after = self.parameters
        return (
            f"{self.tensors} tensors cut, {before:,} to {after:,} values, "
            f"{'refitted weights carried over' if self.weights == 'compiled' else 'weights of the checkpoint'}\n"
            f"checked: {self.checked}, largest difference {self.deviation:.1e} of the largest value\n"
            f"written to {self.file}"
        )

    def to_json(self) -> dict[str, object]:
        """What ``--json`` prints."""
        return {
            "file": str(self.file),
            "weights": self.weights,
            "tensors": self.tensors,
            "parameters": {"before": self.parameters[0], "after": self.parameters[1]},
            "checked": self.checked,
            "deviation": self.deviation,
            "notes": list(self.notes),
        }


@dataclass
class Slices:
    """Positions that are kept, by tensor of the checkpoint and axis."""

    state: Mapping[str, Array]
    masks: dict[tuple[str, int], NDArray[np.bool_]] = field(default_factory=dict)

    def mask(self, key: str, axis: int) -> NDArray[np.bool_]:
        """The kept positions; all if none were removed."""
        return self.masks.get((key, axis), np.ones(self.state[key].shape[axis], dtype=bool))

    def of_rows(self) -> dict[str, NDArray[np.bool_]]:
        """The kept rows (axis 0), by tensor."""
        return {key: mask for (key, axis), mask in self.masks.items() if axis == 0}

    def remove(self, key: str, axis: int, positions: NDArray[np.int64]) -> None:
        """Remove positions."""
        mask = self.mask(key, axis).copy()
        mask[positions] = False
        self.masks[key, axis] = mask

    def cut(self) -> dict[str, Array]:
        """The cut checkpoint."""
        cut = dict(self.state)
        for (key, axis), mask in self.masks.items():
            cut[key] = np.compress(mask, cut[key], axis=axis)
        return cut

    def rows(self, key: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The new positions of those rows of a tensor that are kept."""
        mask = self.mask(key, 0)
        return (np.cumsum(mask) - 1)[rows[mask[rows]]]


def apply_plan(
    plan_file: Path,
    checkpoint: Path,
    out: Path | None = None,
    *,
    weights: str = "auto",
    module: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Applied:
    """Cut a checkpoint, check it, and write it.

    Args:
        plan_file: a plan.json beside its dense.onnx and model.onnx, or their folder.
        checkpoint: a PyTorch file with a state dict.
        out: file to write; ``<checkpoint>.pruned.pt`` beside the checkpoint by default.
        weights: ``checkpoint``, ``compiled``, or ``auto``: compiled if model.onnx has float weights.
        module: ``file.py:function`` that returns the uncut module: it is cut too, and its outputs are compared.
        force: replace the file if it exists.
        progress: receives the steps.

    Raises:
        UsageError: a file is missing or has the wrong content.
        ModelError: a tensor of the plan comes from no tensor of the checkpoint, or the check fails.
        BackendError: PyTorch is not installed.
    """
    from edgeprune.pytorch.checkpoint import load_state, save_state

    progress = progress or Progress()
    plan_file = plan_file / "plan.json" if plan_file.is_dir() else plan_file
    out = out or checkpoint.with_name(f"{checkpoint.stem}.pruned.pt")
    check_file(out, force=force)
    with progress.step("reading"):
        plan = Plan.load(plan_file)
        if dropped := [g.id for g in plan.groups if not g.kept]:
            raise ModelError(f"{plan_file}: the branch of {dropped[0]!r} is dropped; a checkpoint cannot be cut so")
        if plan.tokens:
            way = f"tokens leave by {plan.tokens.get('setting')}"
            raise ModelError(f"{plan_file}: {way}, which weights alone cannot say; compile with --tokens none")
        if plan.embedding:
            raise ModelError(f"{plan_file}: {OTHER_BASIS}")
        dense, result = (graph.load(_beside(plan_file, name)) for name in ("dense.onnx", "model.onnx"))
        result = multiply_factors(result, plan.ranks) if plan.ranks else result
        state = load_state(checkpoint)
    with progress.step("matching weights"):
        values = float_initializers(dense)
        # Integer initializers are shapes and positions: no checkpoint has them.
        wanted = {name: axes for name, axes in plan.initializers.items() if name in values}
        matcher = match(dense, state, wanted)
        slices = _slices(matcher, wanted, values, state)
        cut = slices.cut()
        deviation = _check_weights(matcher, slices, cut, dense, wanted)
    checked = "every weight, computed from the cut checkpoint, against the plan's cut of dense.onnx"
    source = "checkpoint"
    if plan.ranks:
        matcher.notes.append(LOW_RANK.format(count=len(plan.ranks)))
    if weights != "checkpoint":
        carried, why = carry_over(matcher.matches, slices.rows, cut, dense, result)
        if carried is not None:
            cut, source = carried, "compiled"
            checked = "every weight, computed from the cut checkpoint, against model.onnx"
        elif weights == "compiled":
            raise ModelError(f"the weights of model.onnx cannot be carried over: {why}")
        else:
            matcher.notes.append(f"the checkpoint's own weights were kept: {why}")
    if module is not None:
        from edgeprune.pytorch.fitted_module import compare_module, groups_of

        with progress.step("comparing outputs"):
            reference = result if source == "compiled" else _cut_model(dense, plan)
            deviation = compare_module(module, cut, reference, groups_of(reference, matcher.matches), slices.of_rows())
        checked = "outputs of the cut module against " + (
            "model.onnx" if source == "compiled" else "the cut dense.onnx"
        )
    save_state(cut, checkpoint, out, force=force)
    sizes = tuple(sum(t.size for t in tensors.values()) for tensors in (state, cut))
    count = len({key for key, _ in slices.masks})
    return Applied(out, source, count, (sizes[0], sizes[1]), checked, deviation, tuple(matcher.notes))


def match(dense: ir.Model, state: Mapping[str, Array], wanted: Mapping[str, Axes]) -> Matcher:
    """Find the tensor that every cut initializer comes from, and those of the other initializers if there are any.

    Raises:
        ModelError: a cut initializer comes from no tensor of the checkpoint; the text names it.
    """
    matcher = Matcher(state)
    values = float_initializers(dense)
    for layer in layers_of(dense):
        unmatched = matcher.layer(layer, values[layer.weight], None if layer.bias is None else values[layer.bias])
        if unmatched is not None:
            if layer.weight in wanted:
                raise ModelError(unmatched)
            matcher.notes.append(f"{unmatched}; it is not cut")
    for name in wanted:
        matcher.tensor(name, values[name])
    return matcher


def _cut_model(dense: ir.Model, plan: Plan) -> ir.Model:
    """The dense model, cut by the plan and not changed otherwise."""
    view = graph.infer_shapes(graph.clone(dense), plan.input_shapes) if plan.input_shapes else dense
    analysis = analyse(view)
    if not {g.id for g in plan.groups} <= {g.id for g in analysis.groups}:
        analysis = analyse(view, allow_statistic=True)
    return prune_channels(dense, analysis, plan.cut)


def _slices(
    matcher: Matcher, plan: Mapping[str, Axes], values: Mapping[str, Array], state: Mapping[str, Array]
) -> Slices:
    """The positions of the checkpoint that the plan removes.

    Raises:
        ModelError: two uses of a tensor are cut differently.
    """
    slices = Slices(state)
    for name, axes in plan.items():
        found = matcher.matches[name]
        for axis, cut in axes.items():
            removed = np.setdiff1d(np.arange(values[name].shape[axis]), np.array(cut.kept, dtype=np.int64))
            for key, tensor_axis, positions in _places(found, axis, removed):
                slices.remove(key, tensor_axis, positions)
    for name, found in matcher.matches.items():
        for axis, size in enumerate(values[name].shape):
            kept = np.ones(size, dtype=bool)
            if axis in plan.get(name, {}):
                kept[:] = False
                kept[list(plan[name][axis].kept)] = True
            for key, tensor_axis, positions in _places(found, axis, np.arange(size)):
                if not np.array_equal(slices.mask(key, tensor_axis)[positions], kept):
                    raise ModelError(f"{key!r} of the checkpoint is used twice, and the plan cuts {name!r} differently")
    return slices


def _places(
    found: Match | Shift, axis: int, positions: NDArray[np.int64]
) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Where positions on an initializer's axis are in the checkpoint: tensors, axes and positions."""
    if isinstance(found, Shift):
        yield from ((key, 0, found.rows[positions]) for key in found.keys)
        return
    if axis not in found.axes:
        return
    tensor_axis = found.axes.index(axis)
    places = found.rows[positions] if tensor_axis == 0 else positions
    yield found.key, tensor_axis, places
    if tensor_axis == found.outputs:
        yield from ((key, 0, places) for key in found.companions)


def _check_weights(
    matcher: Matcher, slices: Slices, cut: Mapping[str, Array], dense: ir.Model, plan: Mapping[str, Axes]
) -> float:
    """Largest difference of the initializers computed from the cut checkpoint, relative to the largest value.

    Raises:
        ModelError: an initializer differs from that of the plan by more than rounding.
    """
    worst = 0.0
    for name, match in matcher.matches.items():
        wanted = array_of(dense.graph.initializers[name]).astype(np.float64)
        for axis, axis_plan in plan.get(name, {}).items():
            wanted = np.take(wanted, axis_plan.kept, axis=axis)
        found = match.value(cut, slices.rows(match.key, match.rows))
        if found.size != wanted.size:
            raise ModelError(
                f"{name!r} has {found.size} values after the cut of the checkpoint, and {wanted.size} in the plan"
            )
        difference = relative_difference(found.reshape(wanted.shape), wanted)
        worst = max(worst, difference)
        if difference > SCALE_TOLERANCE:
            raise ModelError(
                f"{name!r} computed from the cut checkpoint is off by {difference:.1e} of its largest value"
            )
    return worst


def _beside(plan_file: Path, name: str) -> Path:
    file = plan_file.with_name(name)
    if not file.is_file():
        raise UsageError(f"there is no {name} beside {str(plan_file)!r}: both belong to the folder that compile wrote")
    return file
