"""Groups of nodes become one step, unless a value inside is read elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.backends import OnnxRuntime
from tests.small_models import build, normal

torch = pytest.importorskip("torch")

from edgeprune.executor import GraphModule  # noqa: E402

GELU = """g (float[2, 3] x) => (float[2, 3] y) {
  d = Div (x, root)
  e = Erf (d)
  a = Add (e, one)
  m = Mul (x, a)
  y = Mul (m, half)
}"""
GELU_HALF_FIRST = GELU.replace("m = Mul (x, a)\n  y = Mul (m, half)", "m = Mul (x, half)\n  y = Mul (m, a)")
SILU = "g (float[2, 3] x) => (float[2, 3] y) { s = Sigmoid (x)\n y = Mul (x, s) }"
LINEAR = "g (float[2, 3] x) => (float[2, 4] y) { m = MatMul (x, w)\n y = Add (b, m) }"
WEIGHTS = {"w": normal(3, 4), "b": normal(4)}
SCALARS = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}


@pytest.mark.parametrize(
    ("text", "weights"), [(GELU, SCALARS), (GELU_HALF_FIRST, SCALARS), (SILU, {}), (LINEAR, WEIGHTS)]
)
def test_a_group_is_one_step_and_computes_the_same(text: str, weights: dict[str, np.ndarray]) -> None:
    model, x = build(text, **weights), normal(2, 3)
    module = GraphModule(model)
    np.testing.assert_allclose(module.run({"x": x})["y"], OnnxRuntime().load(model).run({"x": x})[0], atol=1e-6)
    (program,) = module._programs.values()
    assert len(program.steps) == 1


@pytest.mark.parametrize(("inner", "text", "weights"), [("m", LINEAR, WEIGHTS), ("s", SILU, {}), ("e", GELU, SCALARS)])
def test_a_value_inside_that_is_wanted_is_computed(inner: str, text: str, weights: dict[str, np.ndarray]) -> None:
    module = GraphModule(build(text, **weights))
    found = module.run({"x": normal(2, 3)}, [inner, "y"])
    assert found[inner].shape
    (program,) = module._programs.values()
    assert len(program.steps) > 1


def test_another_factor_is_no_gelu() -> None:
    model = build(GELU, **SCALARS | {"half": np.float32(0.4)})
    x = normal(2, 3)
    np.testing.assert_allclose(
        GraphModule(model).run({"x": x})["y"], OnnxRuntime().load(model).run({"x": x})[0], atol=1e-6
    )
