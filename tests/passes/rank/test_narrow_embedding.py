"""A transformer with a narrower residual stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.graph import Refused
from edgeprune.passes.rank.embedding import Embedding, embedding_of
from edgeprune.passes.rank.narrow_embedding import narrow_embedding, stream_directions
from tests.passes.models import parse, random, run
from tests.small_models import calibration

WIDTH, HIDDEN = 16, 24

TEXT = """
net (float[n,3,8,8] x) => (float[n,5] y) {
    e0 = Conv<strides=[4,4]>(x, we, be)
    e1 = Reshape(e0, flat)
    e2 = Transpose<perm=[0,2,1]>(e1)
    e = Add(e2, p)
    n1 = LayerNormalization<axis=-1, epsilon=0.01>(e, s1, b1)
    h0 = MatMul(n1, w1)
    h1 = Add(h0, c1)
    h = Relu(h1)
    d0 = MatMul(h, w2)
    d = Add(d0, c2)
    r = Add(e, d)
    n2 = LayerNormalization<axis=-1, epsilon=0.01>(r, s2, b2)
    u0 = MatMul(n2, w3)
    u = Relu(u0)
    v0 = MatMul(u, w4)
    t = Add(r, v0)
    n3 = LayerNormalization<axis=-1, epsilon=0.01>(t, s3, b3)
    m = ReduceMean<keepdims=0, axes=[1]>(n3)
    y = Gemm(m, wh, bh)
}"""


def weights() -> dict[str, NDArray[Any]]:
    shapes = {"we": (WIDTH, 3, 4, 4), "be": (WIDTH,), "p": (1, 4, WIDTH), "w1": (WIDTH, HIDDEN), "c1": (HIDDEN,)}
    shapes |= {"w2": (HIDDEN, WIDTH), "c2": (WIDTH,), "w3": (WIDTH, HIDDEN), "w4": (HIDDEN, WIDTH)}
    shapes |= {f"{v}{i}": (WIDTH,) for i in (1, 2, 3) for v in "sb"} | {"wh": (WIDTH, 5), "bh": (5,)}
    found: dict[str, NDArray[Any]] = {n: 0.3 * random(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
    found |= {f"s{i}": 1 + found[f"s{i}"] for i in (1, 2, 3)}
    return found | {"flat": np.array([0, 0, -1], np.int64)}


def transformer(text: str = TEXT, **other: NDArray[Any]) -> ir.Model:
    model = parse(text, **(weights() | other))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    return model


def of_rank(rank: int) -> dict[str, NDArray[Any]]:
    """Weights whose residual stream lies in so many directions, besides its mean."""
    found, basis = weights(), np.linalg.qr(np.eye(WIDTH)[:, :rank] - 1 / WIDTH)[0]
    onto = basis @ basis.T + np.ones((WIDTH, WIDTH)) / WIDTH
    found["we"] = np.tensordot(onto, found["we"], axes=1)
    found |= {n: found[n] @ onto for n in ("be", "p", "w2", "c2", "w4")}
    return {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in found.items()}


FEEDS = {"x": random(32, 3, 8, 8, seed=99)}


def narrow(model: ir.Model, width: int) -> ir.Model:
    embedding = embedding_of(model)
    assert isinstance(embedding, Embedding)
    return narrow_embedding(model, embedding, stream_directions(model, embedding, calibration(**FEEDS)), width)


def test_the_stream_its_writers_norms_and_readers_are_found() -> None:
    found = embedding_of(transformer())
    assert isinstance(found, Embedding)
    assert found.group.size == WIDTH
    assert {name for name, _ in found.written} == {"we", "be", "p", "w2", "c2", "w4"}
    assert found.norms == ("n1", "n2", "n3")
    assert found.readers == {"h0": "n1", "u0": "n2", "y": "n3"}


def test_another_basis_of_the_same_width_is_the_same_function() -> None:
    """Also behind a MatMul without a bias, which gets one for the shift of its norm."""
    model = transformer()
    (wanted,), (got,) = run(model, **FEEDS), run(narrow(model, WIDTH), **FEEDS)
    assert np.abs(wanted - got).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("rank", [3, 7])
def test_a_stream_of_few_directions_needs_as_many_channels_and_one(rank: int) -> None:
    """One more channel, so that the norms subtract no mean; nothing is lost, epsilon included."""
    model = transformer(**of_rank(rank))
    small = narrow(model, rank + 1)
    (wanted,), (got,) = run(model, **FEEDS), run(small, **FEEDS)
    assert np.abs(wanted - got).max() <= 1e-4 * np.abs(wanted).max()
    assert small.graph.initializers["w2"].shape == ir.Shape((HIDDEN, rank + 1))
    assert small.graph.initializers["we"].shape == ir.Shape((rank + 1, 3, 4, 4))


def test_principal_directions_lose_less_than_others() -> None:
    model = transformer(**of_rank(7))
    embedding = embedding_of(model)
    assert isinstance(embedding, Embedding)
    found = stream_directions(model, embedding, calibration(**FEEDS))
    others = replace(found, basis=found.basis[:, 6::-1])
    (wanted,) = run(model, **FEEDS)
    small = [narrow_embedding(model, embedding, directions, 6) for directions in (found, others)]
    errors = [np.square(run(m, **FEEDS)[0] - wanted).mean() for m in small]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("r = Add(e, d)", "g = Relu(e)\n    r = Add(g, d)", "Relu 'g' reads it"),
        ("r = Add(e, d)", "g = Mul(e, s2)\n    r = Add(g, d)", "Mul 'g' reads it"),
        ("m = ReduceMean<keepdims=0, axes=[1]>(n3)", "m = ReduceMean<keepdims=0, axes=[1]>(t)", "without a LayerNorm"),
    ],
)
def test_what_needs_the_old_basis_is_refused(old: str, new: str, reason: str) -> None:
    found = embedding_of(transformer(TEXT.replace(old, new)))
    assert isinstance(found, Refused)
    assert reason in str(found)


TAIL = TEXT[TEXT.index("m = ReduceMean") :]
MLP = TEXT[TEXT.index("u0 =") : TEXT.index("    t =")].rstrip()
AS_IMAGE = "i0 = Transpose<perm=[0,2,1]>(n3)\n    i = Reshape(i0, grid)\n    "
POOLED = "o = GlobalAveragePool(q)\n    y = Flatten(o)\n}"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (TAIL, f"{AS_IMAGE}q = Conv<pads=[1,1,1,1]>(i, wq)\n    {POOLED}", "padded convolution 'q' reads it"),
        (TAIL, f'{AS_IMAGE}q = Conv<auto_pad="SAME_UPPER">(i, wq)\n    {POOLED}', "padded convolution 'q' reads it"),
        (TAIL, f"{AS_IMAGE}q = ConvTranspose(i, wt)\n    {POOLED}", "transposed convolution 'q' reads it"),
        ("u0 = MatMul(n2, w3)", "u0 = MatMul(n2, w1)", "the layer with a shared weight 'h0' reads it"),
        (MLP, "v0 = MatMul(n2, wd)", "the layer 'v0' reads it and writes it"),
    ],
)
def test_a_layer_that_cannot_take_in_its_norm_is_refused(old: str, new: str, reason: str) -> None:
    """A shift is no bias at a border of zeros, or where taps do not meet; two norms have two scales."""
    arrays = {"wq": (5, WIDTH, 3, 3), "wt": (WIDTH, 5, 2, 2), "wd": (WIDTH, WIDTH)}
    others = {name: random(*shape, seed=7) for name, shape in arrays.items()}
    found = embedding_of(transformer(TEXT.replace(old, new), grid=np.array([0, WIDTH, 2, 2], np.int64), **others))
    assert isinstance(found, Refused)
    assert reason in str(found)


def test_a_network_without_norms_is_refused() -> None:
    model = parse(
        "net (float[n,8] x) => (float[n,4] y) { h = MatMul(x, a)\n y = MatMul(h, b) }", a=random(8, 6), b=random(6, 4)
    )
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    assert "LayerNormalization" in str(embedding_of(model))


@pytest.mark.parametrize("width", [1, WIDTH + 1])
def test_a_width_out_of_range_is_refused(width: int) -> None:
    with pytest.raises(PassError, match=f"a stream of 16 channels cannot have {width}"):
        narrow(transformer(), width)
