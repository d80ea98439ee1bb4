"""The analytic cost model of a GPU: from a graph to kernels, and from kernels to microseconds.

In: a model and a device.
Out: the kernels that a GPU runtime launches for the model, and the predicted latency of each.
May import: devices, graph, report, passes.tensorrt, passes.dequantize and below.
"""

from edgeprune.costmodel.blocks import WEIGHTED_OPS, Block, partition
from edgeprune.costmodel.cost import (
    BYTES,
    Sizes,
    Sparsity,
    fused_attention,
    latencies_us,
    runs_int8,
    sizes_latency_us,
    stack,
    traffic_us,
    with_batch,
)
from edgeprune.costmodel.energy import energy_mj
from edgeprune.costmodel.fusion import Cluster, fuse
from edgeprune.costmodel.kernel import Family, Kernel, family_of
from edgeprune.costmodel.kernels import kernel_at, kernel_clusters, kernels_of
from edgeprune.costmodel.overhead import Overhead, overhead, what_helps
from edgeprune.costmodel.plugins import plugin_notes
from edgeprune.costmodel.precision_mix import fastest_mix, reformat_us, successive_readers
from edgeprune.costmodel.prediction import Prediction, Wanted, model_latency_us, predict
