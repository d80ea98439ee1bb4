"""Run a network level by level over a whole calibration set, with the activations between levels on disk.

Levels are those of :mod:`edgeprune.graph.segments`. A layer at which the run stops starts the next level. So its
weights can be changed after all its inputs are known and before anything that depends on it is computed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.activation_spool import Spool
from edgeprune.calibration.statistics_runtime import StatisticsRuntime
from edgeprune.graph import Segment, cut_into_segments, segment_bytes

Arrays = dict[str, NDArray[Any]]


class StagedNetwork:
    """One network that is run level by level.

    Args:
        model: its weights are read again at every level.
        stops: names of the nodes that start a level.
        watched: names of values to keep for the caller, and the last level at which it reads them.
        spool: storage of the boundary activations.
        tag: separates this network's values from another network's in the same spool.
        threads: threads of onnxruntime.
        at_least: value name -> its lowest level.
    """

    def __init__(
        self,
        model: ir.Model,
        stops: Collection[str],
        watched: Mapping[str, int],
        spool: Spool,
        tag: str,
        threads: int,
        at_least: Mapping[str, int] | None = None,
    ) -> None:
        self.model = model
        self.segments = cut_into_segments(model, stops, watched, at_least)
        self.batches = 0
        self._spool, self._tag, self._runtime = spool, tag, StatisticsRuntime(threads)
        inputs = [str(value.name) for value in model.graph.inputs]
        self._needed_inputs = [n for n in inputs if n in watched or any(n in s.inputs for s in self.segments[1:])]
        self._last_level = {name: s.level for s in self.segments[1:] for name in s.inputs}
        for name, level in watched.items():
            self._last_level[name] = max(level, self._last_level.get(name, 0), self.level_of.get(name, 0))

    @cached_property
    def level_of(self) -> Mapping[str, int]:
        """Level of every computed value, by name."""
        return {str(o.name): s.level for s in self.segments for node in s.nodes for o in node.outputs if o.name}

    @cached_property
    def _start(self) -> Any:
        return self._load(self.segments[0], self.segments[0].outputs)

    def stored_bytes(self, sized: ir.Model) -> int:
        """The most bytes of one sample that are stored at the same time; ``sized``: the model with its sizes."""
        values = {str(v.name): v for v in sized.graph.inputs} | {str(o.name): o for n in sized.graph for o in n.outputs}
        made = dict.fromkeys(self._needed_inputs, 0) | {name: s.level for s in self.segments for name in s.outputs}
        kept = [(made[name], last, _bytes(values[name])) for name, last in self._last_level.items() if name in made]
        return max((sum(b for m, n, b in kept if m <= s.level <= n) for s in self.segments), default=0)

    def feed(self, batch: Arrays) -> None:
        """Run level 0 on the next batch of model inputs."""
        for name in self._needed_inputs:
            self._spool.append(self._tag + name, batch[name])
        if self._start is not None:
            segment = self.segments[0]
            values = self._start.run({name: batch[name] for name in segment.inputs})
            self._keep(segment, dict(zip(segment.outputs, values, strict=True)))
        self.batches += 1

    def read(self, name: str, batch: int) -> NDArray[Any]:
        """A boundary value of one batch."""
        return self._spool.read(self._tag + name, batch)

    def run(self, level: int, extra: Sequence[str] = ()) -> Iterator[tuple[int, Arrays]]:
        """Run one level: for every batch its number, the level's outputs and the values named in ``extra``."""
        if level >= len(self.segments):
            return
        segment = self.segments[level]
        names = list(dict.fromkeys((*segment.outputs, *extra)))
        runner = self._load(segment, names)
        for batch in range(self.batches if runner is not None else 0):
            values = runner.run({name: self.read(name, batch) for name in segment.inputs})
            found = dict(zip(names, values, strict=True))
            self._keep(segment, found)
            yield batch, found

    def release(self, level: int) -> None:
        """Free the values that no later level reads."""
        for name, last in list(self._last_level.items()):
            if last <= level:
                self._spool.drop(self._tag + name)
                del self._last_level[name]

    def _keep(self, segment: Segment, values: Arrays) -> None:
        for name in segment.outputs:
            if name in self._last_level:
                self._spool.append(self._tag + name, values[name])

    def _load(self, segment: Segment, outputs: Sequence[str]) -> Any:
        return self._runtime.load(segment_bytes(self.model, segment, outputs)) if outputs else None


def largest_activation_bytes(model: ir.Model) -> int:
    """Bytes of the largest activation of one sample; open dimensions count as 1."""
    return max((_bytes(value) for node in model.graph for value in node.outputs), default=1)


def _bytes(value: ir.Value) -> int:
    if value.shape is None or value.dtype is None:
        return 0
    return int(np.prod([d if isinstance(d, int) else 1 for d in value.shape])) * max(1, value.dtype.bitwidth // 8)
