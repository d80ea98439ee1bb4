"""Runtimes and devices: onnxruntime, OpenVINO, TensorRT, TensorRT for RTX and trtexec, on this machine or over SSH.

In: a lowered model.
Out: a session, an engine, latencies, a trace of all kernels.
May import: passes.openvino, passes.tensorrt, timing and below.
"""

from edgeprune.backends import simulation, tensorrt_rtx
from edgeprune.backends.block_trace import Trace, Tracer, pace, tag_blocks, times_per_block, trace
from edgeprune.backends.boards import Board
from edgeprune.backends.device import LOCAL, Device, EngineDevice, open_device
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.backends.onnxruntime_device import Machine, OnnxRuntimeDevice
from edgeprune.backends.openvino import HINTS, OpenVino, save_xml
from edgeprune.backends.openvino import is_installed as openvino_is_installed
from edgeprune.backends.providers import TINY_NET, try_openvino, try_providers
from edgeprune.backends.results import DeviceResult, EngineRuns, EngineSample, LayerTime
from edgeprune.backends.runtimes import CpuRuntime, LoadedModel, open_runtime, tracer_of
from edgeprune.backends.trtexec import Version, graph_arguments, single_command, typing_of
