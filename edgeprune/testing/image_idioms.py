"""Image idioms for random graphs; each takes a tensor with batch, channels, height and width, and returns another."""

from __future__ import annotations

import numpy as np

from edgeprune.testing.graph_builder import Builder, Step

_ACTIVATIONS = ("Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Softplus", "HardSigmoid", "Neg", "Abs", "Exp")


def activation(b: Builder, x: str) -> str:
    """A random activation function."""
    op = b.choice(_ACTIVATIONS)
    return b.op("Tanh", b.op(op, x)) if op == "Exp" else b.op(op, x)


def silu(b: Builder, x: str) -> str:
    """A tensor multiplied by its sigmoid."""
    return b.op("Mul", x, b.op("Sigmoid", x))


def plain_conv(b: Builder, x: str) -> str:
    """A convolution."""
    return b.conv(x, b.choice([4, 6, 8, 12, 16]), b.choice([1, 3]))


def grouped_conv(b: Builder, x: str) -> str:
    """A grouped convolution; it may have more output channels."""
    c = b.shape[x][1]
    group = b.choice([g for g in range(1, c + 1) if c % g == 0])
    return b.conv(x, group * b.choice([1, 2, 3]), 3, group)


def depthwise(b: Builder, x: str) -> str:
    """A depthwise convolution."""
    return b.conv(x, b.shape[x][1], 3, b.shape[x][1])


def transposed(b: Builder, x: str) -> str:
    """A transposed convolution; it may be grouped."""
    n, c, h, w = b.shape[x]
    group = b.choice([1, 2]) if c % 2 == 0 else 1
    out = b.choice([2, 4])
    return b.op(
        "ConvTranspose",
        x,
        b.weight(c, out, 1, 1, scale=c**-0.5),
        b.weight(out * group),
        shape=(n, out * group, h, w),
        group=group,
    )


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
    """Concatenated branches; a branch may occur twice."""
    n, _c, h, w = b.shape[x]
    y = b.conv(x, b.choice([3, 4, 8]))
    parts = b.choice([[x, y], [y, x], [x, x], [y, y, x]])
    return b.conv(b.op("Concat", *parts, shape=(n, sum(b.shape[p][1] for p in parts), h, w), axis=1), 8)


def split(b: Builder, x: str) -> str:
    """Unequal parts; one is transformed, and they are joined in either order."""
    n, c, h, w = b.shape[x]
    if c < 3:
        return x
    a = int(b.rng.integers(1, c - 1))
    left, right = b.several("Split", [x, b.constant([a, c - a])], [(n, a, h, w), (n, c - a, h, w)], axis=1)
    left = b.op("Relu", left) if b.rng.random() < 0.5 else b.conv(left, a)
    parts = [left, right] if b.rng.random() < 0.5 else [right, left]
    return b.op("Concat", *parts, shape=(n, c, h, w), axis=1)


def channel_slice(b: Builder, x: str) -> str:
    """A slice of the channels: all, every second, or in reverse."""
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
    return b.reshape(y, n, c, h, w, like=x)


def gather(b: Builder, x: str) -> str:
    """Channels in random order; a channel may occur twice."""
    n, c, h, w = b.shape[x]
    index = b.rng.integers(0, c, int(b.rng.integers(2, c + 3)))
    return b.op("Gather", x, b.constant(index), shape=(n, len(index), h, w), axis=1)


def pad(b: Builder, x: str) -> str:
    """Constant channels before and after."""
    n, c, h, w = b.shape[x]
    before, after = (int(v) for v in b.rng.integers(0, 3, 2))
    pads = b.constant([0, before, 0, 0, 0, after, 0, 0])
    return b.op("Pad", x, pads, b.constant(b.choice([0.0, 1.0])), shape=(n, c + before + after, h, w))


def pixel_shuffle(b: Builder, x: str) -> str:
    """Space to depth and back, in either mode; a convolution may be in between."""
    n, c, h, w = b.shape[x]
    y = b.op("SpaceToDepth", x, shape=(n, 4 * c, h // 2, w // 2), blocksize=2)
    if b.rng.random() < 0.5:
        y = b.conv(y, 16)
    return b.op("DepthToSpace", y, shape=(n, b.shape[y][1] // 4, h, w), blocksize=2, mode=b.choice(["DCR", "CRD"]))


def normalise(b: Builder, x: str) -> str:
    """Batch, instance, group or local response normalization."""
    n, c, h, w = b.shape[x]
    kind = b.choice(["batch", "instance", "group", "group-as-instance", "lrn"])
    scale, bias = b.weight(c, offset=1.0, scale=0.1), b.weight(c)
    if kind == "batch":
        return b.op(
            "BatchNormalization", x, scale, bias, b.weight(c), b.constant(b.rng.uniform(0.5, 1.5, c).astype(np.float32))
        )
    if kind == "instance":
        return b.op("InstanceNormalization", x, scale, bias)
    if kind == "lrn":
        return b.op("LRN", x, size=3)
    groups = b.choice([g for g in range(1, c + 1) if c % g == 0])
    y = b.reshape(x, n, groups, c // groups * h * w)
    y = b.op(
        "InstanceNormalization", y, b.constant(np.ones(groups, np.float32)), b.constant(np.zeros(groups, np.float32))
    )
    y = b.op("Mul", b.reshape(y, n, c, h, w, like=x), b.weight(c, 1, 1, offset=1.0, scale=0.1))
    return b.op("Add", y, b.weight(c, 1, 1))


def spatial(b: Builder, x: str) -> str:
    """Pooling or resizing that keeps the size."""
    n, c, h, w = b.shape[x]
    if b.rng.random() < 0.5:
        return b.op(b.choice(["MaxPool", "AveragePool"]), x, kernel_shape=[3, 3], pads=[1] * 4)
    small = b.op("AveragePool", x, shape=(n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    nothing = b.constant(np.zeros(0, np.float32))
    if b.rng.random() < 0.5:
        return b.op("Resize", small, nothing, nothing, b.target(n, c, h, w, like=x), shape=(n, c, h, w), mode="nearest")
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    return b.op("Resize", small, nothing, scales, shape=(n, c, h, w), mode="linear")


def channel_statistic(b: Builder, x: str) -> str:
    """Gates from a reduction over the channels."""
    n, _c, h, w = b.shape[x]
    op = b.choice(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])
    reduced = b.op(op, x, b.constant([1]), shape=(n, 1, h, w))
    return b.op("Mul", x, b.op("Sigmoid", reduced))


def response_norm(b: Builder, x: str) -> str:
    """The global response normalization of ConvNeXt V2."""
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
    """A tensor where it is positive, otherwise a constant for each channel."""
    c = b.shape[x][1]
    return b.op("Where", b.op("Greater", x, b.constant(0.0)), x, b.weight(c, 1, 1))


def spatial_attention(b: Builder, x: str) -> str:
    """A gate for each pixel, from the maximum and the mean over the channels."""
    n, _, h, w = b.shape[x]
    y = b.op("Relu", x)
    pooled = [b.op(op, y, b.constant([1]), shape=(n, 1, h, w)) for op in ("ReduceMax", "ReduceMean")]
    gate = b.conv(b.op("Concat", *pooled, shape=(n, 2, h, w), axis=1), 1, 3)
    return b.op("Mul", y, b.op("Sigmoid", gate))


def quantized(b: Builder, x: str) -> str:
    """A convolution with an asymmetric 8-bit weight that has one scale, or one for every channel."""
    n, c, h, w = b.shape[x]
    out = b.choice([6, 8])
    each = b.rng.random() < 0.5
    weight = b.constant(b.rng.integers(0, 256, (out, c, 1, 1)).astype(np.uint8))
    scale = np.full(out, c**-0.5 / 128) if each else np.asarray(c**-0.5 / 128)
    zero_point = b.rng.integers(1, 256, scale.shape).astype(np.uint8)
    operands = [weight, b.constant(scale.astype(np.float32)), b.constant(np.asarray(zero_point))]
    restored = b.op("DequantizeLinear", *operands, axis=0)
    return b.op("Conv", x, restored, b.weight(out), shape=(n, out, h, w))


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
    spatial_attention,
    quantized,
)
