"""Convert the decisions and measurements of a run to the forms of plan.json and report.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.build import LayerPlan, ModelBuilder, Plan, groups_of, initializers_of
from edgeprune.dependency import Analysis, Cut, OpenedModel
from edgeprune.graph import peak_activation_bytes
from edgeprune.latency import CORE, FLOAT, INT8, Format
from edgeprune.passes.openvino import STATED_PRECISION
from edgeprune.report import Refusal, Size, Sizes, Tokens
from edgeprune.search import Candidate

_REFUSALS_SHOWN = 20
_NODES_SHOWN = 8


def plan_of(
    opened: OpenedModel,
    target: str,
    cut: Cut,
    layers: Sequence[LayerPlan],
    *,
    baseline_ms: float | None = None,
    predicted_ms: float | None = None,
    seed: int = 0,
    tokens: Tokens | None = None,
    ranks: Mapping[str, int] | None = None,
    stream: tuple[int, int] | None = None,
) -> Plan:
    """The plan of a run."""
    return Plan(
        target,
        opened.path.name,
        opened.sha256,
        groups_of(opened.analysis, cut),
        initializers_of(opened.analysis, cut),
        tuple(layers),
        baseline_ms,
        predicted_ms,
        seed,
        opened.sizes.shapes if opened.at_sizes else {},
        {"setting": tokens.setting, "steps": [asdict(s) for s in tokens.steps]} if tokens and tokens.steps else {},
        ranks or {},
        {} if stream is None else {"channels": stream[0], "kept": stream[1]},
    )


def float_layers(model: ir.Model) -> list[LayerPlan]:
    """Every node, with the float type that it has."""
    return [LayerPlan(str(n.name), n.op_type, _float_type(n)) for n in model.graph]


def layers_of(
    builder: ModelBuilder,
    candidate: Candidate,
    lowered: ir.Model,
    block_us: Mapping[str, float],
) -> list[LayerPlan]:
    """The precision of every node as in the lowered model, and whether its weights are 2:4.

    Args:
        builder: built the model.
        candidate: its widths and formats.
        lowered: the model as it was built.
        block_us: leading node -> predicted microseconds of its block; the layer of that node gets them.
    """
    model = builder.low_rank.factored(builder.float_model(candidate.widths), candidate.formats)
    int8 = builder.int8_nodes(model, candidate.formats)
    sparse = builder.sparse_nodes(model, candidate.formats)
    floating = lowered.metadata_props.get(STATED_PRECISION, FLOAT)
    as_lowered = {n.name: "fp16" if _is_half(n.outputs) else floating for n in lowered.graph}
    reasons = builder.fp32_reasons()
    found = []
    for n in model.graph:
        name, precision = str(n.name), INT8 if n.name in int8 else as_lowered.get(n.name) or _float_type(n)
        sparsity, reason = "2:4" if n.name in sparse else "dense", reasons.get(name) if precision == FLOAT else None
        found.append(LayerPlan(name, n.op_type, precision, sparsity, block_us.get(name), reason))
    return found


def sizes_of(opened: OpenedModel, result: ir.Model, file: Path) -> Sizes:
    """Bytes, parameters (with scales) and multiply-accumulates at the fixed input shapes, before and after.

    Args:
        opened: the original model.
        result: the resulting model.
        file: where it was saved.
    """
    if result is opened.original:  # not canonical: its nodes may have no names, and MACs are counted by name
        result = opened.dense
    return Sizes(_size(opened.fixed, opened.path), _size(opened.sized(result), file))


def refusals_of(analysis: Analysis) -> tuple[Refusal, ...]:
    """Why axes are frozen, the most frequent reason first."""
    axes: Counter[str] = Counter()
    nodes: dict[str, dict[str, None]] = defaultdict(dict)
    for freeze in analysis.frozen.values():
        axes[freeze.reason] += 1
        if freeze.node:
            nodes[freeze.reason][freeze.node] = None
    return tuple(
        Refusal(reason, count, tuple(nodes[reason])[:_NODES_SHOWN])
        for reason, count in axes.most_common(_REFUSALS_SHOWN)
    )


def describe_formats(formats: Sequence[Format]) -> str:
    """How many blocks run in each format, in words."""
    counts = Counter("int8" if f == CORE else f for f in formats)
    return ", ".join(f"{n} in {f}" for f, n in counts.most_common()) if set(counts) != {FLOAT} else f"all in {FLOAT}"


def _size(model: ir.Model, file: Path) -> Size:
    data = file.with_name(file.name + ".data")
    file_bytes = file.stat().st_size + (data.stat().st_size if data.exists() else 0)
    macs = sum(graph.count_macs(model).values())
    return Size(file_bytes, graph.count_parameters(model), macs, peak_activation_bytes(model))


def _float_type(node: ir.Node) -> str:
    return "fp16" if _is_half((*node.outputs, *node.inputs)) else FLOAT


def _is_half(values: Iterable[ir.Value | None]) -> bool:
    return any(v is not None and v.dtype == ir.DataType.FLOAT16 for v in values)
