"""Passes that recover accuracy after a cut: compensation in closed form, and reconstruction by gradients.

In: the dense model, the cut model, and calibration data.
Out: the cut model with better weights.
May import: passes.prune and below.
"""

from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.reconstruct import ReconstructSettings, reconstruct, split_for_learning
from edgeprune.passes.recover.refit_samples import SPOOL_BYTES
