"""Compare an exported file with its module: the same outputs, at the example's sizes and at others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.backends import OnnxRuntime
from edgeprune.errors import ModelError
from edgeprune.pytorch.checkpoint import import_torch
from edgeprune.pytorch.fitted_module import OUTPUT_TOLERANCE, run_module
from edgeprune.pytorch.module_source import TorchSource
from edgeprune.pytorch.weight_form import relative_difference

Axes = Mapping[str, Mapping[int, str]]


def largest_difference(source: TorchSource, axes: Axes, file: Path) -> float:
    """The largest difference of all outputs, each relative to its largest value.

    Raises:
        ModelError: onnxruntime does not run the file, or its outputs differ from the module's.
    """
    runner = OnnxRuntime().load(file)
    names = [port.name for port in runner.inputs]
    worst = 0.0
    for where, inputs in _trials(source, axes):
        tensors = run_module(source.module, inputs.values(), f"the module does not run {where}")
        wanted = [t.numpy() for t in tensors]
        feeds = {name: tensor.numpy() for name, tensor in inputs.items() if name in names}
        try:
            found = runner.run(feeds)
        except ModelError as error:
            raise ModelError(f"the exported model does not run {where}: {error}") from error
        if [f.shape for f in found] != [w.shape for w in wanted]:
            shapes = f"{[f.shape for f in found]}, not {[w.shape for w in wanted]}"
            raise ModelError(f"the outputs of the exported model have shapes {shapes}, {where}")
        worst = max([worst, *(_difference(f, w) for f, w in zip(found, wanted, strict=True))])
        if not worst <= OUTPUT_TOLERANCE:
            raise ModelError(f"its outputs are off by {worst:.1e} of the largest value, {where}")
    return worst


def _trials(source: TorchSource, axes: Axes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The example, other values of the same sizes, and each open axis with twice its size."""
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
    """Other values in the range of the example's: integers may be indices."""
    if tensor.is_floating_point():
        return tensor.flip(-1) * 0.5 + tensor.mean()
    return tensor.flip(-1)


def _difference(found: Any, wanted: Any) -> float:
    if not np.issubdtype(wanted.dtype, np.floating):
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    return relative_difference(found, wanted)
