"""One call for PyTorch's two exporters: the one with ``torch.export`` (dynamo), and the older one with TorchScript."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import ModelError
from edgeprune.pytorch.checkpoint import import_torch
from edgeprune.pytorch.module_source import TorchSource
from edgeprune.support import describe_failure

EXPORTERS = ("dynamo", "torchscript")

Axes = Mapping[str, Mapping[int, str]]


def export_once(source: TorchSource, axes: Axes, opset: int, exporter: str, file: Path) -> str:
    """Write a file with one exporter.

    Args:
        source: module and inputs.
        axes: input -> axis -> name, of the axes to leave open.
        opset: to write; the exporter may write another opset, which the caller must check.
        exporter: one of `EXPORTERS`.
        file: the file to write.

    Returns:
        A sentence on values that the exporter traced as constants, or "".

    Raises:
        ModelError: the exporter failed; the text has its first message.
    """
    torch = import_torch()
    tensors = tuple(source.inputs.values())
    common: dict[str, Any] = {
        "input_names": list(source.inputs),
        "output_names": list(source.outputs) or None,
        "opset_version": opset,
    }
    with _quiet() as caught:
        try:
            if exporter == "dynamo":
                torch.onnx.export(
                    source.module,
                    tensors,
                    str(file),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                    dynamic_shapes=_dynamic_shapes(source, axes),
                    **common,
                )
            else:
                named = {name: dict(open_axes) for name, open_axes in axes.items()}
                torch.onnx.export(source.module, tensors, str(file), dynamo=False, dynamic_axes=named or None, **common)
        except Exception as error:  # exporters pass on any error of the module's own code
            raise ModelError(_reason(error)) from error
    traced = [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    return f"{len(traced)} values of the example became constants: {_first(traced[0])}" if traced else ""


def _dynamic_shapes(source: TorchSource, axes: Axes) -> tuple[Any, ...] | None:
    """For each input, axis -> dimension; axes with the same name share one dimension."""
    torch = import_torch()
    if not axes:
        return None
    names = {name for open_axes in axes.values() for name in open_axes.values()}
    dims = {name: torch.export.Dim(name, min=1) if name == "batch" else torch.export.Dim.DYNAMIC for name in names}
    return tuple({axis: dims[name] for axis, name in axes.get(value, {}).items()} or None for value in source.inputs)


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return describe_failure(cause if isinstance(cause, Exception) else error)[:300]


def _first(warning: warnings.WarningMessage) -> str:
    return str(warning.message).strip().splitlines()[0][:160]


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings, and hide what the exporters print and log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            _no_output_of_c(),
        ):
            warnings.simplefilter("always")
            yield caught
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_output_of_c() -> Iterator[None]:
    """Hide what PyTorch's C++ code writes to standard output: whole graphs, if an operator has no ONNX form."""
    if sys.__stdout__ is None or sys.__stdout__.closed:
        yield
        return
    sys.__stdout__.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
