"""`--allow-statistic` against networks in numpy with statistics over the remaining channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.dependency.inspection import inspect_model
from tests.oracle import in_onnxruntime, plan_of

Weights = Mapping[str, NDArray[Any]]

BLOCK = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[1, 5, 8] x) => (float[1, 5, 3] y)
{ [embed] e0 = MatMul(x, we)
  [position] e = Add(e0, p)
  [norm1] n1 = LayerNormalization<axis = -1, epsilon = 0.001>(e, s1, b1)
  [up] h0 = MatMul(n1, w1)
  [up_bias] h1 = Add(h0, c1)
  [relu] h = Relu(h1)
  [down] d0 = MatMul(h, w2)
  [down_bias] d = Add(d0, c2)
  [skip] r = Add(e, d)
  [norm2] n2 = LayerNormalization<axis = -1, epsilon = 0.001>(r, s2, b2)
  [head] y = MatMul(n2, wh) }
"""
EMBEDDING, HIDDEN = 32, 64
SHAPES = {
    "we": (8, EMBEDDING),
    "p": (1, 5, EMBEDDING),
    "s1": (EMBEDDING,),
    "b1": (EMBEDDING,),
    "w1": (EMBEDDING, HIDDEN),
    "c1": (HIDDEN,),
    "w2": (HIDDEN, EMBEDDING),
    "c2": (EMBEDDING,),
    "s2": (EMBEDDING,),
    "b2": (EMBEDDING,),
    "wh": (EMBEDDING, 3),
}


def weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {name: (0.3 * random.standard_normal(shape) + 0.2).astype(np.float32) for name, shape in SHAPES.items()}


def layer_norm(x: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3) * scale + bias


def block(x: NDArray[Any], w: Weights) -> NDArray[Any]:
    """The network in numpy, in double precision."""
    w = {name: array.astype(np.float64) for name, array in w.items()}
    e = x.astype(np.float64) @ w["we"] + w["p"]
    h = np.maximum(layer_norm(e, w["s1"], w["b1"]) @ w["w1"] + w["c1"], 0)
    return layer_norm(e + h @ w["w2"] + w["c2"], w["s2"], w["b2"]) @ w["wh"]


def save(folder: Path) -> Path:
    model = onnx.parser.parse_model(BLOCK)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights().items())
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def prune(net: Path, *more: str) -> Path:
    out = net.with_name("out")
    with pytest.raises(SystemExit) as left:
        cli_support.run_and_exit(
            cli, ["prune", str(net), "--ratio", "0.5", "--no-compensate", "-q", *more, "-o", str(out)]
        )
    assert left.value.code == 0
    return out


def relative_error(have: NDArray[Any], want: NDArray[Any]) -> float:
    return float(np.abs(have - want).max() / np.abs(want).max())


def test_the_norm_is_computed_over_the_remaining_embedding(tmp_path: Path) -> None:
    out = prune(save(tmp_path), "--allow-statistic")
    cuts = plan_of(out)["initializers"]
    embedding, hidden = cuts["we"]["1"]["kept"], cuts["w1"]["1"]["kept"]
    assert (len(embedding), len(hidden)) == (EMBEDDING // 2, HIDDEN // 2)
    whole = {EMBEDDING: embedding, HIDDEN: hidden, 8: range(8), 5: range(5), 3: range(3), 1: range(1)}
    left = {name: array[np.ix_(*(whole[n] for n in array.shape))] for name, array in weights().items()}
    pruned = onnx.load(out / "model.onnx")
    assert {t.name: tuple(t.dims) for t in pruned.graph.initializer} == {n: a.shape for n, a in left.items()}
    x = np.random.default_rng(1).standard_normal((1, 5, 8)).astype(np.float32)
    (have,) = in_onnxruntime(pruned, {"x": x})
    assert relative_error(have, block(x, left)) <= 1e-5
    assert relative_error(have, block(x, weights())) > 1e-2  # so the reference can tell them apart


def test_by_default_the_embedding_is_frozen_by_the_norm(tmp_path: Path) -> None:
    net = save(tmp_path)
    found = inspect_model(net)
    assert [g.size for g in found.groups] == [HIDDEN]
    for tensor, axis in (("we", 1), ("w1", 0), ("w2", 1), ("wh", 0), ("s1", 0), ("p", 2)):
        last = found.analysis.why(tensor, axis)[-1]
        assert last.reason == "LayerNormalization takes a statistic over this axis"
        assert last.node in ("norm1", "norm2")
    out = prune(net)
    assert {t.name: tuple(t.dims) for t in onnx.load(out / "model.onnx").graph.initializer}["we"] == (8, EMBEDDING)
