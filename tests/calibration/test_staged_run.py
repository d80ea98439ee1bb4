import numpy as np

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.activation_spool import Spool
from edgeprune.calibration.staged_run import StagedNetwork, boundary_bytes, largest_activation_bytes
from edgeprune.graph.segments import cut_into_segments
from tests.small_models import branching as model


def test_running_by_segments_is_running_the_model() -> None:
    whole = model()
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    expected, _ = OnnxRuntime(1).load(whole).run({"x": x})
    with Spool() as spool:
        network = StagedNetwork(whole, {"one", "two", "side"}, (), spool, "t/", 1)
        for part in (x[:3], x[3:]):
            network.feed({"x": part})
        for level in range(1, len(network.segments)):
            found = dict(network.run(level, ["y"] if level == 2 else []))
            network.release(level)
    np.testing.assert_allclose(np.concatenate([found[0]["y"], found[1]["y"]]), expected, rtol=0, atol=1e-6)


def test_sizes_are_those_of_one_sample() -> None:
    assert largest_activation_bytes(model()) == 16
    assert boundary_bytes(cut_into_segments(model(), {"two"}), model()) == 48
