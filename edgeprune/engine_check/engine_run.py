"""An engine on a device as a callable, so that it can be scored as any other model.

An engine has fixed sizes and runs far away. So batches are divided into pieces of the engine's size, everything that is
known to be needed is sent at once, and a piece that was run is not run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import EngineDevice
from edgeprune.calibration import Calibration, Feeds
from edgeprune.errors import BackendError
from edgeprune.graph import static_shape
from edgeprune.support import Progress

Array = NDArray[Any]


@dataclass(eq=False)
class EngineRun:
    """An engine on a device.

    Attributes:
        device: where it runs.
        model: the lowered model.
        engine: built from it; None to build it there for every run.
        data: samples of the model: how they are joined to batches.
        shapes: input name -> shape, for inputs with an open size.
        progress: shows the progress.
        by: what ran it the last time, in words.
    """

    device: EngineDevice
    model: ir.Model
    engine: bytes | None
    data: Calibration
    shapes: Mapping[str, tuple[int, ...]]
    progress: Progress
    by: str = ""
    _known: dict[str, list[Array]] = field(default_factory=dict, init=False, repr=False)

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs for a batch.

        Raises:
            BackendError: the device does not run the engine on it.
        """
        self.prefetch([feeds])
        pieces = [self._known[_digest(piece)] for piece in self._pieces(feeds)]
        if len(pieces) == 1:
            return list(pieces[0])
        rows = self.data.rows(feeds)
        return [np.concatenate(parts)[:rows] for parts in zip(*pieces, strict=True)]

    def prefetch(self, batches: Iterable[Feeds]) -> None:
        """Run everything in these batches that was not run yet."""
        missing = {key: piece for feeds in batches for piece in self._pieces(feeds) if (key := _digest(piece))}
        missing = {key: piece for key, piece in missing.items() if key not in self._known}
        if not missing:
            return
        with self.progress.step(f"running the engine on {self.device.host.name}"):
            found = self.device.outputs(self.model, list(missing.values()), engine=self.engine, shapes=self.shapes)
        self.by = found.by
        self._known |= {key: list(outputs) for key, outputs in zip(missing, found.outputs, strict=True)}

    def _pieces(self, feeds: Feeds) -> list[Feeds]:
        """A batch in pieces of the engine's size; the last is filled up with its last row."""
        sizes = {
            str(value.name): self.shapes.get(str(value.name)) or tuple(static_shape(value) or ())
            for value in self.model.graph.inputs
        }
        if all(sizes.get(name) in (array.shape, ()) for name, array in feeds.items()) or not self.data.batchable:
            return [feeds]
        whole = min(next(iter(sizes[name]), 0) for name, array in feeds.items() if array.ndim)
        rows = self.data.rows(feeds)
        if whole < 1:
            raise BackendError("the engine has an open batch")
        found = []
        for start in range(0, rows, whole):
            places = np.minimum(np.arange(start, start + whole), rows - 1)
            found.append({name: array[places] if array.ndim else array for name, array in feeds.items()})
        return found


def _digest(feeds: Feeds) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
