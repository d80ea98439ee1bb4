"""Passes that prepare weights for INT8 on every target: channel equalization and rounding.

In: a float model and calibration data.
Out: a float model with the same function, whose weights and activations lose less in INT8; affine ops.
May import: importance and below.
"""

from edgeprune.passes.quantize.affine_ops import INFINITE, AffineOp, affine_op_of, seen_range
from edgeprune.passes.quantize.equalize import equalize
from edgeprune.passes.quantize.idle_clips import drop_idle_clips
from edgeprune.passes.quantize.relax_clips import relax_clips
from edgeprune.passes.quantize.round_weights import fake_quantizer, round_weights
