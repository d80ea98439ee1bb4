"""A torch.nn.Module of the widths of a cut checkpoint, and whether it computes what the ONNX model does.

The layers of torch.nn are given their new sizes; parameters of other modules are replaced, and what their ``forward``
assumes about widths shows when the module is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.errors import ModelError, UsageError
from edgeprune.pytorch.checkpoint import import_torch
from edgeprune.pytorch.weight_form import Match, Shift
from edgeprune.support import describe_failure, is_function_spec, load_function

OUTPUT_TOLERANCE = 1e-3
"""Relative to the largest output: two runtimes in float32, through a whole network."""

Array = NDArray[Any]


Mask = NDArray[np.bool_]


def compare_module(
    spec: str,
    state: Mapping[str, Array],
    reference: ir.Model,
    groups: Mapping[str, int],
    rows: Mapping[str, Mask],
) -> float:
    """Cut a module, load the state, run it beside the ONNX model; the largest difference of the largest output.

    Args:
        spec: ``file.py:function`` that returns the uncut module.
        state: the cut checkpoint.
        reference: ONNX model that it must equal.
        groups: key of a convolution's weight -> number of its groups after the cut.
        rows: key -> which of a tensor's rows stayed.

    Raises:
        UsageError: the function returns no module, or one that the checkpoint does not belong to.
        ModelError: the module cannot be cut, cannot run, or computes something else.
    """
    torch = import_torch()
    module = open_module(spec)
    fit(module, state, groups, rows)
    runner = OnnxRuntime().load(graph.to_bytes(reference))
    feeds = runner.random_feeds(shapes=_fixed(reference))
    with torch.no_grad():
        try:
            found = module(*(torch.from_numpy(feed) for feed in feeds.values()))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"the module does not run at the planned widths: its forward assumes others ({describe_failure(error)})"
            ) from error
    outputs = [t.numpy() for t in flatten(found)]
    wanted = runner.run(feeds)
    if [o.shape for o in outputs] != [w.shape for w in wanted]:
        raise ModelError(
            f"the cut module gives {[list(o.shape) for o in outputs]}, the ONNX model {[list(w.shape) for w in wanted]}"
        )
    worst = max(float(np.abs(o - w).max() / max(np.abs(w).max(), 1e-6)) for o, w in zip(outputs, wanted, strict=True))
    if not worst <= OUTPUT_TOLERANCE:
        raise ModelError(f"the cut module's outputs differ from the ONNX model's by {worst:.1e} of the largest")
    return worst


def open_module(spec: str) -> Any:
    """The module that ``file.py:function`` returns, in evaluation mode.

    Raises:
        UsageError: it returns none.
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
        module: a torch.nn.Module of the widths before.
        state: parameters and buffers by name.
        groups: key of a convolution's weight -> number of its groups.
        rows: key -> which of a tensor's rows stayed; attention learns its heads from it.

    Raises:
        UsageError: the module's state dict has other names.
    """
    own = module.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    if odd := sorted((set(own) ^ set(state)) - counters):
        raise UsageError(f"the module and the checkpoint do not belong together: only one of them has {odd[0]!r}")
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
    """What a layer of torch.nn keeps beside its parameters."""
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
    """Heads and their size, of attention that keeps both beside one projection to query, key and value."""
    heads, size = (getattr(part, name, None) for name in ("num_heads", "head_dim"))
    if not isinstance(heads, int) or not isinstance(size, int) or kept.size != 3 * heads * size:
        return
    by_head = kept.reshape(3, heads, size)
    sizes = by_head.sum(2)
    stay = sizes.any(0)
    if (sizes[:, stay] != sizes.max()).any():
        return  # parts of several sizes: no such module can hold them, which its run will show
    part.num_heads, part.head_dim = int(stay.sum()), int(sizes.max())
    if hasattr(part, "attn_dim"):
        part.attn_dim = part.num_heads * part.head_dim
    if hasattr(part, "fused_attn"):
        part.fused_attn = False  # the fused function takes its scale from the new size, and the network keeps the old


def groups_of(model: ir.Model, matches: Mapping[str, Match | Shift]) -> dict[str, int]:
    """Key of a convolution's weight in the checkpoint -> its groups in a model."""
    found = {}
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("Conv", "ConvTranspose") else None
        match = matches.get(str(weight.name)) if weight is not None else None
        if isinstance(match, Match):
            found[match.key] = node.attributes.get_int("group", 1) or 1
    return found


def flatten(value: Any) -> list[Any]:
    """The tensors in what a module returned: of tuples, lists and dicts, in order."""
    torch = import_torch()
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in items for tensor in flatten(item)]


def _fixed(model: ir.Model) -> dict[str, tuple[int, ...]]:
    from edgeprune.dependency import fixed_dims

    return {str(v.name): fixed_dims(v, None) for v in model.graph.inputs if v.name not in model.graph.initializers}
