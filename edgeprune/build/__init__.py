"""From a candidate to a model for a runtime: cut, refit, quantize, lower.

In: widths and formats.
Out: the model for the runtime, its plan.json, and the script that verifies it on a device.
May import: latency, passes and below.
"""

from edgeprune.build.cost_forecast import ExpectedCost, expected_cost
from edgeprune.build.device_options import Options, check_sparsity, formats_of, operating_point, versions_of
from edgeprune.build.learning import Kept, Learning, Train, Trained
from edgeprune.build.limits import counted_memory_mb, latency_within, predicted_energy_mj, predicted_memory_mb
from edgeprune.build.model_builder import ModelBuilder
from edgeprune.build.openvino_builder import OpenVinoBuilder
from edgeprune.build.openvino_files import write_openvino
from edgeprune.build.placement_times import tuned
from edgeprune.build.placement_trials import tune_placement
from edgeprune.build.plan import AxisPlan, LayerPlan, Plan, groups_of, initializers_of
from edgeprune.build.surgery import surgeon
from edgeprune.build.taken_back import levers, single
from edgeprune.build.tensorrt_builder import SPARSE_STEPS, TensorRtBuilder, sparse_fits
from edgeprune.build.verify_script import bench_line, command_for, write_verify_script
from edgeprune.build.x86_builder import ArmBuilder, X86Builder
