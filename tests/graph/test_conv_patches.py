"""Patches are what a convolution multiplies with its kernel."""

import numpy as np
import pytest

from edgeprune.graph.conv_patches import Window


def patch(window: Window, x: np.ndarray, position: tuple[int, ...]) -> np.ndarray:
    """The patch at one (sample, row, column), read off a padded and spread copy: shape (taps, channels)."""
    batch, channels, *space = x.shape
    steps = window.insert
    size = [(n - 1) * s + 1 + b + a for n, s, b, a in zip(space, steps, window.before, window.after, strict=True)]
    padded = np.zeros((batch, channels, *size), x.dtype)
    inner = tuple(slice(b, b + (n - 1) * s + 1, s) for n, s, b in zip(space, steps, window.before, strict=True))
    padded[(slice(None), slice(None), *inner)] = x
    sample, *where = position
    rows, columns = (
        [place * stride + k * dilation for k in range(kernel)]
        for place, stride, kernel, dilation in zip(where, window.stride, window.kernel, window.dilation, strict=True)
    )
    return padded[sample][:, rows][:, :, columns].reshape(channels, -1).T


@pytest.mark.parametrize(
    "window",
    [
        Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)),
        Window((3, 3), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)),
        Window((5, 3), (1, 2), (2, 1), (4, 0), (4, 2), (1, 1)),
        Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0), (1, 1)),
        Window((4, 4), (1, 1), (1, 1), (2, 2), (2, 2), (2, 2)),
    ],
    ids=["3x3", "stride", "dilation", "1x1", "transposed"],
)
@pytest.mark.parametrize("share", [0.02, 1.0], ids=["few", "all"])
def test_patches(window: Window, share: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 9, 8)).astype(np.float32)
    shape = (2, *window.output_space((9, 8)))
    total = int(np.prod(shape))
    chosen = np.sort(rng.choice(total, max(1, round(share * total)), replace=False))
    found = window.patches(x, chosen, groups=2)
    assert found.shape == (2, len(chosen), window.taps * 3)
    for row, flat in enumerate(chosen):
        wanted = patch(window, x, tuple(int(i) for i in np.unravel_index(flat, shape)))
        assert np.array_equal(found[:, row].reshape(2, -1, 3), wanted.reshape(-1, 2, 3).transpose(1, 0, 2))
