"""Binds one node's relation to its tensors: names become factors, and sizes are checked against the axes."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune.dependency.dims import Rel, Term
from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import DYNAMIC, UNKNOWN, Contraction, Relations
from edgeprune.errors import RuleError


class Binder:
    """One relation bound to one node."""

    def __init__(self, rels: Relations, index: int, node: ir.Node, rel: Rel) -> None:
        self.rels, self.index, self.node, self.rel = rels, index, node, rel
        self.factor: dict[str, int] = {}
        self.broadcast: list[int] = []
        self.late: list[tuple[int, str, tuple[str, ...], str]] = []
        self.places: dict[str, list[tuple[int, int]]] = {}
        self.why = Freeze(rel.why or f"{node.op_type} works along this axis", node.name)

    def bind(self) -> None:
        """Add the node's relation to the graph's. Raises RuleError if it does not fit; the caller freezes the node."""
        grammar = self.rel.grammar
        node = self.node
        if len(node.inputs) > len(grammar.inputs) or len(node.outputs) > len(grammar.outputs):
            raise RuleError(
                f"the node has {len(node.inputs)} inputs and {len(node.outputs)} outputs, its relation "
                f"{grammar.text!r} has {len(grammar.inputs)} and {len(grammar.outputs)}"
            )
        for term, value in zip(grammar.outputs, node.outputs, strict=False):
            self.term(term, value, -1)
        for k, (term, given) in enumerate(zip(grammar.inputs, node.inputs, strict=False)):
            if given is not None:
                self.term(term, given, k)
        self.structure()
        for name in grammar.frozen:
            if name in self.factor:
                self.rels.freeze(self.factor[name], self.why)
        for name in grammar.statistic:
            if name in self.factor:
                self.rels.statistics.append((self.factor[name], self.index))
        for name in grammar.contracted:
            if name in self.factor and self.places.get(name):
                self.rels.contractions.append(Contraction(self.index, self.factor[name], tuple(self.places[name])))
        reads = [(self.factor[a], self.factor[b], self.index) for a, b in self.rel.normalized_reads]
        self.rels.normalized_reads += reads
        for name, operand, axis in self.rel.sums:
            self.rels.contractions.append(Contraction(self.index, self.factor[name], ((operand, axis),)))

    def term(self, term: Term, value: ir.Value, operand: int) -> None:
        """Bind one term to a tensor; ``operand`` is its number, or -1 for a result."""
        axes = self.rels.axes.get(value.name or "")
        if axes is None:
            if all(a.kind == "rest" for a in term) or (operand < 0 and not value.uses()):
                return
            raise RuleError(f"the shape of {value.name} is unknown")
        spread = len(axes) - sum(a.kind not in ("rest", "broadcast") for a in term)
        if spread < 0 or (spread and not any(a.kind in ("rest", "broadcast") for a in term)):
            raise RuleError(
                f"{value.name} has {len(axes)} axes, its term in {self.rel.text!r} has {len(axes) - spread}"
            )
        at = 0
        for axis in term:
            if axis.kind == "rest":
                for f in axes[at : at + spread]:
                    self.rels.freeze(f, self.why)
                at += spread
                continue
            if axis.kind == "broadcast":
                self.spread(axes[at : at + spread])
                at += spread
                continue
            f = axes[at]
            if axis.kind == "factor":
                self.same(axis.factors[0], f)
                self.places.setdefault(axis.factors[0], []).append((operand, at))
            elif axis.kind == "frozen":
                self.rels.freeze(f, self.why)
            elif axis.kind == "one":
                if self.rels.sizes[f] not in (1, UNKNOWN) and f not in self.rels.open:
                    raise RuleError(f"axis {at} of {value.name} has length {self.rels.sizes[f]}, not 1")
            else:
                self.late.append((f, axis.kind, axis.factors, axis.index))
                if axis.kind == "product":
                    for name in axis.factors:
                        self.places.setdefault(name, []).append((operand, at))
            at += 1

    def same(self, name: str, f: int) -> None:
        """Tie an axis to the other axes of its name."""
        first = self.factor.setdefault(name, f)
        if first == f:
            return
        a, b = self.rels.sizes[first], self.rels.sizes[f]
        if self.freeze_unequal(first, f):
            return
        if a != b and UNKNOWN not in (a, b):
            raise RuleError(f"factor {name!r} of {self.rel.text!r} has length {a} and {b}")
        self.rels.equal.append((first, f, self.index))

    def freeze_unequal(self, *factors: int) -> bool:
        """Freeze factors of different lengths if one is open, since they may be equal at run time; whether it did."""
        sizes = {self.rels.sizes[f] for f in factors}
        if len(sizes) == 1 or UNKNOWN in sizes or not self.rels.open.intersection(factors):
            return False
        for f in factors:
            self.rels.freeze(f, Freeze(DYNAMIC, self.node.name))
        return True

    def spread(self, axes: list[int]) -> None:
        """Tie broadcast axes, right-aligned; an axis of length one is not tied to a longer one."""
        sizes = self.rels.sizes
        while len(self.broadcast) < len(axes):
            self.broadcast.insert(0, -1)
        offset = len(self.broadcast) - len(axes)
        for k, f in enumerate(axes):
            first = self.broadcast[offset + k]
            if first < 0:
                self.broadcast[offset + k] = f
            elif sizes[f] == sizes[first] or UNKNOWN in (sizes[f], sizes[first]):
                if sizes[f] != 1:
                    self.rels.equal.append((first, f, self.index))
            elif sizes[f] != 1 and not self.freeze_unequal(first, f):
                raise RuleError(f"lengths {sizes[first]} and {sizes[f]} cannot be broadcast")

    def structure(self) -> None:
        """Add products, concatenations and takes, now that every factor that is an axis alone has its length."""
        open_lengths = {name for name, size in self.rel.sizes.items() if not isinstance(size, int)}
        sizes = {name: self._number(size) for name, size in self.rel.sizes.items()}
        for name, f in self.factor.items():
            if sizes.setdefault(name, self.rels.sizes[f]) != self.rels.sizes[f]:
                if f in self.rels.open or name in open_lengths:
                    self.rels.freeze(f, Freeze(DYNAMIC, self.node.name))
                    sizes[name] = self.rels.sizes[f]
                    continue
                raise RuleError(
                    f"factor {name!r} of {self.rel.text!r} has length {self.rels.sizes[f]}, the rule says {sizes[name]}"
                )
        for f, kind, factors, _ in self.late:
            if kind == "take":
                sizes.setdefault(factors[0], UNKNOWN)
                continue
            self._last_size(sizes, factors, f, kind)
        for name, size in sizes.items():
            if name not in self.factor:
                self.factor[name] = self.rels.new(size, open_length=name in open_lengths)
                if size == UNKNOWN:
                    self.rels.freeze(self.factor[name], Freeze(DYNAMIC, self.node.name))
        for f, kind, factors, index in self.late:
            ids = tuple(self.factor[n] for n in factors)
            whole = self.rels.sizes[f]
            if whole == UNKNOWN or any(self.rels.sizes[i] == UNKNOWN for i in ids) or self._loose(f, ids, kind, index):
                for i in (f, *ids):
                    self.rels.freeze(i, Freeze(DYNAMIC, self.node.name))
            elif kind == "product":
                if math.prod(self.rels.sizes[i] for i in ids) != whole:
                    raise RuleError(
                        f"({' '.join(factors)}) of {self.rel.text!r} does not fill an axis of length {whole}"
                    )
                self.rels.products.append((f, ids, self.index))
            elif kind == "concat":
                if sum(self.rels.sizes[i] for i in ids) != whole:
                    raise RuleError(
                        f"[{'|'.join(factors)}] of {self.rel.text!r} does not fill an axis of length {whole}"
                    )
                self.rels.concats.append((f, ids, self.index))
            else:
                positions = self.rel.indices.get(index)
                if positions is None or len(positions) != whole:
                    raise RuleError(f"index {index!r} of {self.rel.text!r} does not have the axis's length {whole}")
                if len(positions) and not (positions.min() >= 0 and positions.max() < self.rels.sizes[ids[0]]):
                    raise RuleError(f"index {index!r} of {self.rel.text!r} is out of range")
                self.rels.takes.append((ids[0], positions, f, self.index))

    def _number(self, size: int | str) -> int:
        number = self.rels.stand_ins.number(size)
        return UNKNOWN if number is None else number

    def _loose(self, whole: int, parts: tuple[int, ...], kind: str, index: str) -> bool:
        """Whether open lengths are involved whose stand-ins do not fit together: then nothing is known of positions."""
        if not self.rels.open.intersection((whole, *parts)):
            return False
        sizes = [self.rels.sizes[i] for i in parts]
        if kind == "take":  # positions of an axis of open length are not those of its stand-in
            return True
        together = math.prod(sizes) if kind == "product" else sum(sizes)
        return together != self.rels.sizes[whole]

    def _has_open(self, factors: tuple[str, ...], axis: int) -> bool:
        return axis in self.rels.open or any(self.factor.get(name, -1) in self.rels.open for name in factors)

    def _last_size(self, sizes: dict[str, int], factors: tuple[str, ...], axis: int, kind: str) -> None:
        """Derive the one missing length of a product or concatenation."""
        whole = self.rels.sizes[axis]
        missing = [n for n in factors if n not in sizes]
        if not missing:
            return
        if len(missing) > 1:
            raise RuleError(f"the lengths of {' and '.join(missing)} in {self.rel.text!r} are not given")
        known = [sizes[n] for n in factors if n in sizes]
        if whole == UNKNOWN or UNKNOWN in known or self._has_open(factors, axis):
            sizes[missing[0]] = UNKNOWN
        elif kind == "concat":
            sizes[missing[0]] = whole - sum(known)
        else:
            rest = math.prod(known)
            if rest == 0 or whole % rest:
                raise RuleError(f"({' '.join(factors)}) of {self.rel.text!r} does not divide an axis of length {whole}")
            sizes[missing[0]] = whole // rest
