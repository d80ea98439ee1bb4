"""Calibration and evaluation data, and the activations and scores of a model on them.

In: a data source and a model.
Out: feeds, activations, scores, and the identity under which statistics are cached.
May import: backends, dependency and below.
"""

from edgeprune.calibration.accuracy import compare_with_original, hint_of_samples
from edgeprune.calibration.activation_spool import Spool
from edgeprune.calibration.array_cache import ArrayCache, Arrays
from edgeprune.calibration.batch_axes import BatchAxes
from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.calibration.calibration_spec import CalibrationData, CalibrationSpec, as_spec
from edgeprune.calibration.comparable import Comparable, open_comparable
from edgeprune.calibration.evaluation import Evaluation, check_evaluation_is_there, open_evaluation
from edgeprune.calibration.evaluator import Evaluator, is_fidelity, open_evaluator
from edgeprune.calibration.fidelity import Fidelity, fidelity
from edgeprune.calibration.identity import identity_of
from edgeprune.calibration.intermediate_outputs import ACTIVATION_BYTES, IntermediateOutputs
from edgeprune.calibration.model_outputs import outputs_of
from edgeprune.calibration.partial_run import PartialRuns, samples_first
from edgeprune.calibration.run import LoadedWhenRun, Run
from edgeprune.calibration.sample_counts import (
    BIASES,
    COMPENSATION,
    COVARIANCES,
    EXTREMES,
    FORMAT_SPLITS,
    RANGE_ROWS,
    RANGE_TRIALS,
    RANGES,
    TOKEN_TRIALS,
    WIDTH_TRIALS,
    prices_of,
)
from edgeprune.calibration.sources import Feeds
from edgeprune.calibration.staged_run import StagedNetwork, largest_activation_bytes
from edgeprune.calibration.statistics_runtime import StatisticsRuntime, check_statistics_device, statistics_on
