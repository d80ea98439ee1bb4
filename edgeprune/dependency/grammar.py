"""The parser of axis relations; the language is described in :mod:`edgeprune.dependency.dims`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from edgeprune.errors import RuleError


@dataclass(frozen=True)
class Axis:
    """One axis of a term.

    ``factors`` are its names without marks; ``index`` is the name of the index array of a ``take``.
    """

    kind: Literal["factor", "product", "concat", "take", "frozen", "rest", "one", "broadcast"]
    factors: tuple[str, ...] = ()
    index: str = ""


Term = tuple[Axis, ...]


@dataclass(frozen=True)
class Grammar:
    """A parsed relation: a term for each operand and each result, and the kinds of its factors."""

    text: str
    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]
    statistic: frozenset[str]
    frozen: frozenset[str]
    contracted: frozenset[str]
    indices: frozenset[str]


_TOKEN = re.compile(r"\s*(\.\.\.|->|[.,()|@\[\]~!+]|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|\S)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class _Parser:
    """Recursive descent over the tokens of one relation."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(m.group(1), m.start(1)) for m in _TOKEN.finditer(text)]
        self.at = 0
        self.statistic: set[str] = set()
        self.frozen: set[str] = set()
        self.made: set[str] = set()

    def fail(self, what: str, back: int = 0) -> RuleError:
        k = self.at - back
        where = f"at column {self.tokens[k][1] + 1}" if k < len(self.tokens) else "at its end"
        return RuleError(f"relation {self.text!r}: {what} {where}")

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def factor(self) -> str:
        mark = self.take() if self.peek() in ("~", "!", "+") else ""
        name = self.take()
        if not _NAME.match(name):
            raise self.fail(f"a factor's name is missing, found {name!r}" if name else "a factor's name is missing", 1)
        if mark:
            {"~": self.statistic, "!": self.frozen, "+": self.made}[mark].add(name)
        return name

    def axis(self) -> Axis:
        token = self.peek()
        if token in (".", "..."):
            self.take()
            return Axis("frozen" if token == "." else "broadcast")
        if token == "1":
            self.take()
            return Axis("one")
        if token == "(":
            return Axis("product", self.several("(", ")", ""))
        if token == "[":
            return Axis("concat", self.several("[", "]", "|"))
        name = self.factor()
        if self.peek() == "@":
            self.take()
            return Axis("take", (name,), self.factor())
        return Axis("factor", (name,))

    def several(self, opening: str, closing: str, between: str) -> tuple[str, ...]:
        start = self.at
        self.take()
        names = [self.factor()] if self.peek() != closing else []
        while self.peek() not in (closing, ""):
            if between and self.take() != between:
                raise self.fail(f"{between!r} or {closing!r} is missing", 1)
            names.append(self.factor())
        if self.peek() != closing:
            self.at = start
            raise self.fail(f"{opening!r} is not closed")
        self.take()
        if not names:
            self.at = start
            raise self.fail(f"{opening + closing!r} is empty")
        return tuple(names)

    def term(self) -> Term:
        axes: list[Axis] = []
        while self.peek() not in (",", "->", ""):
            axis = self.axis()
            if axis.kind == "broadcast" and any(a.kind == "broadcast" for a in axes):
                raise self.fail("a term has more than one '...'", 1)
            axes.append(axis)
        if axes and axes[-1].kind == "frozen":
            if any(a.kind == "broadcast" for a in axes):
                raise self.fail("'...' and a closing '.' cannot stand in one term", 1)
            axes[-1] = Axis("rest")
        return tuple(axes)

    def side(self) -> tuple[Term, ...]:
        terms = [self.term()]
        while self.peek() == ",":
            self.take()
            terms.append(self.term())
        return tuple(terms)


def _direct(terms: tuple[Term, ...]) -> set[str]:
    return {f for t in terms for a in t if a.kind in ("factor", "product") for f in a.factors}


@lru_cache(maxsize=4096)
def parse(text: str) -> Grammar:
    """Parse a relation.

    Raises:
        RuleError: the text is malformed, and the error names the column; a result's factor is in no operand and not
            marked ``+``; or a factor is twice in one product.
    """
    p = _Parser(text)
    inputs = p.side()
    if p.take() != "->":
        raise p.fail("'->' is missing", 1)
    outputs = p.side()
    if p.peek():
        raise p.fail(f"unexpected {p.peek()!r}")
    for axis in (a for t in (*inputs, *outputs) for a in t):
        if axis.kind == "product" and len(set(axis.factors)) < len(axis.factors):
            raise RuleError(f"relation {text!r}: a factor stands twice in ({' '.join(axis.factors)})")
    every = [a for t in (*inputs, *outputs) for a in t]
    given = {f for t in inputs for a in t for f in a.factors}
    held = {f for t in outputs for a in t for f in a.factors}
    if stray := sorted(held - given - p.made - p.frozen):
        raise RuleError(
            f"relation {text!r}: factor {stray[0]!r} of a result is in no operand "
            f"(one that the operator makes is +{stray[0]})"
        )
    return Grammar(
        text=text,
        inputs=inputs,
        outputs=outputs,
        statistic=frozenset(p.statistic),
        frozen=frozenset(p.frozen - p.made),
        contracted=frozenset(_direct(inputs) - held - p.statistic),
        indices=frozenset(a.index for a in every if a.index),
    )
