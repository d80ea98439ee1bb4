"""Several boards of one kind, measured at the same time: what a model takes on such a board, and their spread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.results import DeviceResult, EngineRuns, EngineSample
from edgeprune.errors import BackendError, UsageError
from edgeprune.hosts import Host, Workspace


@runtime_checkable
class Board(Protocol):
    """A device that says what must be the same on two boards so that they count as one kind."""

    name: str
    host: Host

    def facts(self) -> Mapping[str, str]:
        """The machine, its software and its settings."""

    def measure(self, models: Mapping[str, ir.Model], **given: Any) -> dict[str, DeviceResult]:
        """Measure the models in turns; name -> result."""


@dataclass(frozen=True)
class _Hosts:
    """The hosts of the boards as one; work that needs one alone is done on the first."""

    hosts: tuple[Host, ...]

    @property
    def name(self) -> str:
        return " and ".join(host.name for host in self.hosts)

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        with self.hosts[0].workspace() as space:
            yield space


class Boards:
    """Boards as one device.

    Args:
        boards: at least two, which have the same runtime.
    """

    def __init__(self, boards: Sequence[Board]):
        self._boards = tuple(boards)
        self._alike = False
        self.name = boards[0].name
        self.host: Host = _Hosts(tuple(board.host for board in boards))  # type: ignore[assignment]

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        progress: Callable[[str, float], None] | None = None,
        **given: Any,
    ) -> dict[str, DeviceResult]:
        """Measure the models on every board, all boards at the same time.

        Args:
            models: name -> model.
            progress: called with the current step of the first board and its seconds so far.
            given: further arguments of the boards' ``measure``.

        Returns:
            Name -> result of the board of median latency, with the latencies of all boards.

        Raises:
            UsageError: a board differs from the others; the text names it, and what differs.
            BackendError: a board fails.
        """
        if not self._alike:
            check_alike(self._on_all(lambda board, first: board.facts()))
            self._alike = True

        def measured(board: Board, first: bool) -> dict[str, DeviceResult]:
            return board.measure(models, progress=progress if first else None, **given)

        found = self._on_all(measured)
        if not models:
            return {}
        typical = _typical(found)
        return {name: replace(result, samples=tuple(_samples(name, found))) for name, result in found[typical].items()}

    def facts(self) -> dict[str, str]:
        """What the boards have in common.

        Raises:
            UsageError: a board differs from the others; the text names it, and what differs.
            BackendError: a board cannot be reached.
        """
        found = self._on_all(lambda board, first: board.facts())
        check_alike(found)
        self._alike = True
        return dict(next(iter(found.values())))

    def outputs(
        self,
        model: ir.Model,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        *,
        engine: bytes | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> EngineRuns:
        """What the model's engine computes on the first board; engines of one kind of board are alike.

        Raises:
            BackendError: the board runs no engines, or cannot run this one.
        """
        first: Any = self._boards[0]
        if not hasattr(first, "outputs"):
            raise BackendError(f"{first.host.name} runs no engines")
        runs: EngineRuns = first.outputs(model, feeds, engine=engine, shapes=shapes, progress=progress)
        return runs

    def _on_all(self, work: Callable[[Board, bool], Any]) -> dict[str, Any]:
        """Board -> what the work gives for it; all at the same time, since every board has its own processor."""
        with ThreadPoolExecutor(len(self._boards)) as pool:
            started = {board.host.name: pool.submit(work, board, not n) for n, board in enumerate(self._boards)}
            return {name: one.result() for name, one in started.items()}


def check_alike(facts: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse boards that are not of one kind: most of them set what the others must have.

    Args:
        facts: board -> its facts.

    Raises:
        UsageError: naming each board that differs, and what differs.
    """
    usual = dict(Counter(tuple(sorted(own.items())) for own in facts.values()).most_common(1)[0][0])
    told = []
    for board, own in facts.items():
        names = [name for name in sorted(own.keys() | usual.keys()) if own.get(name) != usual.get(name)]
        parts = [f"{name}: {own.get(name, 'not known')} instead of {usual.get(name, 'not known')}" for name in names]
        told += [f"{board} ({'; '.join(parts)})"] if parts else []
    if told:
        raise UsageError(f"--device: boards that are measured as one must be alike; {' and '.join(told)} differs")


def _typical(found: Mapping[str, Mapping[str, DeviceResult]]) -> str:
    """The board of median speed, over all models."""
    speed = {board: sum(math.log(r.latency.median_ms) for r in own.values()) for board, own in found.items()}
    return sorted(speed, key=lambda board: speed[board])[(len(speed) - 1) // 2]


def _samples(name: str, found: Mapping[str, Mapping[str, DeviceResult]]) -> Iterator[EngineSample]:
    for board, own in found.items():
        result = own[name]
        for sample in result.samples or (EngineSample("", 0, result.latency),):
            yield replace(sample, board=board)
