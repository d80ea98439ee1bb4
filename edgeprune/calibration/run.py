"""A model as a callable: feeds by input name -> the outputs in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeprune.calibration.sources import Array, Feeds

Run = Callable[[Feeds], Sequence[Array]]


class LoadedWhenRun:
    """A model that is loaded when it is run, and may be released between its runs.

    A session of onnxruntime holds the weights and a copy of them in another order.

    Args:
        load: loads the model.
    """

    def __init__(self, load: Callable[[], Run]) -> None:
        self._load = load
        self._run: Run | None = None

    def __call__(self, feeds: Feeds) -> Sequence[Array]:
        """The outputs, in order."""
        return self.loaded()(feeds)

    def loaded(self) -> Run:
        """The loaded model."""
        self._run = self._run or self._load()
        return self._run

    def release(self) -> None:
        """Give up the loaded model; the next run loads it again."""
        self._run = None
