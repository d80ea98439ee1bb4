"""An ONNX graph as a `torch.nn.Module`: every operator is a function in a table, and PyTorch gives the gradients.

In: a model whose operators are in the table.
Out: a module that computes any value of the graph, for any batch, with its weights as parameters.
May import: graph and below, and torch; without torch only `require_torch` and `open_batch` are here.
"""

from edgeprune.executor.batch_work import RebatchError
from edgeprune.executor.rebatch import open_batch
from edgeprune.executor.torch_library import has_bfloat16, has_torch, require_torch

if has_torch():
    from edgeprune.executor import (
        convolution,
        elementwise,
        indexing,
        matmul,
        norms,
        pooling,
        quantization,
        recurrent,
        reduction,
        resize,
        shapes,
    )
    from edgeprune.executor.graph_module import GraphModule, require_supported, tensor_of
    from edgeprune.executor.quantization import LIMITS, quantized, spread
