"""The mathematics of recovery: ridge regression, output error, distillation.

In: a cut model, the dense model, and calibration data.
Out: refitted or learned weights, and the distance of a network's outputs from the original's.
May import: calibration, gradients and below.
"""

from edgeprune.recovery.adam import Adam
from edgeprune.recovery.distillation import Kept, find_distillation_spec, trainable
from edgeprune.recovery.layer_rows import (
    Sampling,
    activations,
    gather_rows,
    require_finite,
    split_by_memory,
)
from edgeprune.recovery.output_error import WORST, Probe, has_classes, output_error
from edgeprune.recovery.output_weights import OutputWeights, learn_weights
from edgeprune.recovery.ridge import DAMPINGS, Moments, refit
from edgeprune.recovery.student import Arrays, Student
from edgeprune.recovery.student_batches import StudentBatches
