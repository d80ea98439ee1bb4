"""Write the refitted weights of ``model.onnx`` back into the tensors of the checkpoint that they come from.

If a BatchNormalization or a layer scale was folded into a weight, it is unfolded: it keeps its statistics and scales,
and the layer's weight is divided by them. The new bias goes into the shift of the normalization, or into the layer's
own bias if there is no normalization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.pytorch.weight_form import SCALE_TOLERANCE, Match, Shift, along, relative_difference
from edgeprune.pytorch.weight_layers import float_initializers, layers_of

Array = NDArray[Any]
Rows = Callable[[str, NDArray[np.int64]], NDArray[np.int64]]

_SMALLEST_SCALE = 1e-6
"""Of a normalization, relative to its largest scale: dividing by less would lose the precision of FP32."""


def carry_over(
    matches: Mapping[str, Match | Shift], rows: Rows, cut: Mapping[str, Array], dense: ir.Model, result: ir.Model
) -> tuple[dict[str, Array] | None, str]:
    """The cut checkpoint with the weights of the result, or None and the reason.

    Args:
        matches: initializer -> where it comes from.
        rows: the new positions of rows of a tensor after the cut.
        cut: the cut checkpoint; not changed.
        dense: the model before the compile.
        result: the model after the compile.
    """
    new, known = float_initializers(result), float_initializers(dense)
    if missing := [name for name in matches if name not in new]:
        return None, f"model.onnx has {missing[0]!r} in another type or form, as a quantized model does"
    matches = {**matches, **_added_biases(matches, known, result)}
    if added := [name for name in new if name not in known and name not in matches]:
        return None, f"model.onnx adds {added[0]!r}, for which the checkpoint has no place"
    state = {key: tensor.copy() for key, tensor in cut.items()}
    for name, found in matches.items():
        if isinstance(found, Match) and not _put_weight(state, found, rows(found.key, found.rows), new[name]):
            return None, f"a scale that was folded into {found.key!r} is nearly zero for a channel"
    for name, found in matches.items():
        if isinstance(found, Shift) and not _put_shift(state, found, new[name].reshape(-1).astype(np.float64)):
            return None, f"model.onnx adds {name!r}, for which the checkpoint has no place"
    changed = [
        n
        for n in new
        if n not in matches and n in known and (new[n].shape != known[n].shape or (new[n] != known[n]).any())
    ]
    if changed:
        return None, f"model.onnx changes {changed[0]!r}, which is not in the checkpoint"
    for name, found in matches.items():
        again = found.value(state, rows(found.key, found.rows)).reshape(-1)
        if relative_difference(again, new[name].reshape(-1)) > SCALE_TOLERANCE:
            return None, f"{name!r} computed from the new checkpoint differs"
    return state, ""


def _added_biases(
    matches: Mapping[str, Match | Shift], known: Mapping[str, Array], result: ir.Model
) -> dict[str, Match | Shift]:
    """Where the new biases go: the export left them out because they were zero, and refitting added them."""
    found: dict[str, Match | Shift] = {}
    for layer in layers_of(result):
        match = matches.get(layer.weight)
        if layer.bias is None or layer.bias in known or not isinstance(match, Match) or match.outputs != 0:
            continue
        if match.folded is not None:
            found[layer.bias] = Shift(match.folded, match.bias, match.rows)
        elif match.bias is not None:
            found[layer.bias] = Match(match.bias, (0,), match.rows)
    return found


def _put_weight(state: dict[str, Array], found: Match, rows: NDArray[np.int64], value: Array) -> bool:
    tensor = state[found.key]
    part = value.astype(np.float64)
    part = part.reshape(tensor[rows].shape) if -1 in found.axes else np.transpose(part, found.axes)
    if found.folded is not None:
        scale, _ = found.folded.affine(state)
        if np.abs(scale).min(initial=np.inf) < _SMALLEST_SCALE * np.abs(scale).max(initial=0):
            return False
        part = part / along(scale, found.outputs, part.ndim)
    tensor[rows] = part.astype(tensor.dtype)
    return True


def _put_shift(state: dict[str, Array], found: Shift, bias: Array) -> bool:
    """Write the bias into the normalization's shift, or into the layer's own bias; False if it has neither."""
    scale, shift = found.folded.affine(state)
    own = state[found.bias].astype(np.float64) if found.bias is not None else 0.0
    missing = bias - (own * scale + shift)
    if found.folded.norm is not None:
        key, missing = f"{found.folded.norm.prefix}bias", missing / found.folded.factor(state)
    elif found.bias is not None:
        key, missing = found.bias, missing / scale
    else:
        return not missing.any()
    state[key] = (state[key] + missing).astype(state[key].dtype)
    return True
