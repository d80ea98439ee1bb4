"""``edgeprune export``: a PyTorch module to a checked ONNX file, with the better of PyTorch's two exporters.

Both exporters make mistakes, and different ones. So both are tried. Each result is checked, run in onnxruntime and
compared with PyTorch, also at other sizes of the open axes. The correct result with fewer nodes is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.errors import EdgepruneError, ModelError, UsageError
from edgeprune.pytorch.checkpoint import state_of
from edgeprune.pytorch.exporters import EXPORTERS, export_once
from edgeprune.pytorch.module_names import restore_names
from edgeprune.pytorch.module_source import TorchSource, open_source
from edgeprune.pytorch.verify_export import largest_difference
from edgeprune.support import Progress, check_file

DEFAULT_OPSET = 18
"""The oldest opset that both exporters write; TensorRT reads it from 8.6 on."""


@dataclass(frozen=True)
class Attempt:
    """The result of one exporter.

    Attributes:
        exporter: ``dynamo`` or ``torchscript``.
        deviation: from PyTorch, relative to the largest output; None if it wrote no usable model.
        nodes: number of nodes; 0 if there is no model.
        detail: why it is not usable, or the exporter's warning.
    """

    exporter: str
    deviation: float | None
    nodes: int
    detail: str = ""


@dataclass(frozen=True)
class Exported:
    """The file that was written, and both attempts."""

    file: Path
    exporter: str
    opset: int
    inputs: Mapping[str, Sequence[int | str]]
    deviation: float
    attempts: tuple[Attempt, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Text for the terminal."""
        inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.inputs.items())
        tried = [
            f"{a.exporter}: {a.detail}"
            if a.deviation is None
            else f"{a.exporter}: {a.nodes} nodes, off by {a.deviation:.1e}"
            for a in self.attempts
        ]
        return "\n".join([*tried, f"kept {self.exporter}: opset {self.opset}, {inputs}", f"written to {self.file}"])

    def to_json(self) -> dict[str, object]:
        """What ``--json`` prints."""
        return {
            "file": str(self.file),
            "exporter": self.exporter,
            "opset": self.opset,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "deviation": self.deviation,
            "attempts": [vars(a) for a in self.attempts],
            "notes": list(self.notes),
        }


def export_model(
    source: str,
    out: Path | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dynamic: Sequence[str] = (),
    opset: int = DEFAULT_OPSET,
    exporter: str = "auto",
    weights: Path | None = None,
    pretrained: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Export a module, check the result against it, and write it.

    Args:
        source: ``file.py:function`` or ``library/name``.
        out: the file; by default named after the model, in the working folder.
        shapes: input name -> sizes.
        dynamic: axes to leave open, each ``input:axis``.
        opset: of the file.
        exporter: ``dynamo``, ``torchscript``, or ``auto`` for both.
        weights: a state dict to load first.
        pretrained: download the published weights of a name.
        seed: of random weights and inputs.
        force: replace the file if it exists.
        progress: receives the steps.

    Raises:
        UsageError: a flag does not fit, or there is no such module.
        ModelError: no exporter wrote a model that computes the same as the module; the text has each reason.
        BackendError: PyTorch or the library is not installed.
    """
    progress = progress or Progress()
    if out is not None:
        check_file(out, force=force)
    with progress.step("making the module"):
        found = open_source(source, shapes=shapes or {}, weights=weights, pretrained=pretrained, seed=seed)
    axes = open_axes(dynamic, found)
    out = out or Path(f"{found.stem}.onnx")
    check_file(out, force=force)
    tried: list[Attempt] = []
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        for name in EXPORTERS if exporter == "auto" else (exporter,):
            with progress.step(f"exporting with {name}"):
                tried.append(_attempt(found, axes, opset, name, Path(folder) / f"{name}.onnx"))
        correct = [a for a in tried if a.deviation is not None]
        if not correct:
            raise ModelError(f"{source} cannot be exported: " + "; ".join(f"{a.exporter}: {a.detail}" for a in tried))
        best = min(correct, key=lambda a: a.nodes)
        model = graph.load(Path(folder) / f"{best.exporter}.onnx")
        model.metadata_props.update(found.metadata)
        restore_names(model, state_of(found.module))
        graph.save(model, out)
    notes = tuple(f"{a.exporter}: {a.detail}" for a in correct if a.detail)
    inputs = {
        str(v.name): [d if isinstance(d, int) else str(d) for d in v.shape or ()]
        for v in model.graph.inputs
        if v.name not in model.graph.initializers
    }
    assert best.deviation is not None
    return Exported(out, best.exporter, model.opset_imports[""], inputs, best.deviation, tuple(tried), notes)


def open_axes(wanted: Sequence[str], source: TorchSource) -> dict[str, dict[int, str]]:
    """Input -> axis -> name of the axis, from texts such as ``images:0``; axis 0 is called batch.

    Raises:
        UsageError: a text is not an axis of an input.
    """
    axes: dict[str, dict[int, str]] = {}
    for text in wanted:
        name, _, number = text.rpartition(":")
        rank = source.inputs[name].dim() if name in source.inputs else 0
        if not number.isdigit() or int(number) >= rank:
            known = ", ".join(f"{n}:0 to {n}:{t.dim() - 1}" for n, t in source.inputs.items())
            raise UsageError(f"--dynamic {text!r} is not an axis of an input; the axes are {known}")
        axis = int(number)
        axes.setdefault(name, {})[axis] = "batch" if axis == 0 else f"{name}_{axis}"
    return axes


def _attempt(
    source: TorchSource, axes: Mapping[str, Mapping[int, str]], opset: int, exporter: str, file: Path
) -> Attempt:
    try:
        warned = export_once(source, axes, opset, exporter, file)
        model = graph.load(file)
        if (written := model.opset_imports.get("", 0)) != opset:
            return Attempt(exporter, None, 0, f"wrote opset {written}, not {opset}")
        if closed := _closed(model, axes):
            return Attempt(exporter, None, 0, f"fixed axis {closed} to the size of the example")
        deviation = largest_difference(source, axes, file)
    except EdgepruneError as error:
        return Attempt(exporter, None, 0, str(error))
    return Attempt(exporter, deviation, len(list(model.graph)), warned)


def _closed(model: ir.Model, axes: Mapping[str, Mapping[int, str]]) -> str:
    """The first axis that should be open but is not."""
    for value in model.graph.inputs:
        for axis in axes.get(str(value.name), {}):
            if value.shape is not None and isinstance(value.shape[axis], int):
                return f"{value.name}:{axis}"
    return ""
