"""The outputs of a graph that was lowered for TensorRT, without the device: for accuracy, never for latency.

By default, onnxruntime does not compute such a graph as TensorRT does. On a CPU it has few FP16 kernels, computes in
FP32, and skips roundings to FP16 between two kernels. It also changes graphs with Q/DQ pairs: it quantizes biases, even
beyond the range of FP16. So every FP16 tensor becomes an FP32 tensor that is rounded to FP16 after it is computed, and
the Q/DQ pairs stay unchanged. The remaining optimizations of onnxruntime (folded constants, float kernels fused between
two roundings) change no result and halve the time. Its blocked convolutions stay off: they add in another order, which
changes values between two INT8 steps.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends.onnxruntime import Runner, failures, open_session
from edgeprune.errors import BackendError
from edgeprune.support import first_sentence

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def load(model: ir.Model, threads: int = 1) -> Runner:
    """Load a lowered model so that it runs exactly as its graph says.

    Raises:
        BackendError: onnxruntime does not accept it, for example because of plugin nodes of TensorRT.
        ModelError: the weights do not fit in a protobuf (2 GB).
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return open_session(rounded_float32(model), options, threads)
    except failures() as error:
        raise BackendError(f"onnxruntime cannot simulate the lowered model: {first_sentence(error)}") from error


def rounded_float32(model: ir.Model, *, rounds: bool = True) -> ir.Model:
    """A copy in which every float16 tensor is a float32 tensor that is rounded to float16, or is not.

    A model with float16 inputs or outputs was not lowered by edgeprune; it is copied unchanged.
    """
    copy = graphs.clone(model)
    graph = copy.graph
    if any(value.dtype == FLOAT16 for value in (*graph.inputs, *graph.outputs)):
        return copy
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == FLOAT16:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(FLOAT)
    for node in list(graph):
        halved = [value for value in node.outputs if value.dtype == FLOAT16]
        if halved and node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", FLOAT.value)
        elif halved and node.op_type == "ConstantOfShape":
            fill = node.attributes["value"].as_tensor().numpy().astype(np.float32)
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(fill))
        for value in halved:
            value.type = ir.TensorType(FLOAT)
            if rounds:
                _round_after(graph, node, value)
    return copy


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    readers = tuple(value.uses())
    half = ir.node("Cast", [value], {"to": FLOAT16.value}, name=f"{value.name}/round")
    back = ir.node("Cast", [half.outputs[0]], {"to": FLOAT.value}, name=f"{value.name}/rounded")
    half.outputs[0].name, back.outputs[0].name = f"{value.name}/half", f"{value.name}/float"
    graph.insert_after(node, [half, back])
    for reader, index in readers:
        reader.replace_input_with(index, back.outputs[0])
