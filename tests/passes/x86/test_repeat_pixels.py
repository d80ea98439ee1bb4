import numpy as np
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.passes.x86.repeat_pixels import repetitions
from edgeprune.testing.oracle import feeds_for, parse

MODES = {
    "asymmetric": 'coordinate_transformation_mode="asymmetric", nearest_mode="floor"',
    "half_pixel": 'coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"',
    "pytorch": 'coordinate_transformation_mode="pytorch_half_pixel", nearest_mode="round_prefer_ceil"',
}


def resize(scales: str, mode: str = MODES["asymmetric"], kind: str = "nearest", dims: str = "1, 3, 5, 4"):
    after = dims if "h" in dims else "1, 3, A, B"
    return parse(
        f"""
        g (float[{dims}] x) => (float[{after}] y) <float[4] scales = {{{scales}}}> {{
          r = Relu(x)
          s = Resize<mode="{kind}", {mode}>(r, , scales)
          y = Conv(s, w)
        }}
        """,
        w=(3, 6 if scales.startswith("1, 2") else 3, 1, 1),
    )


def heaviest(model) -> float:
    """The largest sum of an output's weights."""
    return float(np.abs(model.graph.initializers["w"].const_value.numpy()).sum(axis=(1, 2, 3)).max())


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("factors", [(2, 2), (1, 3), (4, 1), (3, 5)])
def test_repeated_values_are_those_of_resize(factors: tuple[int, int], mode: str) -> None:
    model = resize(f"1, 1, {factors[0]}, {factors[1]}", mode)
    nodes = {n.op_type: str(n.name) for n in model.graph}
    assert repetitions(next(n for n in model.graph if n.op_type == "Resize")) == factors
    int8 = [nodes["Relu"], nodes["Resize"]]
    bounds = dict.fromkeys(values_to_quantize(model, int8), (-4.0, 4.0))
    changed = quantize_x86(model, int8, bounds)
    assert "Resize" not in {n.op_type for n in changed.graph}
    feeds = feeds_for(model, 0)
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    # Half a step of 8 / 255, times the three weights that are added up.
    np.testing.assert_allclose(got, want, atol=4.01 / 255 * heaviest(model))


@pytest.mark.parametrize(
    ("scales", "mode", "kind"),
    [
        ("1, 1, 1.5, 2", MODES["asymmetric"], "nearest"),
        ("1, 1, 0.5, 0.5", MODES["asymmetric"], "nearest"),
        ("1, 2, 2, 2", MODES["asymmetric"], "nearest"),
        ("1, 1, 2, 2", MODES["asymmetric"], "linear"),
        ("1, 1, 3, 3", 'coordinate_transformation_mode="asymmetric", nearest_mode="ceil"', "nearest"),
        ("1, 1, 2, 2", 'coordinate_transformation_mode="align_corners", nearest_mode="floor"', "nearest"),
    ],
)
def test_anything_else_is_no_repetition(scales: str, mode: str, kind: str) -> None:
    model = resize(scales, mode, kind)
    assert repetitions(next(n for n in model.graph if n.op_type == "Resize")) is None


def test_lengths_may_be_open() -> None:
    model = parse(
        """
        g (float[1, 3, h, w] x) => (float[1, 3, hh, ww] y) <float[4] scales = {1, 1, 2, 3}> {
          r = Relu(x)
          s = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(r, , scales)
          y = Conv(s, w)
        }
        """,
        w=(3, 3, 1, 1),
    )
    int8 = [str(n.name) for n in model.graph if n.op_type != "Conv"]
    changed = quantize_x86(model, int8, dict.fromkeys(values_to_quantize(model, int8), (-4.0, 4.0)))
    for lengths in ((2, 3), (5, 1)):
        x = np.random.default_rng(0).normal(size=(1, 3, *lengths)).astype(np.float32)
        (want,), (got,) = (OnnxRuntime().load(m).run({"x": x}) for m in (model, changed))
        np.testing.assert_allclose(got, want, atol=4.01 / 255 * heaviest(model))
