import numpy as np
import pytest

from edgeprune.passes.quantize.affine_ops import affine_op_of
from edgeprune.passes.x86.activation_scales import ActivationScale, activation_scales
from edgeprune.testing.oracle import parse


def scales_of(
    text: str, ranges: dict[str, tuple[float, float]]
) -> tuple[dict[str, ActivationScale], dict[str, tuple[float, float]]]:
    model = parse(text)
    values = [v for node in model.graph for v in (*node.inputs, *node.outputs) if v is not None]
    own = {v: None for v in values if v.name in ranges}
    affine_ops = {node: affine_op for node in model.graph if (affine_op := affine_op_of(node)) is not None}
    found, apart = activation_scales(model.graph, {str(n.name) for n in model.graph}, own, affine_ops, ranges, {})
    return {str(v.name): scale for v, scale in found.items()}, {str(v.name): bounds for v, bounds in apart.items()}


SHIFTED = "g (float[4] x) => (float[4] y) <float k = {%s}> { h = Neg(x) s = Add(h, k) y = Neg(s) }"


def test_both_zeros_lie_on_steps_of_a_shared_scale() -> None:
    found, apart = scales_of(SHIFTED % 3, {"h": (-3.0, 7.3)})
    h, s = found["h"], found["s"]
    assert not apart
    assert h.scale == s.scale
    assert (h.offset, s.offset) == (0.0, 0.0)
    integers = np.arange(256)
    # Equal to a float32 rounding of the scale, at integers up to 255.
    assert (integers - int(s.zero)) * s.scale == pytest.approx((integers - int(h.zero)) * h.scale + 3.0, abs=1e-4)
    # 3 is 74.3 steps of the plain scale, so a step grows by 74.3 / 74 at the most.
    assert 10.3 / 255 <= h.scale <= 10.3 / 255 * 74.3 / 74


def test_a_shift_of_less_than_a_step_is_an_offset() -> None:
    found, _ = scales_of(SHIFTED % 0.01, {"h": (0.0, 10.0)})
    assert found["s"].zero == found["h"].zero
    assert found["s"].offset == pytest.approx(0.01, abs=1e-6)


def test_a_shift_that_would_stretch_the_range_is_quantized_separately() -> None:
    found, apart = scales_of(SHIFTED % 100, {"h": (-1.0, 1.0)})
    assert apart == {"s": (99.0, 101.0)}
    assert found["h"].scale == pytest.approx(2 / 255, rel=1e-6)


def test_values_that_no_reader_distinguishes_are_not_represented() -> None:
    text = "g (float[4] x) => (float[4] y) { h = Neg(x) s = HardSwish(h) y = Neg(s) }"
    found, _ = scales_of(text, {"h": (-20.0, 5.0), "s": (-0.4, 5.0)})
    assert found["h"].scale == pytest.approx(8 / 255, rel=1e-6)


def test_families_between_which_values_are_moved_merge() -> None:
    text = """
    g (float[4] x) => (float[4, 2] y) <float k = {0.5}, int64[2] shape = {2, 2}> {
      a = Neg(x)
      half = Mul(a, k)
      m = Reshape(half, shape)
      n = Neg(x)
      b = Reshape(n, shape)
      c = Concat<axis=0>(m, b)
      y = Neg(c)
    }
    """
    found, _ = scales_of(
        text, {"a": (-2.0, 4.0), "m": (-1.0, 2.0), "n": (-1.0, 2.0), "b": (-1.0, 2.0), "c": (-1.0, 2.0)}
    )
    assert found["half"].scale == found["m"].scale == found["b"].scale == found["c"].scale
    assert found["a"].scale == pytest.approx(2 * found["c"].scale, rel=1e-6)
    assert len({int(g.zero) for g in found.values()}) == 1
