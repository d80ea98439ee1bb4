"""Latency models of one network: latency as a function of widths and formats.

In: a network, and an analytic or measured profile.
Out: microseconds for any widths and formats; the timing harness that measures candidates.
May import: costmodel, passes, calibration and below.
"""

from edgeprune.latency.analytic_model import SPARSE, AnalyticModel, dense_format, is_int8, is_sparse, work_of
from edgeprune.latency.bench import bench_models, bench_on_device
from edgeprune.latency.block_latency import Format, Latency, LatencyModel
from edgeprune.latency.block_network import Network, network
from edgeprune.latency.cpu_model import lowered
from edgeprune.latency.cpu_profile import measured_latency, profile_model
from edgeprune.latency.device_profile import (
    ORIGINAL,
    DeviceProfile,
    MeasuredNetwork,
    formats_like,
    known_profile,
    known_ratios,
    probe_file,
    profile_file,
)
from edgeprune.latency.formats import CORE, FLOAT, INT8
from edgeprune.latency.fused_heads import head_widths
from edgeprune.latency.kernel_network import GpuNetwork, gpu_network, with_tied
from edgeprune.latency.kernel_times import launch_times
from edgeprune.latency.lowering import ARM, X86, Lowering, onnxruntime_lowering, openvino_lowering
from edgeprune.latency.measured_model import MeasuredModel, scaled
from edgeprune.latency.price_grounds import overhead_advice, sparse_ground
from edgeprune.latency.probe_network import NAME, probe_network
from edgeprune.latency.rank_formats import PairPrices, RankedLatency, rank_of, whole_format, with_rank
from edgeprune.latency.rank_prices import ContractionPairs, KernelPairs
from edgeprune.latency.ranked_layers import factored_for_timing, int8_nodes_in, ranks_in
from edgeprune.latency.remote_harness import open_remote_harness
from edgeprune.latency.same_work import same_work
from edgeprune.latency.size_model import SizeLimit, SizeModel, size_model
from edgeprune.latency.timing_harness import TimingHarness, input_shapes, open_harness
