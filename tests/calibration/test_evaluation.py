from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.evaluation import open_evaluation
from edgeprune.calibration.sample_scores import Score
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
    assert evaluation.score(lambda feeds: [feeds["x"]]).value == 75.0
    assert evaluation.score(lambda feeds: [np.zeros(3), -feeds["x"]]).value < 25.0
    assert "%" in evaluation.metric


def test_nan_never_wins(model: ir.Model, data: str) -> None:
    def run(feeds: dict) -> list:
        scores = feeds["x"].copy()
        scores[np.arange(len(scores)), (scores.argmax(1) + 1) % 4] = np.nan
        return [scores]

    assert open_evaluation(data, model).score(run).value == 75.0


def test_dense_labels_are_scored_by_position(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 2, 2] x) => (float[n, 3, 2, 2] y) { y = Relu(x) }'
    x = np.random.default_rng(0).standard_normal((5, 3, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=x, labels=x.argmax(1))
    assert (
        open_evaluation(str(tmp_path / "e.npz"), ir.from_onnx_text(text)).score(lambda feeds: [feeds["x"]]).value
        == 100.0
    )


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
    assert evaluation.score(lambda feeds: [feeds["x"]]).value == 8.0
    assert evaluation.metric == "quality"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 'good'", "not a number"),
        ("return float('nan')", "finite"),
        ("1 / 0", "ZeroDivisionError"),
        ("pass", "a NoneType, not a number"),
        ("return 80.0, 90.0", "a tuple, not a number or a list of one number for each sample"),
        ("return {'map': 80.0}", "a dict, not a number"),
        ("return [1.0, float('nan')]", "finite"),
        ("return []", "shape 0"),
        ("return np.ones((2, 3))", "shape 2x3: give one for each sample"),
        ("return [[1.0, 0.0]] * 3", "weights that are negative or add up to nothing"),
        ("return [], sum", "no samples"),
        ("return [1, 2], lambda parts: parts[5]", "second function fails: IndexError"),
    ],
)
def test_user_function_that_fails(tmp_path: Path, model: ir.Model, body: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        user_metric(tmp_path, model, body).score(lambda feeds: [feeds["x"]])


def scored(tmp_path: Path, model: ir.Model, body: str) -> Score:
    return user_metric(tmp_path, model, body).score(lambda feeds: [feeds["x"]])


def test_a_number_for_each_sample_gives_an_interval(tmp_path: Path, model: ir.Model) -> None:
    number = scored(tmp_path, model, "return 90.0")
    assert (number.samples, number.interval(), number.drop_interval(number)) == (None, None, None)
    each = scored(tmp_path, model, "return [100.0] * 90 + [0.0] * 10")
    yielded = scored(tmp_path, model, "yield from [100.0] * 90 + [0.0] * 10")
    assert each == yielded
    assert (each.value, each.samples) == (90.0, 100)
    worse = scored(tmp_path, model, "return [100.0] * 85 + [0.0] * 15")
    low, high = each.drop_interval(worse) or (0, 0)
    assert 0 < low < 5 < high < 12
    assert each.drop_interval(number) is None
    low, high = each.interval() or (0, 0)
    assert 80 < low < 90 < high < 96


def test_weighted_samples_are_a_ratio(tmp_path: Path, model: ir.Model) -> None:
    """As the share of right characters, of lines of different lengths."""
    found = scored(tmp_path, model, "return [[100.0, 30], [50.0, 10], [0.0, 0]] * 20")
    assert found.value == pytest.approx(87.5)
    alike = scored(tmp_path, model, "return [[100.0, 1], [50.0, 1]] * 20")
    assert alike.interval() == pytest.approx(scored(tmp_path, model, "return [100.0, 50.0] * 20").interval())


def test_parts_are_combined_without_another_run(tmp_path: Path, model: ir.Model) -> None:
    """As a mean average precision, which is no mean over images."""
    body = "return [(90, 100)] * 40 + [(10, 100)] * 40, lambda p: 100 * sum(a for a, _ in p) / sum(b for _, b in p)"
    found = scored(tmp_path, model, body)
    assert (found.value, found.samples) == (50.0, 80)
    low, high = found.interval() or (0, 0)
    as_mean = scored(tmp_path, model, "return [90.0] * 40 + [10.0] * 40").interval() or (0, 0)
    assert (low, high) == pytest.approx(as_mean, abs=2.5)
    same = found.drop_interval(found) or (0, 0)
    assert same[0] < 0 < same[1] < 3


def test_pixels_of_an_image_are_one_sample(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 2, 2] x) => (float[n, 3, 2, 2] y) { y = Relu(x) }'
    x = np.random.default_rng(0).standard_normal((5, 3, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=x, labels=x.argmax(1))
    score = open_evaluation(str(tmp_path / "e.npz"), ir.from_onnx_text(text)).score(lambda feeds: [feeds["x"]])
    assert (score.samples, score.value) == (5, 100.0)
    assert score.drop_interval(score) == pytest.approx((-28, 28), abs=0.01)
