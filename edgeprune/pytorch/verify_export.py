"""An exported file beside the module that it came from: the same numbers, at the example's sizes and at others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.backends import OnnxRuntime
from edgeprune.errors import ModelError
from edgeprune.pytorch.checkpoint import import_torch
from edgeprune.pytorch.fitted_module import flatten
from edgeprune.pytorch.module_source import TorchSource
from edgeprune.support import describe_failure

TOLERANCE = 1e-3
"""Relative to the largest value of an output: two runtimes in float32, through a whole network."""

Axes = Mapping[str, Mapping[int, str]]


def largest_difference(source: TorchSource, axes: Axes, file: Path) -> float:
    """Of all outputs, relative to the largest value of each.

    Raises:
        ModelError: onnxruntime does not run the file, or it computes something else than the module.
    """
    torch = import_torch()
    runner = OnnxRuntime().load(file)
    names = [port.name for port in runner.inputs]
    worst = 0.0
    for what, inputs in _trials(source, axes):
        with torch.no_grad():
            try:
                wanted = [t.numpy() for t in flatten(source.module(*inputs.values()))]
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise ModelError(f"the module does not run {what}: {describe_failure(error)}") from error
        feeds = {name: tensor.numpy() for name, tensor in inputs.items() if name in names}
        try:
            found = runner.run(feeds)
        except ModelError as error:
            raise ModelError(f"the exported model does not run {what}: {error}") from error
        if [f.shape for f in found] != [w.shape for w in wanted]:
            raise ModelError(f"the outputs are {[f.shape for f in found]} {what}, not {[w.shape for w in wanted]}")
        worst = max([worst, *(_difference(f, w) for f, w in zip(found, wanted, strict=True))])
        if not worst <= TOLERANCE:
            raise ModelError(f"it is off by {worst:.1e} of the largest output {what}")
    return worst


def _trials(source: TorchSource, axes: Axes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The example, other numbers of its sizes, and every open axis one longer and one more."""
    torch = import_torch()
    example = dict(source.inputs)
    yield "on the example", example
    yield "on other numbers", {name: _other(tensor) for name, tensor in example.items()}
    names = {name for open_axes in axes.values() for name in open_axes.values()}
    for opened in sorted(names):
        inputs = {}
        for name, tensor in example.items():
            grown = tensor
            for axis, axis_name in axes.get(name, {}).items():
                if axis_name == opened:
                    grown = torch.cat([grown, grown], dim=axis)
            inputs[name] = _other(grown)
        yield f"with axis {opened!r} of twice the size", inputs


def _other(tensor: Any) -> Any:
    """Other values of the same kind: in the range of the example's, whose whole numbers may be indices."""
    if tensor.is_floating_point():
        return tensor.flip(-1) * 0.5 + tensor.mean()
    return tensor.flip(-1)


def _difference(found: Any, wanted: Any) -> float:
    if not np.issubdtype(wanted.dtype, np.floating):
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    return float(np.abs(found - wanted).max(initial=0) / max(float(np.abs(wanted).max(initial=0)), 1e-6))
