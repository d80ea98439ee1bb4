"""An attention between Linears, as exporters write it: heads of any size, shared keys, and grouped queries."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune.passes.canonicalize import canonicalize

TOKENS, WIDTH = 49, 64


def attention(*, heads: int, query_key: int, value: int, shared: int = 1, readers: int = 1) -> ir.Model:
    """A canonical model of ``x: (1, 49, 64)``.

    Args:
        heads: of the queries.
        query_key: size of a head of queries and of keys.
        value: size of a head of values.
        shared: heads of queries that read the same keys and values.
        readers: attentions that read the same keys, each with queries and values of its own.
    """
    kept = heads // shared
    lines, weights = (
        [f"k0 = MatMul(x, wk) {_split('k', kept, query_key, shared)} kt = Transpose<perm=[0,1,3,2]>(k)"],
        {"wk": (WIDTH, kept * query_key)},
    )
    for i in range(readers):
        lines.append(
            f"""
  q{i}0 = MatMul(x, wq{i}) {_split(f"q{i}", heads, query_key)}
  v{i}0 = MatMul(x, wv{i}) {_split(f"v{i}", kept, value, shared)}
  s{i} = MatMul(q{i}, kt) t{i} = Mul(s{i}, half) p{i} = Softmax<axis=-1>(t{i}) o{i} = MatMul(p{i}, v{i})
  r{i} = Transpose<perm=[0,2,1,3]>(o{i}) m{i} = Reshape(r{i}, flat) y{i} = MatMul(m{i}, wo{i})"""
        )
        weights |= {
            f"wq{i}": (WIDTH, heads * query_key),
            f"wv{i}": (WIDTH, kept * value),
            f"wo{i}": (heads * value, WIDTH),
        }
    text = f"""
<ir_version: 8, opset_import: ["" : 17]>
net (float[1, {TOKENS}, {WIDTH}] x) => (float[1, {TOKENS}, {WIDTH}] y)
<float half = {{0.5}}, int64[1] two = {{2}}, int64[3] flat = {{1, {TOKENS}, {heads * value}}}> {{
  {" ".join(lines)}
  y = Sum({", ".join(f"y{i}" for i in range(readers))})
}}"""
    proto = onnx.parser.parse_model(text.strip())
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        array = (rng.standard_normal(shape) / 8).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return canonicalize(ir.from_proto(proto), verify=False)


def _split(name: str, heads: int, size: int, shared: int = 1) -> str:
    """Nodes that split (1, tokens, heads * size) into heads, each repeated for ``shared`` queries."""
    four = _ints(1, TOKENS, heads, size)
    if shared == 1:
        return f"{name}s = Constant<value = {four}>() {name}1 = Reshape({name}0, {name}s) {_to_heads(name, name)}"
    five, all_ = _ints(1, heads, shared, TOKENS, size), _ints(1, heads * shared, TOKENS, size)
    return f"""{name}s = Constant<value = {four}>() {name}1 = Reshape({name}0, {name}s) {_to_heads(f"{name}2", name)}
  {name}3 = Unsqueeze({name}2, two) {name}e = Constant<value = {five}>() {name}4 = Expand({name}3, {name}e)
  {name}a = Constant<value = {all_}>() {name} = Reshape({name}4, {name}a)"""


def _to_heads(result: str, name: str) -> str:
    return f"{result} = Transpose<perm=[0,2,1,3]>({name}1)"


def _ints(*numbers: int) -> str:
    return f"int64[{len(numbers)}] {{{', '.join(map(str, numbers))}}}"
