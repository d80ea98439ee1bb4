"""The plan: every decision of a compile or a prune, as ``plan.json`` stores it (schema 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.dependency import Analysis, Cut
from edgeprune.errors import UsageError

SCHEMA = 1


@dataclass(frozen=True)
class GroupPlan:
    """The units of a group that stay, of ``size`` units, and the tensors that the group cuts."""

    id: str
    unit: str
    size: int
    kept: tuple[int, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class AxisPlan:
    """Positions that stay on one axis of an initializer, and the role of the axis for the removed channels."""

    role: str
    kept: tuple[int, ...]


@dataclass(frozen=True)
class LayerPlan:
    """Precision and sparsity of one node; ``latency_us`` is predicted for the block that the node leads, else None.

    ``reason`` says why a node is in FP32 where the others are in FP16, else it is None.
    """

    node: str
    op: str
    precision: str
    sparsity: str = "dense"
    latency_us: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """Every decision, with the model for which it was made.

    Attributes:
        target: name of the target.
        model_file: name of the compiled file.
        model_sha256: SHA-256 of that file.
        groups: groups in the order of the analysis.
        initializers: initializer name -> axis -> positions that stay; enough to cut a PyTorch checkpoint the same way.
        layers: layers in graph order.
        baseline_ms: latency of the original, or None if nothing was measured.
        predicted_ms: predicted latency of the plan, or None.
        seed: seed of all random numbers.
        tokens: how tokens leave a transformer: its setting, and site, node, tokens, and those that leave, of each step;
            empty if all stay.
        ranks: node -> values between the two layers that took its place; the first one is named ``<node>/rank``, unless
            the layer before took it in.
        embedding: channels of a transformer's residual stream, and how many are kept in the basis of its principal
            directions; empty if it is as it was.
        input_shapes: input name -> sizes at which the groups hold, if the model with open axes has fewer; else empty.
    """

    target: str
    model_file: str
    model_sha256: str
    groups: tuple[GroupPlan, ...] = ()
    initializers: Mapping[str, Mapping[int, AxisPlan]] = field(default_factory=dict)
    layers: tuple[LayerPlan, ...] = ()
    baseline_ms: float | None = None
    predicted_ms: float | None = None
    seed: int = 0
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    embedding: Mapping[str, int] = field(default_factory=dict)

    @property
    def cut(self) -> Cut:
        """Group id -> kept units, for the groups that lose units."""
        return {g.id: np.array(g.kept, dtype=np.int64) for g in self.groups if len(g.kept) < g.size}

    def to_json(self) -> dict[str, Any]:
        """The object that ``plan.json`` holds."""
        return {
            "schema": SCHEMA,
            "target": self.target,
            "model": {"file": self.model_file, "sha256": self.model_sha256},
            "groups": [asdict(g) for g in self.groups],
            "initializers": {
                name: {str(axis): asdict(a) for axis, a in axes.items()} for name, axes in self.initializers.items()
            },
            "layers": [asdict(x) for x in self.layers],
            "latency_ms": {"baseline": self.baseline_ms, "predicted": self.predicted_ms},
            "seed": self.seed,
            **({"tokens": dict(self.tokens)} if self.tokens else {}),
            **({"ranks": dict(self.ranks)} if self.ranks else {}),
            **({"embedding": dict(self.embedding)} if self.embedding else {}),
            **({"input_shapes": {n: list(s) for n, s in self.input_shapes.items()}} if self.input_shapes else {}),
        }

    def save(self, path: Path) -> None:
        """Write ``plan.json``."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of ``to_json``.

        Raises:
            UsageError: the schema is unknown, or something is missing.
        """
        if data.get("schema") != SCHEMA:
            raise UsageError(
                f"a plan of schema {data.get('schema')!r} cannot be read; this version reads schema {SCHEMA}"
            )
        try:
            return cls(
                target=str(data["target"]),
                model_file=str(data["model"]["file"]),
                model_sha256=str(data["model"]["sha256"]),
                groups=tuple(
                    GroupPlan(g["id"], g["unit"], int(g["size"]), tuple(g["kept"]), tuple(g["tensors"]))
                    for g in data["groups"]
                ),
                initializers={
                    name: {int(axis): AxisPlan(a["role"], tuple(a["kept"])) for axis, a in axes.items()}
                    for name, axes in data["initializers"].items()
                },
                layers=tuple(
                    LayerPlan(x["node"], x["op"], x["precision"], x["sparsity"], x["latency_us"], x.get("reason"))
                    for x in data["layers"]
                ),
                baseline_ms=data["latency_ms"]["baseline"],
                predicted_ms=data["latency_ms"]["predicted"],
                seed=int(data["seed"]),
                tokens=dict(data.get("tokens", {})),
                ranks={str(node): int(rank) for node, rank in data.get("ranks", {}).items()},
                embedding={str(name): int(count) for name, count in data.get("embedding", {}).items()},
                input_shapes={n: tuple(map(int, dims)) for n, dims in data.get("input_shapes", {}).items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the plan is malformed: {error!r}") from error

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a ``plan.json``, or the one in a folder.

        Raises:
            UsageError: the file cannot be read.
        """
        path = Path(path)
        path = path / "plan.json" if path.is_dir() else path
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
        except ValueError as error:
            raise UsageError(f"{path} is not a plan: it is not JSON") from error
        if not isinstance(data, dict):
            raise UsageError(f"{path} is not a plan: it contains no JSON object")
        return cls.from_json(data)


def groups_of(analysis: Analysis, cut: Cut) -> tuple[GroupPlan, ...]:
    """The plan of every group for a cut."""
    return tuple(
        GroupPlan(
            g.id,
            g.kind,
            g.size,
            tuple(int(i) for i in cut.get(g.id, np.arange(g.size))),
            tuple(dict.fromkeys(m.value for m in g.members)),
        )
        for g in analysis.groups
    )


def initializers_of(analysis: Analysis, cut: Cut) -> dict[str, dict[int, AxisPlan]]:
    """The plan of every initializer axis that loses positions by a cut."""
    found: dict[str, dict[int, AxisPlan]] = {}
    for (value, axis), kept in analysis.kept(cut).items():
        role = analysis.roles.get((value, axis))
        if role is not None:
            found.setdefault(value, {})[axis] = AxisPlan(role, tuple(int(i) for i in kept))
    return found
