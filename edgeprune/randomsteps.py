"""The idioms that random graphs are made of; each takes a tensor and returns another of the same kind."""

from __future__ import annotations

import numpy as np

from edgeprune.randomgraph import Builder, Step

_ACTIVATIONS = ("Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Softplus", "HardSigmoid", "Neg", "Abs", "Exp")


def activation(b: Builder, x: str) -> str:
    """Any function of one operand."""
    op = b.choice(_ACTIVATIONS)
    return b.op("Tanh", b.op(op, x)) if op == "Exp" else b.op(op, x)


def silu(b: Builder, x: str) -> str:
    """A product of a tensor with its own gate."""
    return b.op("Mul", x, b.op("Sigmoid", x))


def plain_conv(b: Builder, x: str) -> str:
    """A convolution."""
    return b.conv(x, b.choice([4, 6, 8, 12, 16]), b.choice([1, 3]))


def grouped_conv(b: Builder, x: str) -> str:
    """A grouped convolution, with or without a multiplier."""
    c = b.shape[x][1]
    group = b.choice([g for g in range(1, c + 1) if c % g == 0])
    return b.conv(x, group * b.choice([1, 2, 3]), 3, group)


def depthwise(b: Builder, x: str) -> str:
    """A depthwise convolution."""
    return b.conv(x, b.shape[x][1], 3, b.shape[x][1])


def transposed(b: Builder, x: str) -> str:
    """A transposed convolution, perhaps grouped."""
    n, c, h, w = b.shape[x]
    group = b.choice([1, 2]) if c % 2 == 0 else 1
    out = b.choice([2, 4])
    return b.op("ConvTranspose", x, b.weight(c, out, 1, 1, scale=c**-0.5), b.weight(out * group), shape=(n, out * group, h, w), group=group)


def residual(b: Builder, x: str) -> str:
    """A bottleneck with a skip connection."""
    c = b.shape[x][1]
    y = b.conv(b.op("Relu", b.conv(x, b.choice([4, 8]), 3)), c)
    return b.op(b.choice(["Add", "Sub"]), x, y)


def squeeze_excite(b: Builder, x: str) -> str:
    """A gate for each channel."""
    n, c, _, _ = b.shape[x]
    pooled = b.op("GlobalAveragePool", x, shape=(n, c, 1, 1))
    return b.op("Mul", x, b.op("Sigmoid", b.conv(b.op("Relu", b.conv(pooled, 4)), c)))


def concat(b: Builder, x: str) -> str:
    """Branches side by side, perhaps one of them twice."""
    n, c, h, w = b.shape[x]
    y = b.conv(x, b.choice([3, 4, 8]))
    parts = b.choice([[x, y], [y, x], [x, x], [y, y, x]])
    return b.conv(b.op("Concat", *parts, shape=(n, sum(b.shape[p][1] for p in parts), h, w), axis=1), 8)


def split(b: Builder, x: str) -> str:
    """Unequal parts, one of them transformed, joined again in another order."""
    n, c, h, w = b.shape[x]
    if c < 3:
        return x
    a = int(b.rng.integers(1, c - 1))
    left, right = b.several("Split", [x, b.constant([a, c - a])], [(n, a, h, w), (n, c - a, h, w)], axis=1)
    left = b.op("Relu", left) if b.rng.random() < 0.5 else b.conv(left, a)
    parts = [left, right] if b.rng.random() < 0.5 else [right, left]
    return b.op("Concat", *parts, shape=(n, c, h, w), axis=1)


def channel_slice(b: Builder, x: str) -> str:
    """Some of the channels, perhaps every second or backwards."""
    n, c, h, w = b.shape[x]
    start = int(b.rng.integers(0, max(c // 2, 1)))
    step = b.choice([1, 1, 2, -1])
    bounds = (c - 1, start - c - 1) if step < 0 else (start, c)
    count = len(range(c)[slice(bounds[0], bounds[1] if step > 0 else (start - 1 if start else None), step)])
    args = [b.constant([int(v)]) for v in (*bounds, 1, step)]
    return b.op("Slice", x, *args, shape=(n, count, h, w))


def shuffle(b: Builder, x: str) -> str:
    """A channel shuffle."""
    n, c, h, w = b.shape[x]
    g = b.choice([k for k in (2, 3, 4, c) if c % k == 0])
    y = b.transpose(b.reshape(x, n, g, c // g, h, w), 0, 2, 1, 3, 4)
    return b.reshape(y, n, c, h, w)


def gather(b: Builder, x: str) -> str:
    """Channels picked in any order, some twice."""
    n, c, h, w = b.shape[x]
    index = b.rng.integers(0, c, int(b.rng.integers(2, c + 3)))
    return b.op("Gather", x, b.constant(index), shape=(n, len(index), h, w), axis=1)


def pad(b: Builder, x: str) -> str:
    """Channels of zeros, or of another value, before and after."""
    n, c, h, w = b.shape[x]
    before, after = (int(v) for v in b.rng.integers(0, 3, 2))
    pads = b.constant([0, before, 0, 0, 0, after, 0, 0])
    return b.op("Pad", x, pads, b.constant(b.choice([0.0, 1.0])), shape=(n, c + before + after, h, w))


def pixel_shuffle(b: Builder, x: str) -> str:
    """Space to depth and back again, perhaps with a convolution between, in either mode."""
    n, c, h, w = b.shape[x]
    y = b.op("SpaceToDepth", x, shape=(n, 4 * c, h // 2, w // 2), blocksize=2)
    if b.rng.random() < 0.5:
        y = b.conv(y, 16)
    return b.op("DepthToSpace", y, shape=(n, b.shape[y][1] // 4, h, w), blocksize=2, mode=b.choice(["DCR", "CRD"]))


def normalise(b: Builder, x: str) -> str:
    """Batch, instance or group normalisation."""
    n, c, h, w = b.shape[x]
    kind = b.choice(["batch", "instance", "group", "group-as-instance", "lrn"])
    scale, bias = b.weight(c, offset=1.0, scale=0.1), b.weight(c)
    if kind == "batch":
        return b.op("BatchNormalization", x, scale, bias, b.weight(c), b.constant(b.rng.uniform(0.5, 1.5, c).astype(np.float32)))
    if kind == "instance":
        return b.op("InstanceNormalization", x, scale, bias)
    if kind == "lrn":
        return b.op("LRN", x, size=3)
    groups = b.choice([g for g in range(1, c + 1) if c % g == 0])
    y = b.reshape(x, n, groups, c // groups * h * w)
    y = b.op("InstanceNormalization", y, b.constant(np.ones(groups, np.float32)), b.constant(np.zeros(groups, np.float32)))
    y = b.op("Mul", b.reshape(y, n, c, h, w), b.weight(c, 1, 1, offset=1.0, scale=0.1))
    return b.op("Add", y, b.weight(c, 1, 1))


def spatial(b: Builder, x: str) -> str:
    """Pooling or resizing that keeps the size."""
    n, c, h, w = b.shape[x]
    if b.rng.random() < 0.5:
        return b.op(b.choice(["MaxPool", "AveragePool"]), x, kernel_shape=[3, 3], pads=[1] * 4)
    small = b.op("AveragePool", x, shape=(n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    nothing = b.constant(np.zeros(0, np.float32))
    if b.rng.random() < 0.5:
        return b.op("Resize", small, nothing, nothing, b.constant([n, c, h, w]), shape=(n, c, h, w), mode="nearest")
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    return b.op("Resize", small, nothing, scales, shape=(n, c, h, w), mode="linear")


def channel_statistic(b: Builder, x: str) -> str:
    """Gates from a reduction over the channels."""
    n, c, h, w = b.shape[x]
    op = b.choice(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])
    reduced = b.op(op, x, b.constant([1]), shape=(n, 1, h, w))
    return b.op("Mul", x, b.op("Sigmoid", reduced))


def response_norm(b: Builder, x: str) -> str:
    """The global response normalisation of ConvNeXt V2."""
    n, c, _, _ = b.shape[x]
    y = b.op("Relu", b.conv(x, c))
    norm = b.op("ReduceL2", y, b.constant([2, 3]), shape=(n, c, 1, 1))
    mean = b.op("ReduceMean", norm, b.constant([1]), shape=(n, 1, 1, 1))
    return b.op("Mul", y, b.op("Div", norm, b.op("Add", mean, b.constant(1e-3))))


def selective_kernel(b: Builder, x: str) -> str:
    """Two branches weighted by a softmax over the branches."""
    n, c, h, w = b.shape[x]
    both = [b.reshape(b.conv(x, c, k), n, 1, c, h, w) for k in (1, 3)]
    stacked = b.op("Concat", *both, shape=(n, 2, c, h, w), axis=1)
    pooled = b.op("ReduceMean", stacked, b.constant([1, 3, 4]), shape=(n, c), keepdims=0)
    gate = b.op("Softmax", b.reshape(b.linear(pooled, 2 * c), n, 2, c, 1, 1), axis=1)
    return b.op("ReduceSum", b.op("Mul", stacked, gate), b.constant([1]), shape=(n, c, h, w), keepdims=0)


def choose_where(b: Builder, x: str) -> str:
    """A tensor where it is positive, otherwise a channel's own constant."""
    c = b.shape[x][1]
    return b.op("Where", b.op("Greater", x, b.constant(0.0)), x, b.weight(c, 1, 1))


IMAGE_STEPS: tuple[Step, ...] = (
    activation,
    silu,
    plain_conv,
    grouped_conv,
    depthwise,
    transposed,
    residual,
    squeeze_excite,
    concat,
    split,
    channel_slice,
    shuffle,
    gather,
    pad,
    pixel_shuffle,
    normalise,
    spatial,
    channel_statistic,
    response_norm,
    selective_kernel,
    choose_where,
)


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
    """A layer normalisation."""
    c = b.shape[x][-1]
    return b.op("LayerNormalization", x, b.weight(c, offset=1.0, scale=0.1), b.weight(c), axis=-1)


def decomposed_norm(b: Builder, x: str) -> str:
    """A layer normalisation spelled out, as exports before opset 17 have it."""
    shape = b.shape[x]
    last, one = b.constant([-1]), (*shape[:-1], 1)
    centred = b.op("Sub", x, b.op("ReduceMean", x, last, shape=one))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.constant(2.0)), last, shape=one)
    y = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.constant(1e-3))))
    return b.op("Add", b.op("Mul", y, b.weight(shape[-1])), b.weight(shape[-1]))


def layer_scale(b: Builder, x: str) -> str:
    """A factor for each channel."""
    return b.op("Mul", x, b.weight(b.shape[x][-1]))


def _heads(b: Builder, x: str, heads: int, dims: int) -> str:
    n, t, _ = b.shape[x]
    return b.transpose(b.reshape(b.linear(x, heads * dims), n, t, heads, dims), 0, 2, 1, 3)


def _rotary(b: Builder, x: str) -> str:
    """Rotates pairs of dimensions (i, i + half) by an angle for each position."""
    n, h, t, d = b.shape[x]
    half = (n, h, t, d // 2)
    left, right = b.several("Split", [x, b.constant([d // 2, d // 2])], [half, half], axis=-1)
    turned = b.op("Concat", b.op("Neg", right), left, shape=(n, h, t, d), axis=-1)
    return b.op("Add", b.op("Mul", x, b.weight(t, d)), b.op("Mul", turned, b.weight(t, d)))


def attention(b: Builder, x: str) -> str:
    """Multi-head attention, perhaps with rotary positions, a relative bias, grouped keys, or normalised queries."""
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
    y = b.op("Expand", b.reshape(x, n, h, 1, t, d), b.constant([n, h, times, t, d]), shape=(n, h, times, t, d))
    return b.reshape(y, n, h * times, t, d)


def linear_attention(b: Builder, x: str) -> str:
    """Keys and values are summed over the tokens first."""
    n, t, c = b.shape[x]
    q, k, v = (_heads(b, x, 2, 4) for _ in range(3))
    q = b.op("Relu", q) if b.rng.random() < 0.5 else b.op("Softmax", q, axis=-1)
    k = b.op("Relu", k) if b.rng.random() < 0.5 else b.op("Softmax", k, axis=-2)
    state = b.op("MatMul", b.transpose(k, 0, 1, 3, 2), v, shape=(n, 2, 4, 4))
    y = b.op("MatMul", q, state, shape=(n, 2, t, 4))
    return b.linear(b.reshape(b.transpose(y, 0, 2, 1, 3), n, t, 8), c)


def token_mixing(b: Builder, x: str) -> str:
    """A linear layer over the tokens."""
    n, t, c = b.shape[x]
    y = b.op("Relu", b.linear(b.transpose(x, 0, 2, 1), b.choice([6, 8])))
    return b.op("Add", x, b.transpose(b.linear(y, t), 0, 2, 1))


def einsum(b: Builder, x: str) -> str:
    """Channels mixed by an Einsum with a weight of heads."""
    n, t, c = b.shape[x]
    y = b.op("Einsum", x, b.weight(c, 2, 3, scale=c**-0.5), shape=(n, t, 2, 3), equation="ntc,chd->nthd")
    return b.linear(b.reshape(y, n, t, 6), c)


def class_token(b: Builder, x: str) -> str:
    """A token of its own before the others; afterwards it is dropped again."""
    n, t, c = b.shape[x]
    token = b.op("Expand", b.weight(1, 1, c), b.constant([n, 1, c]), shape=(n, 1, c))
    y = mlp(b, b.op("Concat", token, x, shape=(n, t + 1, c), axis=1))
    return b.op("Slice", y, *(b.constant([v]) for v in (1, t + 1, 1)), shape=(n, t, c))


TOKEN_STEPS: tuple[Step, ...] = (
    mlp,
    linear,
    gated,
    layer_norm,
    decomposed_norm,
    layer_scale,
    attention,
    attention,
    linear_attention,
    token_mixing,
    einsum,
    class_token,
    activation,
)
