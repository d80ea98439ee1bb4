"""The time of models with fewer tokens, by the runtime that will run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration import Calibration, open_calibration
from edgeprune.latency import X86, Lowering, TimingHarness, openvino_lowering
from edgeprune.timing import Measurement
from edgeprune.tokens import cpu_shares
from tests.passes.tokens.vits import Vit

VIT = Vit(tokens=17, depth=2, width=16)


class Harness:
    """Every model takes as long as it has nodes; the models are kept."""

    threads = 1

    def __init__(self) -> None:
        self.timed: list[ir.Model] = []

    def quick(self, models: Mapping[str, ir.Model]) -> dict[str, Measurement]:
        self.timed += models.values()
        nodes = {name: float(len(model.graph)) for name, model in models.items()}
        return {name: Measurement(ms, ms, ms, ms, 6, (ms,) * 6) for name, ms in nodes.items()}


def data(folder: Path, model: ir.Model) -> Calibration:
    np.savez(folder / "x.npz", input=np.random.default_rng(0).standard_normal((4, VIT.tokens, VIT.width), np.float32))
    return open_calibration(str(folder / "x.npz"), model)


@pytest.mark.parametrize("lowering", [X86, openvino_lowering("bf16")], ids=["onnxruntime", "openvino"])
@pytest.mark.parametrize("int8", [True, False])
def test_models_are_timed_in_the_form_of_their_runtime(tmp_path: Path, lowering: Lowering, int8: bool) -> None:
    whole, smaller = VIT.model(), Vit(tokens=17, depth=1, width=16).model()
    harness = Harness()
    models, timer = [smaller, whole], cast(TimingHarness, harness)
    shares = cpu_shares(whole, models, ["a", "b"], timer, lowering, data(tmp_path, whole), int8=int8)
    assert shares[0] < 0.7
    assert shares[1] == 1
    assert len(harness.timed) == 3
    for model in harness.timed:
        ops = [node.op_type for node in model.graph]
        assert ("QuantizeLinear" in ops) == int8
        stated: Mapping[str, Any] = model.metadata_props
        assert stated.get("edgeprune.float_precision") == ("bf16" if lowering is not X86 else None)


def test_of_each_kind_the_ends_are_measured(tmp_path: Path) -> None:
    whole, harness = Vit(tokens=17, depth=4, width=16).model(), Harness()
    models = [Vit(tokens=17, depth=depth, width=16).model() for depth in (3, 1, 2, 3)]
    kinds = ["a", "a", "a", "b"]
    shares = cpu_shares(whole, models, kinds, cast(TimingHarness, harness), X86, data(tmp_path, whole), int8=False)
    assert len(harness.timed) == 4
    assert shares[1] < shares[2] < shares[0] == shares[3] < 1
    assert shares[2] == pytest.approx((shares[1] + shares[0]) / 2)
