"""PyTorch to ONNX and back: export a module, apply a plan to a checkpoint.

In: a module or a checkpoint.
Out: a checked ONNX file, or a checkpoint of the plan's widths.
May import: build and below; torch is imported when it is needed.
"""

from edgeprune.pytorch.apply import Applied, apply_plan
from edgeprune.pytorch.export import DEFAULT_OPSET, Exported, export_model
