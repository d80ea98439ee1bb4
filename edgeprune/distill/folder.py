"""The folder of a compile or a prune, as a distillation reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.build import Plan
from edgeprune.dependency import Analysis, analyse
from edgeprune.errors import UsageError
from edgeprune.graph import load
from edgeprune.report import Report


@dataclass(frozen=True, eq=False)
class Networks:
    """The two networks of a distillation.

    Attributes:
        dense: the canonical dense model: the teacher.
        model: the result: the student.
        kept: (value of the dense model, axis) -> positions that the student has.
    """

    dense: ir.Model
    model: ir.Model
    kept: Mapping[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class CompiledFolder(Networks):
    """What a compile or a prune wrote.

    Attributes:
        path: the folder.
        plan, report: their files.
        analysis: the analysis of the dense model.
    """

    path: Path
    plan: Plan
    report: Report
    analysis: Analysis


def read_folder(path: Path) -> CompiledFolder:
    """Read a folder.

    Raises:
        UsageError: a file is missing, or the plan is that of another model.
        ModelError: a model is not valid.
    """
    for name in ("dense.onnx", "model.onnx", "plan.json", "report.json"):
        if not (path / name).is_file():
            raise UsageError(f"{path} has no {name}: give the folder that `compile` or `prune` wrote")
    plan, report = Plan.load(path), Report.load(path)
    if plan.model_sha256 != report.model.sha256:
        raise UsageError(f"{path}/plan.json is the plan of another model than that of its report.json")
    dense, model = load(path / "dense.onnx"), load(path / "model.onnx")
    analysis = analyse(dense)
    groups = {group.id: group.size for group in analysis.groups}
    if any(groups.get(group.id) != group.size for group in plan.groups):
        raise UsageError(f"{path}/plan.json is the plan of another model than {path}/dense.onnx")
    names = [[str(v.name) for v in m.graph.outputs] for m in (dense, model)]
    if names[0] != names[1]:
        raise UsageError(f"{path}/model.onnx has other outputs than {path}/dense.onnx")
    return CompiledFolder(dense, model, analysis.kept(plan.cut), path, plan, report, analysis)
