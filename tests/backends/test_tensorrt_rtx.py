from __future__ import annotations

import pytest

from edgeprune.backends import tensorrt_rtx
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build, observed
from tests.passes.tensorrt.test_lower_tensorrt import everything

needs_rtx = pytest.mark.skipif(
    not tensorrt_rtx.is_installed(), reason="tensorrt_rtx is not installed: pip install 'edgeprune[rtx]'"
)


@needs_rtx
@pytest.mark.parametrize("text", [RESIDUAL, TRANSFORMER], ids=["residual", "transformer"])
@pytest.mark.parametrize(
    "versions",
    [pytest.param(("10.3", "11.0"), id="10.3 and 11"), pytest.param(("8.6",), id="8.6", marks=pytest.mark.slow)],
)
def test_a_real_builder_takes_the_lowered_graph(text: str, versions: tuple[str, ...]):
    model = build(text)
    plan = everything(model, "fp16")
    engine = tensorrt_rtx.build(lower_tensorrt(model, plan, observed(model), target_versions=versions))
    assert engine.layers > len(model.graph)
    assert engine.plan


@needs_rtx
def test_what_it_does_not_take_is_named():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
    agraph (float[1, 3] x) => (float[1, 3] y) { y = acme.Swoosh(x) }
    """)
    with pytest.raises(BackendError, match=r"TensorRT for RTX cannot parse the model: .*Plugin not found"):
        tensorrt_rtx.build(model)


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensorrt_rtx, "is_installed", lambda: False)
    with pytest.raises(BackendError, match=r"edgeprune\[rtx\]"):
        tensorrt_rtx.build(build(RESIDUAL))
