"""Signal-to-quantization-noise ratios in dB, with equal weight for every channel.

Each channel is normalized by itself, so that boxes in pixels do not outweigh scores. For values that have a place of
their own, such as boxes and landmarks, the signal is the variation over the samples: that a face is near the middle of
the image says nothing. At least `LEAST_SIGNAL` of the energy counts as signal, so that a constant does not need to be
exact.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs.output_spec import Array

Floats = NDArray[np.float64]

CEILING_DB = 120.0
"""The score of identical outputs, whose ratio is infinite; a little under the noise floor of FP32."""

LEAST_SIGNAL = 0.01


class SignalNoise:
    """The ratio of the energy of an output to that of its error."""

    def __init__(self) -> None:
        self._energies: Floats | None = None

    def add(self, wanted: Array, got: Array) -> None:
        """Compare one batch."""
        reference, error = _reference_and_error(wanted, got)
        channel = channel_axis(reference.shape) if reference.ndim > 2 else None
        rest = None if channel is None else tuple(axis for axis in range(reference.ndim) if axis != channel)
        more = np.stack([np.atleast_1d((values**2).sum(axis=rest)) for values in (reference, error)])
        if self._energies is None:
            self._energies = more
        elif self._energies.shape == more.shape:
            self._energies = self._energies + more
        else:  # the number of channels depends on the data: one ratio for all of them
            self._energies = self._energies.sum(axis=1, keepdims=True) + more.sum(axis=1, keepdims=True)

    @property
    def any(self) -> bool:
        """Whether something was compared."""
        return self._energies is not None

    def score(self) -> float:
        """dB, within plus and minus CEILING_DB."""
        return CEILING_DB if self._energies is None else ratio_db(*self._energies)


class CentredSignalNoise:
    """The ratio of the variation of an output over the samples to the energy of its error."""

    def __init__(self) -> None:
        self._plain = SignalNoise()
        self._count = 0
        self._sum = self._square = self._noise = np.zeros(0)
        self._fits = True

    def add(self, wanted: Array, got: Array) -> None:
        """Compare one batch."""
        self._plain.add(wanted, got)
        reference, error = _reference_and_error(wanted, got)
        if reference.ndim < 2:
            reference, error = (x.reshape(len(x), -1) for x in (reference, error))
        more = reference.sum(axis=0), (reference**2).sum(axis=0), (error**2).sum(axis=0)
        if self._count == 0:
            self._sum, self._square, self._noise = more
        elif self._sum.shape == more[0].shape:
            self._sum, self._square, self._noise = self._sum + more[0], self._square + more[1], self._noise + more[2]
        else:
            self._fits = False
        self._count += len(reference)

    def score(self) -> float:
        """dB, within plus and minus CEILING_DB; a single sample has no variation, so its whole energy is the signal."""
        if self._count < 2 or not self._fits:
            return self._plain.score()
        variation = np.maximum(self._square - self._sum**2 / self._count, LEAST_SIGNAL * self._square)
        if variation.ndim < 2:
            return ratio_db(variation, self._noise)
        channel = channel_axis((1, *variation.shape)) - 1
        rest = tuple(axis for axis in range(variation.ndim) if axis != channel)
        return ratio_db(variation.sum(axis=rest), self._noise.sum(axis=rest))


def channel_axis(shape: tuple[int, ...]) -> int:
    """The channels are the shortest axis after the samples."""
    return 1 + int(np.argmin(shape[1:]))


def ratio_db(signal: Floats, noise: Floats) -> float:
    """The ratio in dB with equal weight for every channel; channels without a signal do not count."""
    if not np.isfinite(noise).all():
        return -CEILING_DB
    active = signal > 0
    if not active.any():
        return CEILING_DB if not noise.any() else -CEILING_DB
    ratio = float((noise[active] / signal[active]).mean())
    return CEILING_DB if ratio <= 0 else float(np.clip(-10 * math.log10(ratio), -CEILING_DB, CEILING_DB))


def _reference_and_error(wanted: Array, got: Array) -> tuple[Floats, Floats]:
    reference, other = np.atleast_1d(wanted.astype(np.float64)), np.atleast_1d(got.astype(np.float64))
    known = np.isfinite(reference)
    with np.errstate(invalid="ignore"):
        error = np.where(known, reference - other, 0.0)
    return np.where(known, reference, 0.0), error
