"""The mathematics of recovery: least squares, output error, distillation.

In: a cut model, the dense one, and calibration data.
Out: refitted or learned weights, and how far outputs are from the original's.
May import: calibration, gradients and below.
"""

from edgeprune.recovery.adam import Adam
from edgeprune.recovery.distillation import find_distillation_spec, trainable
from edgeprune.recovery.layer_rows import ACTIVATION_BYTES, Sampling, gather_rows, require_finite, sized_batches
from edgeprune.recovery.output_error import Probe, output_error
from edgeprune.recovery.ridge import DAMPINGS, Fit, Moments, refit
from edgeprune.recovery.student import Student
from edgeprune.recovery.student_batches import StudentBatches
