"""One network that is called twice, and the distance of its two results."""

import numpy as np
import onnx_ir as ir

from tests.small_models import build, normal

_BRANCH = """
    c{k} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>({k}, w1, b1) r{k} = Relu(c{k})
    d{k} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r{k}, w2, b2) s{k} = Relu(d{k})
    p{k} = GlobalAveragePool(s{k}) f{k} = Flatten(p{k}) e{k} = Gemm<transB=1>(f{k}, w3, b3)
"""
TEXT = f"""g (float[n,32,6,6] a, float[n,32,6,6] b) => (float[n,16] y) {{
    {_BRANCH.format(k="a")} {_BRANCH.format(k="b")} d = Sub(ea, eb) y = Abs(d)
}}"""


def siamese() -> ir.Model:
    """The model, canonical."""
    weights = {"w1": normal(32, 32, 3, 3), "w2": normal(32, 32, 3, 3, seed=1), "w3": normal(16, 32)}
    return build(TEXT, **weights, b1=normal(32), b2=normal(32, seed=1), b3=normal(16))


def pairs(count: int = 24) -> dict[str, np.ndarray]:
    """Samples; the two inputs differ in their distribution, so that ranges of each would differ, too."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((count, 32, 6, 6)).astype(np.float32) for _ in range(2))
    return {"a": a, "b": 1.7 * b + 0.4}
