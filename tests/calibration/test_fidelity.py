from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.accuracy import compare_with_original, hint_of_samples
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.fidelity import SCORED_ITEMS, Fidelity, fidelity
from edgeprune.calibration.run import LoadedWhenRun, Run
from edgeprune.errors import EvaluationError
from edgeprune.outputs.output_spec import (
    CLASS_SCORES,
    DETECTIONS,
    MAP,
    MATCHES,
    SQNR,
    TOP1,
    Head,
    Outputs,
    OutputSpec,
    Part,
)
from tests.small_models import calibration

LOGITS = OutputSpec(("y",), CLASS_SCORES, TOP1, "in a test")
MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) { y = Identity(x) }'


@pytest.fixture
def data() -> Calibration:
    return calibration(x=np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32))


def identity(feeds: dict) -> list:
    return [feeds["x"]]


def test_the_fidelity_of_logits_is_agreement(data: Calibration) -> None:
    found = Fidelity(identity, data, Outputs(("y",), (LOGITS,)))
    (same,) = found.compare(lambda feeds: [2 * feeds["x"]])
    assert (same.after, same.drop, same.metric, same.unit) == (100.0, 0.0, "top-1 agreement", "%")
    (other,) = found.compare(lambda feeds: [-feeds["x"]])
    assert other.drop == 100.0
    accuracy = compare_with_original(found, identity)
    assert (accuracy.metric, accuracy.before, accuracy.samples) == ("top-1 agreement with the original", 100.0, 200)


def test_the_fidelity_of_maps_is_sqnr_per_channel(data: Calibration) -> None:
    scale = np.array([1.0, 1000.0], np.float32)[None, :, None]

    def reference(feeds: dict) -> list:
        return [feeds["x"][:, None, :] * scale]

    found = Fidelity(reference, data, Outputs(("y",), (OutputSpec(("y",), MAP, SQNR, "in a test"),)))

    def after(run: object) -> float:
        (score,) = found.compare(run)
        return score.after

    assert after(reference) == 120
    assert after(lambda feeds: [1.01 * reference(feeds)[0]]) == pytest.approx(40.0, abs=1e-3)
    quiet = np.array([1.1, 1.0], np.float32)[None, :, None]
    assert after(lambda feeds: [quiet * reference(feeds)[0]]) == pytest.approx(23.01, abs=0.01)
    assert after(lambda feeds: [np.nan * reference(feeds)[0]]) == -120
    assert after(lambda feeds: [reference(feeds)[0][:, :1]]) == -120, "a size that changed agrees in nothing"
    assert compare_with_original(found, reference).metric == "SQNR against the original"


def test_the_worst_output_is_the_fidelity(data: Calibration) -> None:
    outputs = Outputs(("y", "z"), (LOGITS, OutputSpec(("z",), MAP, SQNR, "in a test")))
    found = Fidelity(lambda feeds: [feeds["x"], feeds["x"]], data, outputs)
    accuracy = compare_with_original(found, lambda feeds: [feeds["x"], 1.1 * feeds["x"]])
    assert [score.drop for score in accuracy.outputs] == [0.0, pytest.approx(1.0, rel=1e-3)]
    assert (accuracy.unit, accuracy.before) == ("dB", None)
    assert accuracy.drop == pytest.approx(1.0, rel=1e-3)
    only_first = Outputs(outputs.names, (LOGITS, OutputSpec(("z",), MAP, SQNR, "in a test", weight=0.0)))
    found = Fidelity(lambda feeds: [feeds["x"], feeds["x"]], data, only_first)
    assert compare_with_original(found, lambda feeds: [feeds["x"], 1.1 * feeds["x"]]).drop == 0.0


def test_the_original_runs_once_for_all_comparisons(data: Calibration) -> None:
    runs = []

    def reference(feeds: dict) -> list:
        runs.append(feeds)
        return identity(feeds)

    found = fidelity(reference, data, ir.from_onnx_text(MODEL))
    looked_at = len(runs)
    assert found.score(identity) == pytest.approx(0.0, abs=1e-6)
    batches = len(runs) - looked_at
    assert found.score(lambda feeds: [-feeds["x"]]) < -50
    assert len(runs) == looked_at + batches


def test_a_model_is_loaded_for_a_comparison_and_given_up_behind_it(data: Calibration) -> None:
    loads: list[int] = []

    def load() -> Run:
        loads.append(1)
        return identity

    original = LoadedWhenRun(load)
    held_out = Fidelity(original, data, Outputs(("y",), (LOGITS,)), kept_bytes=1000)
    for count in (1, 2):
        held_out.compare(identity)
        assert len(loads) == count
    assert original.loaded() is identity
    assert original.loaded() is identity
    assert len(loads) == 3


def test_another_number_of_outputs_is_refused(data: Calibration) -> None:
    with pytest.raises(EvaluationError, match="2 outputs, the original 1"):
        Fidelity(identity, data, Outputs(("y",), (LOGITS,))).compare(lambda feeds: [feeds["x"]] * 2)


def test_intervals_come_from_single_samples() -> None:
    data = calibration(x=np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32))
    held_out = Fidelity(identity, data, Outputs(("y",), (LOGITS,)))
    found = compare_with_original(held_out, identity)
    assert found.interval == pytest.approx((83.9, 100), abs=0.1)
    assert found.drop_interval == pytest.approx((0, 16.1), abs=0.1)
    assert found.outputs[0].interval == found.interval
    (hint,) = hint_of_samples(found)
    assert hint.startswith("20 samples are too few to tell drops below 16 points (95%); about 390 tell one point: give")
    assert held_out.compare(identity)[0].interval is None


def test_a_comparison_with_a_limit_ends_when_it_is_surely_beyond(data: Calibration) -> None:
    held_out = Fidelity(identity, data, Outputs(("y",), (LOGITS,)))
    (score,), samples = held_out.compare_until(lambda feeds: [-feeds["x"]], 1.0)
    assert (score.drop, samples) == (100.0, SCORED_ITEMS)
    assert held_out.compare_until(identity, 1.0) == (held_out.compare(identity, with_intervals=True), 200)
    assert compare_with_original(held_out, lambda feeds: [-feeds["x"]]).samples == 200


@pytest.mark.parametrize(("worse", "samples"), [(1, 200), (2, 200), (8, SCORED_ITEMS)])
def test_the_first_samples_may_be_the_worst(worse: int, samples: int, data: Calibration) -> None:
    """One of 200 is half a point, two are one: within the limit, however early they come. Eight are four points."""
    held_out = Fidelity(identity, data, Outputs(("y",), (LOGITS,)))
    seen: list[int] = []

    def run(feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        place = sum(seen) + np.arange(len(feeds["x"]))
        seen.append(len(place))
        return [np.where(place[:, None] < worse, -feeds["x"], feeds["x"])]

    (score,), counted = held_out.compare_until(run, 1.0)
    assert (counted, sum(seen)) == (samples, samples)
    assert samples != 200 or score.drop == worse / 2


def test_samples_without_detections_do_not_make_a_score_surer() -> None:
    """Of 40 images three show something: F1 rests on three samples, not on 40 of which 37 agree in nothing."""
    x = np.zeros((40, 6, 2), np.float32)
    x[:, :4] = 30
    x[:3, 4] = 0.9
    head = Head(Part("y", 1, 0, 4), Part("y", 1, 4, 6))
    outputs = Outputs(("y",), (OutputSpec(("y",), DETECTIONS, MATCHES, "in a test", head=head),))
    (score,) = Fidelity(identity, calibration(x=x), outputs).compare(identity, with_intervals=True)
    assert score.after == 100
    assert score.interval == pytest.approx((43.85, 100), abs=0.1)
