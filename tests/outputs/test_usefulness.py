import pytest

from edgeprune.outputs.usefulness import unseen, usefulness
from edgeprune.report import Accuracy, OutputScore


def fidelity(*outputs: OutputScore) -> Accuracy:
    return Accuracy("fidelity", "x", "%", None, 0.0, 0.0, outputs=outputs)


def score(metric: str, unit: str, after: float, weight: float = 1.0) -> OutputScore:
    return OutputScore(("y",), "kind", metric, unit, None, after, 0.0, weight)


@pytest.mark.parametrize(
    ("metric", "unit", "good", "bad", "said"),
    [
        ("F1 of detections", "%", 50.0, 30.0, "most detections are lost"),
        ("top-1 agreement", "%", 80.0, 79.0, "classes differ"),
        ("SQNR", "dB", 10.0, 1.7, "1.7 dB"),
        ("cosine similarity", "%", 85.0, -3.0, "point elsewhere"),
    ],
)
def test_each_metric_has_a_floor(metric: str, unit: str, good: float, bad: float, said: str) -> None:
    assert usefulness(fidelity(score(metric, unit, good))) == ()
    (reason,) = usefulness(fidelity(score(metric, unit, good), score(metric, unit, bad)))
    assert said in reason
    assert "'y'" in reason


def test_outputs_that_do_not_count_have_no_floor() -> None:
    assert usefulness(fidelity(score("SQNR", "dB", 1.0, weight=0.0))) == ()


def test_an_older_report_is_judged_by_its_one_figure() -> None:
    (reason,) = usefulness(Accuracy("fidelity", "SQNR against the original", "dB", None, 1.7, 68.0))
    assert "1.7 dB" in reason


def test_an_evaluation_may_lose_a_fifth_of_its_score() -> None:
    assert usefulness(Accuracy("evaluation", "top-1 accuracy", "%", 90.0, 75.0, 15.0)) == ()
    (reason,) = usefulness(Accuracy("evaluation", "mAP50", "", 0.5, 0.3, 0.2))
    assert "0.5 to 0.3" in reason
    assert usefulness(Accuracy("evaluation", "loss, negated", "", -3.0, -9.0, 6.0)) == ()


def test_nothing_is_said_of_what_was_not_scored() -> None:
    assert usefulness(None) == ()


def test_an_output_that_an_evaluation_does_not_see_is_said() -> None:
    accuracy = Accuracy("evaluation", "top-1", "%", 90.0, 89.0, 1.0, outputs=(score("SQNR", "dB", 3.0),))
    assert usefulness(accuracy) == ()
    (reason,) = unseen(accuracy)
    assert "3.0 dB" in reason
    assert unseen(fidelity(score("SQNR", "dB", 3.0))) == ()
