from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.evaluation import open_evaluation
from edgeprune.errors import EvaluationError

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) { y = Identity(x) }'


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(MODEL)


@pytest.fixture
def data(tmp_path: Path) -> str:
    x = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    labels = x.argmax(1)
    labels[:50] = (labels[:50] + 1) % 4
    np.savez(tmp_path / "e.npz", x=x, labels=labels)
    return str(tmp_path / "e.npz")


def test_top1_counts_right_answers(model: ir.Model, data: str) -> None:
    evaluation = open_evaluation(data, model)
    assert evaluation.score(lambda feeds: [feeds["x"]]) == 75.0
    assert evaluation.score(lambda feeds: [np.zeros(3), -feeds["x"]]) < 25.0
    assert "%" in evaluation.metric


def test_nan_never_wins(model: ir.Model, data: str) -> None:
    def run(feeds: dict) -> list:
        scores = feeds["x"].copy()
        scores[np.arange(len(scores)), (scores.argmax(1) + 1) % 4] = np.nan
        return [scores]

    assert open_evaluation(data, model).score(run) == 75.0


def test_dense_labels_are_scored_by_position(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 2, 2] x) => (float[n, 3, 2, 2] y) { y = Relu(x) }'
    x = np.random.default_rng(0).standard_normal((5, 3, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=x, labels=x.argmax(1))
    assert open_evaluation(str(tmp_path / "e.npz"), ir.from_onnx_text(text)).score(lambda feeds: [feeds["x"]]) == 100.0


def test_labels_that_do_not_fit(tmp_path: Path, model: ir.Model, data: str) -> None:
    with pytest.raises(EvaluationError, match="fit none of the model's outputs"):
        open_evaluation(data, model).score(lambda feeds: [feeds["x"][:, 0]])
    with pytest.raises(EvaluationError, match="classes"):
        open_evaluation(data, model).score(lambda feeds: [feeds["x"][:, :2]])
    x = np.zeros((3, 4), np.float32)
    for labels, message in ((np.zeros(2, int), "one integer"), (np.zeros(3), "not float64 3")):
        np.savez(tmp_path / "bad.npz", x=x, labels=labels)
        with pytest.raises(EvaluationError, match=message):
            open_evaluation(str(tmp_path / "bad.npz"), model)
    np.savez(tmp_path / "none.npz", x=x)
    with pytest.raises(EvaluationError, match="'labels'"):
        open_evaluation(str(tmp_path / "none.npz"), model)
    np.savez(tmp_path / "wrong.npz", y=x, labels=np.zeros(3, int))
    with pytest.raises(EvaluationError, match="'x'"):
        open_evaluation(str(tmp_path / "wrong.npz"), model)
    with pytest.raises(EvaluationError, match="neither"):
        open_evaluation("images/", model)


def user_metric(tmp_path: Path, model: ir.Model, body: str) -> object:
    (tmp_path / "metric.py").write_text(f"import numpy as np\ndef quality(model):\n    {body}\n")
    return open_evaluation(f"{tmp_path / 'metric.py'}:quality", model)


def test_user_function_gets_a_callable_model(tmp_path: Path, model: ir.Model) -> None:
    body = "x = np.ones((1, 4), np.float32); return model({'x': x})[0].sum() + model(x)[0].sum()"
    evaluation = user_metric(tmp_path, model, body)
    assert evaluation.score(lambda feeds: [feeds["x"]]) == 8.0
    assert evaluation.metric == "quality"


@pytest.mark.parametrize(
    ("body", "message"),
    [("return 'good'", "not a number"), ("return float('nan')", "finite"), ("1 / 0", "ZeroDivisionError")],
)
def test_user_function_that_fails(tmp_path: Path, model: ir.Model, body: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        user_metric(tmp_path, model, body).score(lambda feeds: [feeds["x"]])
