from __future__ import annotations

import pytest

from edgeprune.calibration.accuracy import hint_of_samples
from edgeprune.calibration.evaluation import UserMetric
from edgeprune.calibration.evaluator import Evaluator
from edgeprune.calibration.sample_scores import Score
from edgeprune.errors import EvaluationError


def test_a_limit_that_permits_every_loss_is_refused():
    evaluation = UserMetric("evaluate.py:accuracy", lambda model: 0.93, ("x",))
    evaluator = Evaluator(evaluation, Score(0.93), None)
    evaluator.check_scale(0.5)
    with pytest.raises(EvaluationError, match=r"scores 0.93 by --eval, so --max-drop 1 permits the loss of all of it"):
        evaluator.check_scale(1.0)
    found = evaluator.accuracy(lambda feeds: [])
    assert found.drop_interval is None
    (hint,) = hint_of_samples(found)
    assert "accuracy returns one number: let it return a list with one number for each sample" in hint
