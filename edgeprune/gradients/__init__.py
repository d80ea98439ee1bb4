"""Gradients of an ONNX graph as an ONNX graph: onnxruntime computes them, without a training framework.

In: a canonical graph, and the values to differentiate.
Out: the same graph with gradient outputs. An operator without a rule stops the gradient; `Gradients` names it.
May import: graph and below.
"""

from edgeprune.gradients import convolution, elementwise, layout, matmul, norms, pooling, quantization
from edgeprune.gradients.backward import backward, differentiable
from edgeprune.gradients.tape import Tape
