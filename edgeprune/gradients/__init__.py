"""Gradients of an ONNX graph as an ONNX graph, so that onnxruntime computes them and no training framework is needed.

One decorated rule an operator family, each a vector-Jacobian product written in ONNX operators; an operator without a
rule stops the gradient there, and :class:`Gradients` names it.
"""

from __future__ import annotations

from edgeprune.gradients import convolution, elementwise, layout, norms, pooling, products, quantization
from edgeprune.gradients.backward import Gradients, backward, differentiable
from edgeprune.gradients.tape import RULES, Call, Tape, gradient

__all__ = [
    "RULES",
    "Call",
    "Gradients",
    "Tape",
    "backward",
    "convolution",
    "differentiable",
    "elementwise",
    "gradient",
    "layout",
    "norms",
    "pooling",
    "products",
    "quantization",
]
