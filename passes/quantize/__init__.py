"""Passes on weights that INT8 needs on every target: equalization and rounding.

In: a float model and calibration data.
Out: the same function with weights that quantize better.
May import: importance and below.
"""

from edgeprune.passes.quantize.affine_ops import INFINITE, AffineOp, affine_op_of, seen_range
from edgeprune.passes.quantize.equalize import equalize
from edgeprune.passes.quantize.round_weights import fake_quantizer, round_weights
