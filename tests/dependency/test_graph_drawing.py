from edgeprune.dependency.graph_drawing import to_dot
from edgeprune.dependency.solve import analyse
from tests.models import single


def test_nodes_are_coloured_by_their_group() -> None:
    model = single(
        "g (float[1,3,4,4] x) => (float[1,4,4,4] y) { h = Conv(x, w1) r = Relu(h) y = Conv(r, w2) }",
        w1=(6, 3, 1, 1),
        w2=(4, 6, 1, 1),
    )
    lines = to_dot(analyse(model)).splitlines()
    assert lines[0] == "digraph groups {"
    boxes = [line for line in lines if "tooltip" in line]
    assert ['tooltip="w1:0"' in box for box in boxes] == [True, True, False]
    assert 'tooltip="frozen: ' in boxes[2]
    assert [line.strip() for line in lines if "->" in line] == ["n0 -> n1;", "n1 -> n2;"]
