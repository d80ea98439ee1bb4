"""Small networks as text, with seeded weights, for tests of statistics and compensation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import BatchAxes
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.sources import InputSpec
from edgeprune.graph import model_io as graph
from edgeprune.outputs.output_spec import CLASS_SCORES, TOP1, Outputs, OutputSpec

HEADER = '<ir_version: 9, opset_import: ["" : 17]>'

SMALL_CLASSIFIER = """net (float[n, 3, 16, 16] x) => (float[n, 5] y) {
  a0 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w0, b0)
  a = Relu (a0)
  c0 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, w1, b1)
  c = Relu (c0)
  p = GlobalAveragePool (c)
  f = Flatten (p)
  h0 = Gemm (f, w2, b2)
  h = Relu (h0)
  y = Gemm (h, w3, b3)
}"""
"""Two convolutions and two linear layers: weights w0 to w3, biases b0 to b3."""


def build(text: str, *, integers: Mapping[str, list[int]] | None = None, **weights: np.ndarray) -> ir.Model:
    """A model from text without its header; ``weights`` become initializers, ``integers`` those of int64."""
    tensors = [ir.tensor(np.asarray(w, np.float32), name=name) for name, w in weights.items()]
    tensors += [ir.tensor(np.asarray(v, np.int64), name=name) for name, v in (integers or {}).items()]
    model = ir.from_onnx_text(f"{HEADER}\n{text}", initializers=tensors)
    for value in model.graph.initializers.values():
        value.dtype, value.shape = value.const_value.dtype, value.const_value.shape
    for number, node in enumerate(model.graph):
        node.name = node.name or f"node_{number}"
    return graph.infer_shapes(model)


def class_scores(data: Calibration, name: str = "y") -> Calibration:
    """The same samples for a model whose only output is class scores."""
    return data.judging(Outputs((name,), (OutputSpec((name,), CLASS_SCORES, TOP1, "in a test"),)))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers over the square root of the fan-in."""
    values = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return (values / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


@dataclass(frozen=True)
class Arrays:
    """Samples in memory, as a calibration source."""

    feeds: Mapping[str, np.ndarray]
    joins_items = True

    @property
    def items(self) -> int:
        return len(next(iter(self.feeds.values())))

    samples = items

    def describe(self) -> str:
        return "arrays in memory"

    def read(self, chosen: np.ndarray, items_per_batch: int) -> Iterator[dict[str, np.ndarray]]:
        where = np.flatnonzero(chosen)
        for start in range(0, len(where), items_per_batch):
            yield {name: array[where[start : start + items_per_batch]] for name, array in self.feeds.items()}


class AlwaysFirst(dict[str, int]):
    """Axis 0 for every output."""

    def get(self, key: str, default: object = None) -> int:
        return 0


def calibration(batch_size: int = 16, **feeds: np.ndarray) -> Calibration:
    """Samples in memory as a calibration set."""
    source = Arrays(feeds)
    specs = tuple(InputSpec(name, x.dtype, (None, *x.shape[1:])) for name, x in feeds.items())
    axes = BatchAxes(dict.fromkeys(feeds, 0), AlwaysFirst(), joins=True)
    return Calibration(source, np.ones(source.items, np.bool_), batch_size, specs, axes)


def two_convolutions(first: np.ndarray, second: np.ndarray, bias: np.ndarray | None = None) -> ir.Model:
    """Conv 3x3, Relu, Conv 3x3 with padding: the middle channels can go."""
    return build(
        """g (float[n, 3, 8, 8] x) => (float[n, out, 8, 8] y) {
            [first] a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
            [relu] h = Relu(a)
            [second] y = Conv<pads = [1, 1, 1, 1]>(h, w2, b2)
        }""",
        w1=first,
        b1=np.zeros(len(first)) if bias is None else bias,
        w2=second,
        b2=np.zeros(len(second)),
    )


def branching() -> ir.Model:
    """Three layers, one of them beside the others, and a skip connection."""
    return build(
        """g (float[n, 4] x) => (float[n, 4] y, float[n, 4] a) {
            [one] a = MatMul(x, w1)
            [relu] r = Relu(a)
            [two] b = MatMul(r, w2)
            [side] c = MatMul(x, w3)
            [sum] s = Add(b, c)
            [skip] y = Add(s, r)
        }""",
        w1=normal(4, 4),
        w2=normal(4, 4, seed=1),
        w3=normal(4, 4, seed=2),
    )


def images(count: int = 128, seed: int = 0) -> np.ndarray:
    """Noise for ``classifier``."""
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def classifier(head: str = "float[n,5] y", batch: str = "n") -> ir.Model:
    """Two convolutions, pooling and a linear layer: small enough to learn in a second."""
    return build(
        f"""g (float[{batch},3,8,8] x) => ({head}) {{
            a = Conv<pads=[1,1,1,1]>(x, w1, b1)
            b = Relu(a)
            c = Conv<pads=[1,1,1,1]>(b, w2, b2)
            d = Relu(c)
            e = GlobalAveragePool(d)
            f = Flatten(e)
            y = Gemm<transB=1>(f, w3, b3)
        }}""",
        w1=normal(16, 3, 3, 3),
        b1=normal(16),
        w2=normal(16, 16, 3, 3),
        b2=normal(16),
        w3=normal(5, 16),
        b3=normal(5),
    )
