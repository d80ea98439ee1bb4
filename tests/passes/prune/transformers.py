"""A small transformer between two Linears: attention and MLP branches on a residual stream of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.small_models import build, normal

TOKENS, WIDTH, HIDDEN, HEADS = 5, 8, 24, 2

ATTENTION = """
  n@ = LayerNormalization<axis=-1>(x@, g)
  qa@ = MatMul(n@, wq@) qb@ = Reshape(qa@, split) q@ = Transpose<perm=[0,2,1,3]>(qb@)
  ka@ = MatMul(n@, wk@) kc@ = Add(ka@, bk@) kb@ = Reshape(kc@, split) k@ = Transpose<perm=[0,2,3,1]>(kb@)
  va@ = MatMul(n@, wv@) vb@ = Reshape(va@, split) v@ = Transpose<perm=[0,2,1,3]>(vb@)
  s@ = MatMul(q@, k@) p@ = Softmax<axis=-1>(s@) o@ = MatMul(p@, v@)
  t@ = Transpose<perm=[0,2,1,3]>(o@) m@ = Reshape(t@, joined)
  e@ = MatMul(m@, wo@) f@ = Add(e@, bo@) NEXT = Add(x@, f@)
"""
MLP = """
  n@ = LayerNormalization<axis=-1>(x@, g)
  h@ = MatMul(n@, wi@) a@ = Add(h@, bi@) r@ = Relu(a@)
  e@ = MatMul(r@, we@) f@ = Add(e@, be@) NEXT = Add(f@, x@)
"""
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    ATTENTION: {
        "wq": (WIDTH, WIDTH),
        "wk": (WIDTH, WIDTH),
        "wv": (WIDTH, WIDTH),
        "wo": (WIDTH, WIDTH),
        "bo": (WIDTH,),
        "bk": (WIDTH,),
    },
    MLP: {"wi": (WIDTH, HIDDEN), "bi": (HIDDEN,), "we": (HIDDEN, WIDTH), "be": (WIDTH,)},
}


def transformer(
    *branches: str, change: tuple[str, str] = ("", ""), factors: Mapping[str, float] | None = None
) -> ir.Model:
    """A canonical model; ``branches`` are `ATTENTION` or `MLP`, in their order.

    Branch number i ends in the MatMul ``e{i}``; its input is ``x{i}``, and its sum ``x{i + 1}``.
    ``change``: a part of the text, and what to write instead. ``factors``: of weights by name.
    """
    weights = {"win": normal(6, WIDTH), "g": normal(WIDTH), "wout": normal(WIDTH, 3)}
    body = ""
    for i, text in enumerate(branches):
        body += text.replace("NEXT", f"x{i + 1}").replace("@", str(i))
        weights |= {
            f"{name}{i}": normal(*shape, seed=10 * i + k) for k, (name, shape) in enumerate(SHAPES[text].items())
        }
    text = f"""net (float[n, {TOKENS}, 6] x) => (float[n, {TOKENS}, 3] y) {{
  x0 = MatMul(x, win) {body}
  y = MatMul(x{len(branches)}, wout)
}}"""
    assert change[0] in text
    text = text.replace(*change)
    integers = (
        {} if ATTENTION not in branches else {"split": [0, TOKENS, HEADS, WIDTH // HEADS], "joined": [0, TOKENS, WIDTH]}
    )
    for name, factor in (factors or {}).items():
        weights[name] = weights[name] * factor
    return canonicalize(build(text, integers=integers, **weights))
