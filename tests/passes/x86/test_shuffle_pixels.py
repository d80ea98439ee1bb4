import numpy as np
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.passes.x86.shuffle_pixels import tile_of
from edgeprune.testing.oracle import parse


def network(attributes: str, kernel: tuple[int, int], dims: str = "1, 4, 5, 6", after: str = "", bias: str = ", b"):
    return parse(
        f"""
        g (float[{dims}] x) => (float[1, 2, H, W] y) {{
          t = ConvTranspose<{attributes}>(x, w{bias})
          r = Relu(t)
          y = Conv(r, v)
        }}
        """,
        w=(4, 3, *kernel),
        v=(2, 3, 1, 1),
        **({"b": (3,)} if bias else {}),
    )


def compared(model, lengths: tuple[int, int]) -> tuple[set[str], float]:
    """Operators of the INT8 model, and its largest error as a share of the largest output."""
    nodes = [name for name, possible in int8_eligible(model).items() if possible]
    x = np.random.default_rng(0).normal(size=(1, 4, *lengths)).astype(np.float32)
    ranges = dict.fromkeys(values_to_quantize(model, nodes), (-4.0, 8.0))
    (want,) = OnnxRuntime().load(model).run({"x": x})
    top = float(np.abs(want).max())
    changed = quantize_x86(model, nodes, ranges | {"y": (-top, top)})
    (got,) = OnnxRuntime().load(changed).run({"x": x})
    return {n.op_type for n in changed.graph}, float(np.abs(want - got).max()) / top


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("tile", [(2, 2), (1, 3), (3, 2)])
def test_a_transposed_convolution_of_tiles_runs_in_int8(tile: tuple[int, int], bias: str) -> None:
    model = network(f"strides=[{tile[0]}, {tile[1]}]", tile, bias=bias)
    assert tile_of(next(iter(model.graph))) == tile
    ops, error = compared(model, (5, 6))
    assert "ConvTranspose" not in ops
    # Steps of 12 / 255 for inputs and values in between, and 8 bits for weights; outputs are at most about 8.
    assert error < 0.05


def test_lengths_may_be_open() -> None:
    model = network("strides=[2, 2]", (2, 2), dims="1, 4, h, w")
    for lengths in ((3, 5), (7, 2)):
        ops, error = compared(model, lengths)
        assert "ConvTranspose" not in ops
        assert error < 0.05


def test_a_concat_behind_it_gets_shuffled_pixels() -> None:
    model = parse(
        """
        g (float[1, 4, 5, 6] x, float[1, 3, 10, 12] skip) => (float[1, 2, 10, 12] y) {
          s = Conv(skip, u)
          t = ConvTranspose<strides=[2, 2]>(x, w, b)
          c = Concat<axis=1>(s, t)
          y = Conv(c, v)
        }
        """,
        u=(3, 3, 1, 1),
        w=(4, 3, 2, 2),
        b=(3,),
        v=(2, 6, 1, 1),
    )
    nodes = [name for name, possible in int8_eligible(model).items() if possible]
    changed = quantize_x86(model, nodes, dict.fromkeys(values_to_quantize(model, nodes), (-6.0, 6.0)))
    rng = np.random.default_rng(0)
    feeds = {str(v.name): rng.normal(size=v.shape.numpy()).astype(np.float32) for v in model.graph.inputs}
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    # Steps of 12 / 255 for inputs and values in between, and 8 bits for weights.
    assert float(np.abs(want - got).max()) < 0.05 * float(np.abs(want).max())


@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [
        ("strides=[2, 2]", (3, 3)),
        ("strides=[2, 2], pads=[1, 1, 1, 1]", (2, 2)),
        ("strides=[2, 2], output_padding=[1, 1]", (2, 2)),
        ("strides=[2, 2], dilations=[2, 2]", (2, 2)),
    ],
)
def test_others_stay_in_float(attributes: str, kernel: tuple[int, int]) -> None:
    model = network(attributes, kernel)
    first = next(iter(model.graph))
    assert tile_of(first) is None
    reason = int8_eligible(model)[str(first.name)]
    assert not reason
    assert "as long as its stride" in str(reason)
