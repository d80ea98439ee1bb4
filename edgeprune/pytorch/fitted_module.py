"""A torch.nn.Module with the widths of a cut checkpoint, and its comparison with the ONNX model.

Layers of torch.nn get their new sizes. In other modules only the parameters are replaced; if their ``forward`` assumes
other widths, the module fails when it is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.errors import EdgepruneError, ModelError, UsageError
from edgeprune.pytorch.checkpoint import import_torch
from edgeprune.pytorch.weight_form import Match, Shift, relative_difference
from edgeprune.support import describe_failure, is_function_spec, load_function

OUTPUT_TOLERANCE = 1e-3
"""Relative to the largest value of an output: for two runtimes in FP32, over a whole network."""

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def compare_module(
    spec: str,
    state: Mapping[str, Array],
    reference: ir.Model,
    groups: Mapping[str, int],
    rows: Mapping[str, Mask],
) -> float:
    """Cut a module, load the state, and compare its outputs with the ONNX model's: the largest relative difference.

    Args:
        spec: ``file.py:function`` that returns the uncut module.
        state: the cut checkpoint.
        reference: the ONNX model to compare with.
        groups: key of a convolution's weight -> number of its groups after the cut.
        rows: key -> the kept rows of a tensor.

    Raises:
        UsageError: the function does not return a module, or the checkpoint does not fit it.
        ModelError: the module cannot be cut, cannot run, or computes something else.
    """
    torch = import_torch()
    module = open_module(spec)
    fit(module, state, groups, rows)
    runner = OnnxRuntime().load(graph.to_bytes(reference))
    feeds = runner.random_feeds(shapes=_fixed(reference))
    what = "the module does not run at the planned widths, since its forward assumes others"
    outputs = [t.numpy() for t in run_module(module, map(torch.from_numpy, feeds.values()), what)]
    wanted = runner.run(feeds)
    if [o.shape for o in outputs] != [w.shape for w in wanted]:
        raise ModelError(
            f"the cut module's outputs have shapes {[list(o.shape) for o in outputs]}, "
            f"the ONNX model's {[list(w.shape) for w in wanted]}"
        )
    worst = max(relative_difference(o, w) for o, w in zip(outputs, wanted, strict=True))
    if not worst <= OUTPUT_TOLERANCE:
        raise ModelError(f"the cut module's outputs differ from the ONNX model's by {worst:.1e} of the largest value")
    return worst


def run_module(
    module: Any, inputs: Iterable[Any], what: str, error_class: type[EdgepruneError] = ModelError
) -> list[Any]:
    """The output tensors of a module: those in tuples, lists and dicts, in order.

    Args:
        module: a torch.nn.Module.
        inputs: tensors, in the order of its arguments.
        what: start of the message if it fails.
        error_class: error to raise if it fails.
    """
    with import_torch().no_grad():
        try:
            outputs = module(*inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise error_class(f"{what}: {describe_failure(error)}") from error
    return _flatten(outputs)


def open_module(spec: str) -> Any:
    """The module that ``file.py:function`` returns, in evaluation mode.

    Raises:
        UsageError: the function fails or does not return a module.
    """
    torch = import_torch()
    if not is_function_spec(spec):
        raise UsageError(f"--module {spec!r}: expected file.py:function")
    try:
        found = load_function(spec, UsageError)()
    except (RuntimeError, TypeError, ValueError, OSError, ImportError, LookupError, AttributeError) as error:
        raise UsageError(f"--module {spec}: {describe_failure(error)}") from error
    module = found[0] if isinstance(found, tuple) else found
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"--module {spec}: returned a {type(module).__name__}, not a torch.nn.Module")
    return module.eval()


def fit(
    module: Any, state: Mapping[str, Array], groups: Mapping[str, int], rows: Mapping[str, Mask] | None = None
) -> None:
    """Give a module the sizes and the values of a cut state dict, in place.

    Args:
        module: a torch.nn.Module with the widths before the cut.
        state: parameters and buffers by name.
        groups: key of a convolution's weight -> number of its groups.
        rows: key -> the kept rows of a tensor; attention gets its heads from them.

    Raises:
        UsageError: the module's state dict has other names.
    """
    own = module.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    if odd := sorted((set(own) ^ set(state)) - counters):
        raise UsageError(f"the module and the checkpoint do not fit: only one of them has {odd[0]!r}")
    torch = import_torch()
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for holder in (part._parameters, part._buffers):
            for name, old in holder.items():
                array = state.get(dot + name)
                if old is None or array is None:
                    continue
                tensor = torch.from_numpy(array.copy()).to(old.dtype)
                holder[name] = torch.nn.Parameter(tensor, old.requires_grad) if holder is part._parameters else tensor
        _set_sizes(part, groups.get(f"{dot}weight"))
        if (kept := (rows or {}).get(f"{dot}qkv.weight")) is not None:
            _set_heads(part, kept)


def _set_sizes(part: Any, groups: int | None) -> None:
    """Set the sizes that a layer of torch.nn stores beside its parameters."""
    torch = import_torch()
    shape = tuple(getattr(getattr(part, "weight", None), "shape", ()))
    kinds = torch.nn
    if isinstance(part, kinds.modules.conv._ConvNd):
        part.groups = groups if groups is not None else part.groups
        first, second = shape[0], shape[1] * part.groups
        transposed = isinstance(part, kinds.modules.conv._ConvTransposeNd)
        part.in_channels, part.out_channels = (first, second) if transposed else (second, first)
    elif isinstance(part, kinds.Linear):
        part.out_features, part.in_features = shape
    elif isinstance(part, kinds.modules.batchnorm._NormBase) and part.running_mean is not None:
        part.num_features = len(part.running_mean)
    elif isinstance(part, kinds.LayerNorm) and shape:
        part.normalized_shape = shape
    elif isinstance(part, kinds.GroupNorm) and shape:
        part.num_channels = shape[0]
    elif isinstance(part, kinds.PReLU):
        part.num_parameters = shape[0]


def _set_heads(part: Any, kept: Mask) -> None:
    """Set the heads and their size, for attention that stores both beside one projection to query, key and value."""
    heads, size = (getattr(part, name, None) for name in ("num_heads", "head_dim"))
    if not isinstance(heads, int) or not isinstance(size, int) or kept.size != 3 * heads * size:
        return
    by_head = kept.reshape(3, heads, size)
    sizes = by_head.sum(2)
    kept_heads = sizes.any(0)
    if (sizes[:, kept_heads] != sizes.max()).any():
        return  # heads of several sizes: the module does not support them, and will fail when it is run
    part.num_heads, part.head_dim = int(kept_heads.sum()), int(sizes.max())
    if hasattr(part, "attn_dim"):
        part.attn_dim = part.num_heads * part.head_dim
    if hasattr(part, "fused_attn"):
        part.fused_attn = False  # the fused function would use the scale of the new size; the network keeps the old one


def groups_of(model: ir.Model, matches: Mapping[str, Match | Shift]) -> dict[str, int]:
    """Key of a convolution's weight in the checkpoint -> its groups in a model."""
    found = {}
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("Conv", "ConvTranspose") else None
        match = matches.get(str(weight.name)) if weight is not None else None
        if isinstance(match, Match):
            found[match.key] = node.attributes.get_int("group", 1) or 1
    return found


def _flatten(value: Any) -> list[Any]:
    torch = import_torch()
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in items for tensor in _flatten(item)]


def _fixed(model: ir.Model) -> dict[str, tuple[int, ...]]:
    from edgeprune.passes.verify import settle_sizes

    return settle_sizes(model).shapes
