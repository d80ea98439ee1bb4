"""Passes that recover accuracy after a cut: compensation in closed form, reconstruction by gradients.

In: the dense model, the cut one, and calibration data.
Out: the cut model with better weights.
May import: passes.prune and below.
"""

from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.reconstruct import Settings, reconstruct, split_for_learning
