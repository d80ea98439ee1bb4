"""Adam with steps relative to the size of each tensor, so that one learning rate suits every network.

Kingma & Ba 2015, "Adam"; the relative step is that of You et al. 2020, "LAMB". The rate rises over the first steps and
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
"""Weights that are moved at a time: their state fits into the cache."""


class Adam:
    """The state of one descent.

    Args:
        weights: name -> array, float32; the mapping always holds them as they are now.
        rate: largest change of a weight in a step, as a fraction of its tensor's root mean square.
        steps: how many there will be, at least one.

    Attributes:
        steps: how many there will be.
        weights: as they are now.
    """

    def __init__(self, weights: Arrays, rate: float, steps: int) -> None:
        self.weights = weights
        weights |= {name: np.ascontiguousarray(w) for name, w in weights.items()}
        self.steps = max(1, steps)
        self._rate, self._done = rate, 0
        # A tensor of zeros, a bias that compensation has just made say, moves as if it were small.
        typical = np.median([_rms(w) for w in weights.values()])
        self._size = {name: _rms(w) or 0.1 * float(typical) for name, w in weights.items()}
        self._mean = {name: np.zeros_like(w) for name, w in weights.items()}
        self._square = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, gradients: Arrays) -> None:
        """Move all weights against their gradients. Gradients that are not finite are passed over."""
        self._done += 1
        rate = self._scheduled()
        by_mean, by_square = 1 - MEAN_DECAY**self._done, math.sqrt(1 - SQUARE_DECAY**self._done)
        for name, gradient in gradients.items():
            if not np.isfinite(gradient).all():
                continue
            weight, mean, square = (a[name].reshape(-1) for a in (self.weights, self._mean, self._square))
            change, size = gradient.reshape(-1), rate * self._size[name] / by_mean
            for start in range(0, len(weight), CHUNK):
                part = slice(start, start + CHUNK)
                g, m, v = change[part], mean[part], square[part]
                m += (1 - MEAN_DECAY) * (g - m)
                v += (1 - SQUARE_DECAY) * (g * g - v)
                scale = np.sqrt(v)
                scale /= by_square
                scale += TINY
                np.divide(m, scale, out=scale)
                scale *= size
                weight[part] -= scale

    def _scheduled(self) -> float:
        done = self._done / self.steps
        if done < WARM_UP:
            return self._rate * done / WARM_UP
        return self._rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARM_UP) / (1 - WARM_UP))))


def _rms(array: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
