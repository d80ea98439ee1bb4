"""An ONNX graph as a `torch.nn.Module`: every operator is a function in a table, and PyTorch gives the gradients.

In: a model whose operators are in the table.
Out: a module that computes any value of the graph, for any batch, with its weights as parameters.
May import: graph and below, and torch, which is loaded when something that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeprune.executor.batch_work import RebatchError
from edgeprune.executor.rebatch import open_batch
from edgeprune.executor.torch_library import has_bfloat16, has_torch, require_torch

if TYPE_CHECKING:
    from edgeprune.executor.graph_module import GraphModule, require_supported, tensor_of
    from edgeprune.executor.quantization import LIMITS, quantized, spread

_LATE = {"GraphModule": "graph_module", "require_supported": "graph_module", "tensor_of": "graph_module"}
_LATE |= {"LIMITS": "quantization", "quantized": "quantization", "spread": "quantization"}


def __getattr__(name: str) -> Any:
    """What needs PyTorch, which takes seconds and 200 MB to load."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
