import pytest

from edgeprune.report.picture import Box, channels

PLAN = {
    "initializers": {
        "w": {"0": {"role": "producer", "kept": [0, 1, 3]}, "1": {"role": "consumer", "kept": [2]}},
        "b": {"0": {"role": "producer", "kept": [0, 1, 3]}},
        "scale": {"0": {"role": "pointwise", "kept": [0]}},
    }
}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"w": (4, 8, 3, 3), "b": (4,)}, ("3 of 4", "1 of 8")),
        ({"b": (4,)}, ("3 of 4", "")),
        ({"scale": (5,), "other": (9, 9)}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_channels_of_a_node(weights: dict[str, tuple[int, ...]], said: tuple[str, str]) -> None:
    assert channels(Box("Conv", "c", (), "", (), weights), PLAN) == said
    assert channels(Box("Conv", "c", (), "", (), weights), {}) == ("", "")
