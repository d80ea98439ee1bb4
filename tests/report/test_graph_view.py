import pytest

from edgeprune.report.graph_view import MOST_DRAWN, Box, Picture, channels, graph_view, layout
from tests.report.pages import Page


@pytest.mark.parametrize(
    ("sources", "places"),
    [
        ([], []),
        ([[], [0], [1]], [(0, 0), (0, 1), (0, 2)]),
        ([[], [0], [0], [1, 2]], [(0.5, 0), (0, 1), (1, 1), (0.5, 2)]),
        ([[], [0], [1, 0]], [(0, 0), (0, 1), (0, 2)]),
    ],
)
def test_nodes_stand_below_their_sources(sources: list[list[int]], places: list[tuple[float, int]]) -> None:
    assert layout(sources) == places


def box(name: str, *groups: int, sources: tuple[int, ...] = ()) -> Box:
    return Box("Conv", name, groups, "tip", sources, {})


def test_the_view_is_named_and_can_be_coloured_by_what_is_known() -> None:
    picture = Picture((box("a", 0, 1), box("b", sources=(0,))), ("w:0", "v:0"))
    plain, rich = Page(graph_view(picture)), Page(graph_view(picture, {"a": {"precision": "int8", "share": "0.5"}}))
    (label,) = (a["aria-label"] for tag, a in plain.found if tag == "svg")
    assert "2 nodes" in label
    assert "2 groups" in label
    options = [[a["value"] for tag, a in page.found if tag == "option"] for page in (plain, rich)]
    assert options == [["group"], ["group", "precision", "time"]]
    (node,) = (a for _, a in rich.found if a.get("data-precision"))
    assert node == {"class": "node", "data-groups": "0 1", "data-precision": "int8", "data-share": "0.5"}


def test_a_graph_that_nobody_could_read_is_not_drawn() -> None:
    text = graph_view(Picture(tuple(box(str(k)) for k in range(MOST_DRAWN + 1)), ()))
    assert "<svg" not in text
    assert "3,001 nodes" in text


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
