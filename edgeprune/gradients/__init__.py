"""Gradients of an ONNX graph as an ONNX graph, so that onnxruntime computes them and no training framework is needed.

In: a canonical graph, and the values to differentiate.
Out: the same graph with gradient outputs. An operator without a rule stops the gradient; `Gradients` names it.
May import: graph and below.
"""

from edgeprune.gradients import convolution, elementwise, layout, norms, pooling, products, quantization
from edgeprune.gradients.backward import Gradients, backward, differentiable
from edgeprune.gradients.tape import RULES, Call, Tape, gradient
