"""Reductions, arg-reductions and sorts."""

from __future__ import annotations

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.dependency.rules.moments import is_moment, reduced_axes
from edgeprune.dependency.zeroing import not_negative
from edgeprune.errors import RuleError


def _reduce(n: NodeView, mark: str, **settings: object) -> Rel:
    rank, over = n.rank(0), set(reduced_axes(n))
    data = axes(rank, {k: f"{mark}r{k}" for k in over})
    if n.attr("keepdims", 1):
        result = axes(rank, dict.fromkeys(over, "1"))
    else:
        result = " ".join(f"a{k}" for k in range(rank) if k not in over)
    return Rel(f"{data}, . -> {result}", **settings)  # type: ignore[arg-type]


@rule("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def reduce_sum(n: NodeView) -> Rel:
    """A position that is zero adds nothing, and can be removed."""
    return _reduce(n, "", zeros=LINEAR)


@rule("ReduceMean")
def reduce_mean(n: NodeView) -> Rel:
    """As a sum, whose repair corrects for fewer positions; a statistic in a normalization of single operators."""
    if is_moment(n, reduced_axes(n)):
        return _reduce(n, "~")
    return _reduce(n, "", zeros=LINEAR)


@repair("ReduceMean")
def mean_of_fewer(fix: Repair) -> None:
    """Scale to the mean over all positions; removed ones count as zeros."""
    over = reduced_axes(fix.view)
    factor = 1.0
    for k in [] if is_moment(fix.view, over) else over:
        if fix.kept(0, k) is not None:
            factor *= fix.length(0, k) / fix.old_length(0, k)
    if factor != 1.0:
        fix.scale_result(factor)


@rule("ReduceMax")
def reduce_max(n: NodeView) -> Rel:
    """A value that is never negative can lose positions that are zero: the others determine the maximum."""
    if not_negative(n.node.inputs[0]):
        return _reduce(n, "", zeros=LINEAR)
    return reduce_other(n)


@rule("ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp")
def reduce_other(n: NodeView) -> Rel:
    """Any position may determine the result."""
    zeros = LINEAR if n.op in ("ReduceMax", "ReduceMin", "ReduceProd") else None
    return _reduce(n, "!", zeros=zeros, why=f"{n.op} over this axis")


@rule("ArgMax", "ArgMin")
def arg_reduce(n: NodeView) -> Rel:
    """Positions are numbered along one axis."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    result = axes(rank, {k: "1"}) if n.attr("keepdims", 1) else " ".join(f"a{j}" for j in range(rank) if j != k)
    return Rel(f"{axes(rank, {k: '!r'})} -> {result}", why=f"{n.op} numbers this axis")


@rule("CumSum")
def cumulative_sum(n: NodeView) -> Rel:
    """Later positions contain earlier ones."""
    rank = n.rank(0)
    whole = axes(rank, {n.axis(n.ints(1)[0], rank): "!c"})
    return Rel(f"{whole}, . -> {whole}", zeros=LINEAR, why="CumSum runs along this axis")


@rule("Trilu")
def triangle(n: NodeView) -> Rel:
    """Rows and columns are compared by position."""
    rank = n.rank(0)
    if rank < 2:
        raise RuleError("fewer than two axes")
    whole = axes(rank, {rank - 2: "!r", rank - 1: "!c"})
    return Rel(f"{whole}, . -> {whole}", zeros=LINEAR, why="a triangle is cut from these axes")
