import numpy as np

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.activation_spool import Spool
from edgeprune.calibration.staged_run import StagedNetwork, largest_activation_bytes
from tests.small_models import branching as model


def test_running_by_segments_is_running_the_model() -> None:
    whole = model()
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    expected, _ = OnnxRuntime(1).load(whole).run({"x": x})
    with Spool() as spool:
        network = StagedNetwork(whole, {"one", "two", "side"}, {}, spool, "t/", 1)
        for part in (x[:3], x[3:]):
            network.feed({"x": part})
        for level in range(1, len(network.segments)):
            found = dict(network.run(level, ["y"] if level == 2 else []))
            network.release(level)
    np.testing.assert_allclose(np.concatenate([found[0]["y"], found[1]["y"]]), expected, rtol=0, atol=1e-6)


def test_sizes_are_those_of_one_sample() -> None:
    assert largest_activation_bytes(model()) == 16
    with Spool() as spool:
        assert StagedNetwork(model(), {"two"}, {}, spool, "t/", 1).stored_bytes(model()) == 32


def test_no_more_is_stored_than_is_said() -> None:
    whole = model()
    with Spool() as spool:
        network = StagedNetwork(whole, {"one", "two", "side"}, {"a": 1}, spool, "t/", 1)
        said = network.stored_bytes(whole)
        network.feed({"x": np.ones((3, 4), np.float32)})
        for level in range(1, len(network.segments)):
            list(network.run(level))
            network.release(level)
        assert spool.most_bytes == 3 * said > 0


def test_a_value_that_is_wanted_before_it_exists_is_kept_until_it_does() -> None:
    """Two layers whose sum ends a block are each other's skip connections, and one of them comes first."""
    whole = model()
    with Spool() as spool:
        network = StagedNetwork(whole, {"one", "two", "side"}, {"b": 1}, spool, "t/", 1)
        network.feed({"x": np.ones((3, 4), np.float32)})
        for level in range(1, len(network.segments)):
            list(network.run(level))
            if level == network.level_of["b"]:
                assert network.read("b", 0).shape == (3, 4)
            network.release(level)
