"""Models from ``onnx.parser`` text, and how to run and look at them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import model_io as graphs
from edgeprune.passes.verify.sessions import session

Feeds = dict[str, NDArray[Any]]


def parse(text: str, *, opset: int = 17, ir_version: int = 8, extra: str = "", **weights: NDArray[Any]) -> ir.Model:
    """A model from the text of a graph; ``weights`` become initializers. Shapes are inferred."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}{extra}]>'
    proto = onnx.parser.parse_model(header + text)
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return graphs.infer_shapes(ir.from_proto(proto))


def run(model: ir.Model, **feeds: NDArray[Any]) -> list[Any]:
    """The outputs of a model in onnxruntime, without its optimizer."""
    return list(session(model).run(None, feeds))


def ops(model: ir.Model) -> Counter[str]:
    """How often each operator occurs in the main graph."""
    return Counter(node.op_type for node in model.graph)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(model: ir.Model, op_type: str) -> ir.Node:
    """The one node of an operator."""
    found = [node for node in model.graph if node.op_type == op_type]
    assert len(found) == 1, f"{len(found)} nodes are {op_type}"
    return found[0]


def constant(value: ir.Value | None) -> list[Any]:
    """The elements of an initializer."""
    assert value is not None
    assert value.const_value is not None
    return list(value.const_value.numpy().tolist())
