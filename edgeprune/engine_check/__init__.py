"""Whether a built engine computes what its graph says, on the device, and where it starts to differ.

In: a lowered model, its engine, a device, and samples.
Out: the engine's outputs beside the simulation's; its accuracy; the first node that is wrong.
May import: calibration and below.
"""

from edgeprune.engine_check.check import Subject, check_engine, engine_warnings
from edgeprune.engine_check.rtx_proof import rtx_proof
