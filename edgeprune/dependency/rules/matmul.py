"""Matrix multiplications: MatMul, Gemm, Einsum."""

from __future__ import annotations

from edgeprune.dependency.dims import AFFINE, PRODUCT, NodeView, Rel, rule
from edgeprune.errors import RuleError


@rule("MatMul")
def matmul(n: NodeView) -> Rel:
    """``k`` is summed over; batch axes are broadcast."""
    a = "k" if n.rank(0) == 1 else "... m k"
    b = "k" if n.rank(1) == 1 else "... k n"
    dots = "... " if n.rank(0) > 1 or n.rank(1) > 1 else ""
    out = f"{dots}{'m ' if n.rank(0) > 1 else ''}{'n' if n.rank(1) > 1 else ''}"
    return Rel(f"{a}, {b} -> {out}", zeros=PRODUCT)


@rule("Gemm")
def gemm(n: NodeView) -> Rel:
    """A (m, k) times B (k, n), each possibly transposed, plus a broadcast C."""
    a = "k m" if n.attr("transA", 0) else "m k"
    b = "n k" if n.attr("transB", 0) else "k n"
    c = ""
    if n.has(2):
        rows, columns = n.out_shape()
        given = n.shape(2)
        names = [("m", rows), ("n", columns)][2 - len(given) :]
        c = " ".join("1" if d == 1 and whole != 1 else name for d, (name, whole) in zip(given, names, strict=False))
    return Rel(f"{a}, {b}, {c} -> m n", zeros=AFFINE)


@rule("Einsum")
def einsum(n: NodeView) -> Rel:
    """The equation's letters are the factors; a letter twice in one operand is not supported."""
    equation: str = n.attr("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    if not arrow:
        letters = sorted({c for c in left if c.isalpha()})
        right = ("..." if "..." in left else "") + "".join(c for c in letters if left.count(c) == 1)
    for term in (*operands, right):
        letters = [c for c in term if c.isalpha()]
        if len(set(letters)) < len(letters):
            raise RuleError(f"equation {equation!r} takes a diagonal")
    spelled = [" ".join(term.replace("...", "\0")).replace("\0", "...") for term in (*operands, right)]
    return Rel(f"{', '.join(spelled[:-1])} -> {spelled[-1]}", zeros=(tuple(range(len(operands))),))
