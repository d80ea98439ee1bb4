from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.intermediate_outputs import IntermediateOutputs
from edgeprune.passes.canonicalize.pipeline import name_everything
from edgeprune.passes.verify.equality import relative_error
from edgeprune.passes.x86.convolve_batchnorm import convolve_batchnorm
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.passes.x86.quantize_x86 import quantize_x86
from tests.passes.models import parse, random, run
from tests.passes.x86.test_quantize_x86 import fused_ops

PREACTIVATED = """
g (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  c = Concat<axis=1>(x, a)
  n = BatchNormalization<epsilon=0.01>(c, gamma, beta, mean, variance)
  r = Relu(n)
  y = Conv(r, w2, b2)
}
"""


WEIGHTS = {
    "gamma": random(32, seed=1), "beta": random(32, seed=2), "mean": random(32, seed=3),
    "variance": np.abs(random(32, seed=4)) + 0.3, "b1": random(16, seed=7), "b2": random(16, seed=8),
    "w1": random(16, 16, 3, 3, seed=5) / 12, "w2": random(16, 32, 1, 1, seed=6),
}  # fmt: skip


def named(text: str) -> ir.Model:
    dense = parse(text, **{k: v for k, v in WEIGHTS.items() if k in text})
    name_everything(dense)
    return dense


def ranges_of(dense: ir.Model) -> dict[str, tuple[float, float]]:
    names = [str(o.name) for n in dense.graph for o in n.outputs] + ["x"]
    seen = IntermediateOutputs(dense, names).run({"x": random(8, 16, 8, 8, seed=9)})
    return {n: (float(v.min()), float(v.max())) for n, v in seen.items()}


def test_it_is_a_depthwise_convolution() -> None:
    dense = named(PREACTIVATED)
    x = random(2, 16, 8, 8, seed=7)
    want = run(dense, x=x)[0]
    convolve_batchnorm(dense.graph, {str(n.name) for n in dense.graph})
    assert [n.op_type for n in dense.graph] == ["Conv", "Concat", "Conv", "Relu", "Conv"]
    assert dense.graph[2].attributes.get_int("group") == 32
    # One rounding more for each factor.
    assert relative_error(want, run(dense, x=x)[0]) <= 2e-6


def test_in_int8_it_is_one_kernel_with_the_relu_behind_it(tmp_path) -> None:
    dense = named(PREACTIVATED)
    eligible = int8_eligible(dense)
    assert all(eligible.values()), eligible
    changed = quantize_x86(dense, list(eligible), ranges_of(dense))
    x = random(8, 16, 8, 8, seed=9)
    # Three layers of 8 bits stay within a few per cent of the largest output.
    assert relative_error(run(dense, x=x)[0], run(changed, x=x)[0]) < 0.04
    ops = fused_ops(changed, tmp_path)
    assert ops.count("QLinearConv") == 3
    assert not {"BatchNormalization", "Relu", "Conv"} & set(ops)


@pytest.mark.parametrize("computed", [False, True])
def test_only_constant_statistics(computed: bool) -> None:
    text = PREACTIVATED.replace("variance)", "v)").replace("x) =>", "x, float[32] v) =>") if computed else PREACTIVATED
    dense = named(text)
    name = next(str(n.name) for n in dense.graph if n.op_type == "BatchNormalization")
    assert bool(int8_eligible(dense)[name]) != computed
