from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.inspection_tables import FrozenRow, causes, frozen_table


def row(tensor: str, reason: str, node: str, macs: int, axis: int = 0) -> FrozenRow:
    return FrozenRow(tensor, axis, 8, (Freeze("is tied to it", "between"), Freeze(reason, node)), macs)


ROWS = [
    row("a", "a convolution's batch or spatial axis", "conv1", 900, axis=2),
    row("a", "a convolution's batch or spatial axis", "conv1", 900, axis=3),
    row("b", "lengths before and after have no common factors", "reshape", 500),
    row("b", "lengths before and after have no common factors", "reshape", 500, axis=1),
    row("c", "output of the graph", "y", 20),
    row("d", "output of the graph", "z", 30),
]


def test_causes_are_grouped_and_those_that_hold_the_most_work_come_first() -> None:
    first, second = causes(ROWS)
    assert (first.nodes, first.axes, first.macs) == (("reshape",), 2, 500)
    assert (second.reason, second.nodes, second.axes, second.macs) == ("output of the graph", ("y", "z"), 2, 50)


def test_what_nobody_can_change_is_only_counted() -> None:
    table = frozen_table(ROWS, 40)
    assert len(table.rows) == 2
    assert str(table.caption) == "2 weight axes of kernels, gates and batches not shown"
