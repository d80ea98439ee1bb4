"""A model as a callable: feeds by input name -> the outputs in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeprune.calibration.sources import Array, Feeds

Run = Callable[[Feeds], Sequence[Array]]
