"""Runtimes: what runs a result, and what follows from it for the formats of its layers and for how it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.errors import UsageError

AUTO = "auto"
"""Stands for every runtime of the target that is installed; the fastest of them runs the result."""


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        name: as ``--runtime`` spells it.
        precisions: values that ``--precision`` may have, besides ``auto``.
        on_cpu: whether a CPU runs the result: candidates are measured, and threads count. For a GPU they are predicted
            unless a device is attached, which builds engines.
        symmetric: whether the INT8 values of all activations lie around zero, without a zero point.
        sparse: whether it has kernels for 2:4 sparse weights, where the device has them too.
        over_ssh: whether models are measured on another machine.
        edits: whether the user may edit the lowered graph (``--surgery``).
    """

    name: str
    precisions: tuple[str, ...]
    on_cpu: bool
    symmetric: bool
    sparse: bool
    over_ssh: bool
    edits: bool


_ALL = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", ("fp32", "int8"), True, False, False, True, False),
        Runtime("openvino", ("fp32", "bf16", "int8"), True, False, False, False, False),
        Runtime("tensorrt", ("fp32", "fp16", "int8"), False, True, True, True, True),
    )
}

RUNTIMES = tuple(_ALL)


def runtime_of(target: str, names: Sequence[str], wanted: str | None = None) -> Runtime:
    """A runtime of a target by name; by default the first.

    Args:
        target: the target's name, for the error.
        names: its runtimes.
        wanted: the name.

    Raises:
        UsageError: the target has no such runtime.
    """
    if wanted is not None and wanted not in names:
        raise UsageError(f"target {target} has no runtime {wanted!r}; it has {' and '.join(names)}")
    return _ALL[wanted or names[0]]
