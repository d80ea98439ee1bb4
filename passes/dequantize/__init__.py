"""Models that arrive quantized or in other float types: the float32 model behind them, and what was trained.

In: a canonical model, or one as exported.
Out: a float32 model with the interface of the original, and the ranges that its activations were quantized with.
May import: passes.canonicalize, passes.verify and below.
"""

from edgeprune.passes.dequantize.bfloat16 import NO_BFLOAT16, Interface, with_interface
from edgeprune.passes.dequantize.narrowing import in_bfloat16
from edgeprune.passes.dequantize.source import FloatSource, Lift, float_source, with_pairs
