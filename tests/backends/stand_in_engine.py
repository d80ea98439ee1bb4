"""What the stand-ins for TensorRT build and run: a file with the model, which onnxruntime computes.

A real engine computes nearly what its graph says. So does this one, by onnxruntime's own kernels. With a node to
miscompile, named when it is built, the node's result is wrong: half of it, or, named as ``node:fused``, only as long as
the result of the node is not an output of the engine. With ``node:nan`` it is not a number.
"""

from __future__ import annotations

import json
from typing import Any

MARK = b"fake engine"


def build(options: str, facts: object, model_file: str, wrong: str) -> bytes:
    """The bytes of an engine: a line with the options, one with facts, and the model."""
    import onnx

    model = onnx.load(model_file)
    if wrong:
        _miscompile(model.graph, *wrong.partition(":")[::2])
    return b"\n".join([MARK + b" " + options.encode(), json.dumps(facts).encode(), model.SerializeToString()])


def facts_of(engine: bytes) -> Any:
    """The facts that were given to `build`."""
    assert engine.startswith(MARK)
    return json.loads(engine.split(b"\n", 2)[1])


def session(engine: bytes) -> Any:
    """An onnxruntime session that computes what the engine does."""
    import onnxruntime

    assert engine.startswith(MARK)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(engine.split(b"\n", 2)[2], options, providers=["CPUExecutionProvider"])


def _miscompile(graph: Any, name: str, how: str) -> None:
    import onnx

    nodes = [node for node in graph.node if name in (node.name, node.output[0])]
    for node in nodes:
        result, wrong = node.output[0], f"{node.output[0]}/wrong"
        if how == "fused" and result in {output.name for output in graph.output}:
            continue
        node.output[0] = wrong
        kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
        factor = onnx.helper.make_tensor("", kinds.get(result, 1), [], [float("nan") if how == "nan" else 0.5])
        place = list(graph.node).index(node) + 1
        constant = onnx.helper.make_node("Constant", [], [f"{result}/factor"], value=factor)
        graph.node.insert(place, onnx.helper.make_node("Mul", [wrong, f"{result}/factor"], [result]))
        graph.node.insert(place, constant)
