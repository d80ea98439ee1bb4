from collections.abc import Sequence

import pytest

from edgeprune.testing.oracle import verify
from tests.models import single


@pytest.mark.parametrize(
    ("body", "weights", "groups"),
    [
        ("y = MatMul(h, w2)", {"w2": (6, 3)}, [6]),
        ("i = Add(h, b) y = MatMul(i, w2)", {"b": (6,), "w2": (6, 3)}, [6]),
        ("i = MatMul(h, w2) y = MatMul(i, w3)", {"w2": (6, 7), "w3": (7, 3)}, [6, 7]),
        ('y = Einsum<equation="btc,cd->btd">(h, w2)', {"w2": (6, 3)}, [6]),
        ('y = Einsum<equation="b t c, c d -> b t d">(h, w2)', {"w2": (6, 3)}, [6]),
        (
            'i = Einsum<equation="btc,chd->bthd">(h, w2) y = Einsum<equation="bthd,hde->bte">(i, w3)',
            {"w2": (6, 2, 4), "w3": (2, 4, 3)},
            [6, 2, 4],
        ),
        ('y = Einsum<equation="...c,cd">(h, w2)', {"w2": (6, 3)}, [6]),
        ("y = MatMul(w2, h)", {"w2": (3, 5)}, []),
        (
            "t = Transpose<perm=[0,2,1]>(h) i = MatMul(t, w2) j = MatMul(i, w3) "
            "k = Transpose<perm=[0,2,1]>(j) y = MatMul(k, w4)",
            {"w2": (5, 4), "w3": (4, 5), "w4": (6, 2)},
            [4, 6],
        ),
    ],
)
def test_matmuls(body: str, weights: dict[str, Sequence[int]], groups: list[int]) -> None:
    model = single(f"g (float[1,5,8] x) => (float[?,?,?] y) {{ h = MatMul(x, w1) {body} }}", w1=(8, 6), **weights)
    assert sorted(g.size for g in verify(model).groups) == sorted(groups)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(7,), (1, 7), (1,), (1, 1), (2, 1), (2, 7)])
def test_gemm(transposed: int, bias: Sequence[int]) -> None:
    text = f"""g (float[2,8] x) => (float[2,3] y) {{
        h = Gemm<transB={transposed}>(x, w1, b)
        r = Relu(h)
        y = Gemm<transB={transposed}>(r, w2)
    }}"""
    w1, w2 = ((7, 8), (3, 7)) if transposed else ((8, 7), (7, 3))
    assert [g.size for g in verify(single(text, w1=w1, b=bias, w2=w2)).groups] == [7]


def test_a_transposed_first_operand() -> None:
    text = """g (float[2,8] x) => (float[2,3] y) {
        h = MatMul(x, w1)
        t = Transpose<perm=[1,0]>(h)
        r = Relu(t)
        y = Gemm<transA=1>(r, w2)
    }"""
    assert [g.size for g in verify(single(text, w1=(8, 7), w2=(7, 3))).groups] == [7]


def test_a_diagonal_is_frozen() -> None:
    text = """g (float[1,6,8] x) => (float[1,6] y) { h = MatMul(x, w1) y = Einsum<equation="bii->bi">(h) }"""
    analysis = verify(single(text, w1=(8, 6)))
    assert analysis.groups == ()
    assert "takes a diagonal" in str(analysis.frozen["w1", 1])
