"""Engines of a fake trtexec, computed by onnxruntime: right ones pass, and a wrong one is found at its node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeprune.backends.simulation import load
from edgeprune.backends.trtexec_device import Trtexec
from edgeprune.calibration import Evaluator, fidelity, open_calibration, outputs_of
from edgeprune.calibration.evaluation import open_evaluation
from edgeprune.engine_check.check import Subject, check_engine, engine_warnings
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.report import Accuracy, EngineCheck
from edgeprune.support import Progress
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build, observed

Fake = Callable[[int], str]


def subject(fake: Fake, folder: Path, text: str, precision: str, samples: int = 1) -> Subject:
    """A network of the tests in one precision, with its engine still to be built."""
    model = build(text)
    nodes = {
        name: "int8" if verdict and precision == "int8" else "fp16" for name, verdict in int8_eligible(model).items()
    }
    lowered = lower_tensorrt(model, nodes, observed(model), target_versions=["10.3"])
    value = model.graph.inputs[0]
    shape = (samples, *(int(str(d)) for d in (value.shape or ())[1:]))
    np.savez(
        folder / "data.npz", **{str(value.name): np.random.default_rng(5).standard_normal(shape).astype("float32")}
    )
    data = open_calibration(str(folder / "data.npz"), model)
    device = Trtexec(command=fake(100300))
    return Subject(device, lowered, None, data, outputs_of(model, data), {}, Progress())


@pytest.mark.parametrize(("text", "precision"), [(RESIDUAL, "int8"), (TRANSFORMER, "fp16")])
def test_a_right_engine_passes(fake_trtexec: Fake, tmp_path: Path, text: str, precision: str):
    checked = subject(fake_trtexec, tmp_path, text, precision, samples=2)
    evaluator = Evaluator(fidelity(load(build(text)).run, checked.data, build(text)), None, 2)
    found = check_engine(checked, evaluator)
    assert found.fits
    assert (found.by, found.samples) == ("trtexec", 2)
    (output,) = found.outputs
    assert output.fits
    assert output.error is not None
    assert output.error <= output.allowed <= 0.1
    assert found.accuracy is not None
    simulated = evaluator.accuracy(load(checked.model).run)
    assert found.accuracy.drop == pytest.approx(simulated.drop, abs=0.01)  # points


@pytest.mark.parametrize(
    ("text", "precision", "wrong", "node"),
    [
        (RESIDUAL, "int8", "c2", "node 'c2' (Conv)"),
        (TRANSFORMER, "fp16", "variance", "node 'variance' (ReduceMean)"),
    ],
)
def test_a_wrong_engine_is_found_at_its_node(
    fake_trtexec: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    precision: str,
    wrong: str,
    node: str,
):
    monkeypatch.setenv("FAKE_MISCOMPILE", wrong)
    found = check_engine(subject(fake_trtexec, tmp_path, text, precision))
    assert not found.fits
    assert found.accuracy is None
    (fault,) = found.faults
    assert "output 'y' is not what its graph computes" in fault
    assert f"wrong from {node} on" in fault


def test_a_fault_of_fusion_is_told_as_one(fake_trtexec: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_MISCOMPILE", "sum:fused")
    (fault,) = check_engine(subject(fake_trtexec, tmp_path, RESIDUAL, "fp16")).faults
    assert "it is right if the result of node 'sum' (Add) is an output too" in fault


def test_values_that_are_not_finite_are_a_fault(fake_trtexec: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_MISCOMPILE", "narrow:nan")
    found = check_engine(subject(fake_trtexec, tmp_path, RESIDUAL, "fp16"))
    assert found.outputs[0].error is None
    assert "has values that are not finite" in found.faults[0]
    assert "node 'narrow' (Conv)" in found.faults[0]


def test_the_users_evaluation_scores_the_engine(fake_trtexec: Fake, tmp_path: Path):
    """It asks for one sample at a time; the engine gets all of them at once."""
    (tmp_path / "score.py").write_text(
        "import numpy as np\n"
        "def mean(model):\n"
        "    rng = np.random.default_rng(1)\n"
        "    feeds = [rng.standard_normal((1, 20, 32)).astype('float32') for _ in range(2)]\n"
        "    return float(np.mean([model(x)[0].mean() for x in feeds]))\n"
    )
    checked = subject(fake_trtexec, tmp_path, TRANSFORMER, "fp16")
    evaluation = open_evaluation(f"{tmp_path / 'score.py'}:mean", build(TRANSFORMER))
    wanted = evaluation.score(load(checked.model).run)
    found = check_engine(checked, Evaluator(evaluation, wanted, None))
    assert found.accuracy is not None
    assert found.accuracy.kind == "evaluation"
    assert found.accuracy.after == pytest.approx(wanted.value, abs=1e-3)


def test_the_engine_must_run(fake_trtexec: Fake, tmp_path: Path):
    checked = subject(fake_trtexec, tmp_path, TRANSFORMER, "fp16")
    checked.model.doc_string = "Unbuildable"
    with pytest.raises(BackendError, match="could not build the model"):
        check_engine(checked)


def test_a_loss_that_only_the_engine_has_is_said():
    def loses(points: float) -> Accuracy:
        return Accuracy("evaluation", "mAP", "%", 70.0, 70.0 - points, points)

    checked = EngineCheck("trtexec", 8, (), loses(3.0))
    assert engine_warnings(checked, loses(2.5)) == ()
    (said,) = engine_warnings(checked, loses(0.5))
    assert "3.00 points, its simulation here 0.50" in said
    assert engine_warnings(None, loses(0.5)) == ()
    assert engine_warnings(EngineCheck("trtexec", 8, (), None, ("it is wrong",)), loses(0.5)) == ("it is wrong",)
