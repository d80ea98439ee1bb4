"""Token idioms for random graphs; each takes a tensor with batch, tokens and channels, and returns another."""

from __future__ import annotations

import numpy as np

from edgeprune.testing.graph_builder import Builder, Step
from edgeprune.testing.image_idioms import activation


def mlp(b: Builder, x: str) -> str:
    """Two linear layers with an activation, and a skip connection."""
    y = b.op("Erf", b.linear(x, b.choice([6, 8, 12])))
    return b.op("Add", x, b.linear(y, b.shape[x][-1]))


def linear(b: Builder, x: str) -> str:
    """A linear layer."""
    return b.linear(x, b.choice([8, 12]))


def gated(b: Builder, x: str) -> str:
    """A gated linear unit: one half gates the other."""
    width = b.choice([4, 6])
    y = b.linear(x, 2 * width)
    half = (*b.shape[x][:-1], width)
    left, right = b.several("Split", [y, b.constant([width, width])], [half, half], axis=-1)
    return b.op("Mul", left, b.op("Sigmoid", right))


def layer_norm(b: Builder, x: str) -> str:
    """A layer normalization."""
    c = b.shape[x][-1]
    return b.op("LayerNormalization", x, b.weight(c, offset=1.0, scale=0.1), b.weight(c), axis=-1)


def decomposed_norm(b: Builder, x: str) -> str:
    """A layer normalization in single operations, as in exports before opset 17."""
    shape = b.shape[x]
    last, one = b.constant([-1]), (*shape[:-1], 1)
    centred = b.op("Sub", x, b.op("ReduceMean", x, last, shape=one))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.constant(2.0)), last, shape=one)
    y = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.constant(1e-3))))
    return b.op("Add", b.op("Mul", y, b.weight(shape[-1])), b.weight(shape[-1]))


def root_mean_square(b: Builder, x: str) -> str:
    """A division by the root of the mean square, in single operations."""
    shape = b.shape[x]
    mean = b.op("ReduceMean", b.op("Mul", x, x), b.constant([-1]), shape=(*shape[:-1], 1))
    root = b.op("Sqrt", b.op("Add", mean, b.constant(1e-3)))
    return b.op("Mul", b.op("Div", x, root), b.weight(shape[-1]))


def windows(b: Builder, x: str) -> str:
    """Tokens ordered into windows by a table of positions, mixed within each window, and ordered back."""
    n, t, c = b.shape[x]
    table = b.rng.permutation(t).reshape(2, t // 2)
    y = b.op("Gather", x, b.constant(table), shape=(n, 2, t // 2, c), axis=1)
    back = np.argsort(table.reshape(-1))
    flat = b.reshape(b.linear(y, c), n, t, c)
    return b.op("Add", x, b.op("Gather", flat, b.constant(back), axis=1))


def channel_table(b: Builder, x: str) -> str:
    """Channels ordered into heads by a table of positions."""
    n, t, c = b.shape[x]
    if c < 2:
        return linear(b, x)
    table = b.rng.permutation(c)[: 2 * (c // 2)].reshape(2, c // 2)
    y = b.op("Gather", x, b.constant(table), shape=(n, t, 2, c // 2), axis=2)
    return b.linear(b.reshape(b.op("Mul", y, b.weight(2, c // 2)), n, t, 2 * (c // 2)), c)


def layer_scale(b: Builder, x: str) -> str:
    """A factor for each channel."""
    return b.op("Mul", x, b.weight(b.shape[x][-1]))


def _heads(b: Builder, x: str, heads: int, dims: int) -> str:
    n, t, _ = b.shape[x]
    return b.transpose(b.reshape(b.linear(x, heads * dims), n, t, heads, dims), 0, 2, 1, 3)


def _rotary(b: Builder, x: str) -> str:
    """Rotate pairs of dimensions (i, i + half) by an angle for each position."""
    n, h, t, d = b.shape[x]
    half = (n, h, t, d // 2)
    left, right = b.several("Split", [x, b.constant([d // 2, d // 2])], [half, half], axis=-1)
    turned = b.op("Concat", b.op("Neg", right), left, shape=(n, h, t, d), axis=-1)
    return b.op("Add", b.op("Mul", x, b.weight(t, d)), b.op("Mul", turned, b.weight(t, d)))


def attention(b: Builder, x: str) -> str:
    """Multi-head attention; it may have rotary positions, a relative bias, grouped keys, or normalized queries."""
    n, t, c = b.shape[x]
    heads, dims, value = b.choice([2, 4]), b.choice([2, 4, 6]), b.choice([2, 3])
    shared = b.choice([heads, heads, heads // 2])
    q, k, v = _heads(b, x, heads, dims), _heads(b, x, shared, dims), _heads(b, x, shared, value)
    if b.rng.random() < 0.3:
        q, k = _rotary(b, q), _rotary(b, k)
    if b.rng.random() < 0.2:
        q = b.op("LayerNormalization", q, b.weight(dims, offset=1.0), b.weight(dims), axis=-1)
    if shared < heads:
        k, v = (_repeated(b, y, heads // shared) for y in (k, v))
    scores = b.op("MatMul", b.op("Mul", q, b.constant(0.5)), b.transpose(k, 0, 1, 3, 2), shape=(n, heads, t, t))
    if b.rng.random() < 0.5:
        scores = b.op("Add", scores, b.weight(heads, t, t))
    if b.rng.random() < 0.2:  # talking heads
        mixed = b.transpose(scores, 0, 2, 3, 1)
        scores = b.transpose(b.linear(mixed, heads), 0, 3, 1, 2)
    y = b.op("MatMul", b.op("Softmax", scores, axis=-1), v, shape=(n, heads, t, value))
    y = b.reshape(b.transpose(y, 0, 2, 1, 3), n, t, heads * value)
    return b.op("Add", x, b.linear(y, c))


def _repeated(b: Builder, x: str, times: int) -> str:
    n, h, t, d = b.shape[x]
    y = b.op("Expand", b.reshape(x, n, h, 1, t, d), b.target(n, h, times, t, d, like=x), shape=(n, h, times, t, d))
    return b.reshape(y, n, h * times, t, d)


def linear_attention(b: Builder, x: str) -> str:
    """Attention that first sums keys and values over the tokens."""
    n, t, c = b.shape[x]
    q, k, v = (_heads(b, x, 2, 4) for _ in range(3))
    q = b.op("Relu", q) if b.rng.random() < 0.5 else b.op("Softmax", q, axis=-1)
    k = b.op("Relu", k) if b.rng.random() < 0.5 else b.op("Softmax", k, axis=-2)
    state = b.op("MatMul", b.transpose(k, 0, 1, 3, 2), v, shape=(n, 2, 4, 4))
    y = b.op("MatMul", q, state, shape=(n, 2, t, 4))
    return b.linear(b.reshape(b.transpose(y, 0, 2, 1, 3), n, t, 8), c)


def token_mixing(b: Builder, x: str) -> str:
    """A linear layer over the tokens."""
    _n, t, _c = b.shape[x]
    y = b.op("Relu", b.linear(b.transpose(x, 0, 2, 1), b.choice([6, 8])))
    return b.op("Add", x, b.transpose(b.linear(y, t), 0, 2, 1))


def einsum(b: Builder, x: str) -> str:
    """Channels mixed by an Einsum with a weight of heads."""
    n, t, c = b.shape[x]
    y = b.op("Einsum", x, b.weight(c, 2, 3, scale=c**-0.5), shape=(n, t, 2, 3), equation="ntc,chd->nthd")
    return b.linear(b.reshape(y, n, t, 6), c)


def class_token(b: Builder, x: str) -> str:
    """A class token before the others, which is dropped again afterwards."""
    n, t, c = b.shape[x]
    token = b.op("Expand", b.weight(1, 1, c), b.target(n, 1, c, like=x), shape=(n, 1, c))
    y = mlp(b, b.op("Concat", token, x, shape=(n, t + 1, c), axis=1))
    return b.op("Slice", y, *(b.constant([v]) for v in (1, t + 1, 1)), shape=(n, t, c))


TOKEN_STEPS: tuple[Step, ...] = (
    mlp,
    linear,
    gated,
    layer_norm,
    decomposed_norm,
    root_mean_square,
    windows,
    channel_table,
    layer_scale,
    attention,
    attention,
    linear_attention,
    token_mixing,
    einsum,
    class_token,
    activation,
)
