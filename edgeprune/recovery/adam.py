"""The Adam optimizer with steps relative to the size of each tensor, so that one learning rate suits every network.

Kingma & Ba 2015, "Adam". The relative step is that of You et al. 2020, "LAMB". The rate rises over the first steps and
falls along a half cosine (Loshchilov & Hutter 2017, "SGDR").
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

MEAN_DECAY, SQUARE_DECAY = 0.9, 0.99
WARM_UP = 0.05
"""Share of the steps in which the rate rises."""
TINY = 1e-12
CHUNK = 1 << 13
"""Weights that one pass updates: their state fits into the processor's cache."""


class Adam:
    """The state of one descent.

    Args:
        weights: name -> array, float32; the mapping always holds the current weights.
        rate: largest change of a weight in a step, as a fraction of its tensor's root mean square.
        steps: how many steps there will be, at least one.

    Attributes:
        steps: how many steps there will be.
        weights: the current weights.
    """

    def __init__(self, weights: Arrays, rate: float, steps: int) -> None:
        self.steps = max(1, steps)
        self._rate, self._done = rate, 0
        # All tensors lie in one array: a network has many small tensors, and each would cost as much as a large one.
        self._flat = np.concatenate([np.zeros(0, np.float32), *(w.ravel() for w in weights.values())])
        counts = [w.size for w in weights.values()]
        ends = np.cumsum(counts).tolist()
        self._parts = {n: slice(end - c, end) for n, c, end in zip(weights, counts, ends, strict=True)}
        weights |= {name: self._flat[part].reshape(weights[name].shape) for name, part in self._parts.items()}
        self.weights = weights
        # A tensor of zeros, for example a bias that compensation has just added, moves like a small tensor.
        sizes = [_rms(w) for w in weights.values()]
        typical = float(np.median(sizes)) if sizes else 0.0
        self._size = np.repeat(np.array([size or 0.1 * typical for size in sizes], np.float32), counts)
        self._gradient, self._mean, self._square = (np.zeros_like(self._flat) for _ in range(3))

    def step(self, gradients: Arrays) -> None:
        """Move all weights against their gradients. A gradient that is absent or not finite counts as zero."""
        self._done += 1
        self._gather(gradients)
        rate = self._scheduled()
        by_mean, by_square = 1 - MEAN_DECAY**self._done, math.sqrt(1 - SQUARE_DECAY**self._done)
        for start in range(0, len(self._flat), CHUNK):
            part = slice(start, start + CHUNK)
            g, m, v = self._gradient[part], self._mean[part], self._square[part]
            m += (1 - MEAN_DECAY) * (g - m)
            v += (1 - SQUARE_DECAY) * (g * g - v)
            scale = np.sqrt(v)
            scale /= by_square
            scale += TINY
            np.divide(m, scale, out=scale)
            scale *= self._size[part]
            scale *= rate / by_mean
            self._flat[part] -= scale

    def _gather(self, gradients: Arrays) -> None:
        for name, part in self._parts.items():
            self._gradient[part] = gradients[name].ravel() if name in gradients else 0
        if np.isfinite(self._gradient.sum()):
            return
        for part in self._parts.values():
            if not np.isfinite(self._gradient[part]).all():
                self._gradient[part] = 0

    def _scheduled(self) -> float:
        done = self._done / self.steps
        if done < WARM_UP:
            return self._rate * done / WARM_UP
        return self._rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARM_UP) / (1 - WARM_UP))))


def _rms(array: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
