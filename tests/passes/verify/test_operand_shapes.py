"""Operands whose shapes do not fit each other, and indices out of range, are refused by name; what fits is not."""

from collections.abc import Mapping

import numpy as np
import pytest

from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize import canonicalize
from tests.passes.verify.test_operands import parse

GRAPH = "g (float[2,8,4] x) => (y) {{ [bad] y{more} = {call}(x{names}) }}"
PICTURE = "g (float[1,3,8,8] x) => (y) {{ [bad] y{more} = {call}(x{names}) }}"
MATRIX = "g (float[2,8] x) => (y) {{ [bad] y{more} = {call}(x{names}) }}"
LSTM = "LSTM<hidden_size = 5>"
ATTENTION = "Attention<q_num_heads = 2, kv_num_heads = 1>"
Arrays = Mapping[str, np.ndarray]


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def numbers(*values: int, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    return np.array(values, np.int64).reshape(shape)


def simplified(text: str, call: str, more: str = "", **arrays: np.ndarray) -> None:
    names = "".join(f", {name}" for name in arrays)
    opset = 23 if call.startswith("Attention") else 17
    model = parse(text.format(call=call, names=names, more=more), opset=opset, **arrays)
    canonicalize(model, verify=False)


@pytest.mark.parametrize(
    ("text", "call", "arrays", "wrong"),
    [
        (GRAPH, "GatherND", {"i": numbers(2, 0, shape=(1, 2))}, "index 2 of an axis of length 2"),
        (GRAPH, "GatherND<batch_dims = 1>", {"i": numbers(7, -9, shape=(2, 1))}, "index -9 of an axis of length 8"),
        (GRAPH, "GatherND", {"i": numbers(0, 0, 0, 0, shape=(1, 4))}, "(4 indices at a time|Last dimension)"),
        (GRAPH, "ScatterND", {"i": numbers(2, shape=(1, 1)), "u": ones(1, 8, 4)}, "index 2 of an axis of length 2"),
        (GRAPH, "ScatterND", {"i": numbers(1, shape=(1, 1)), "u": ones(1, 8)}, r"shape \[1, 8\], not \[1, 8, 4"),
        (GRAPH, "ScatterElements", {"i": numbers(2, shape=(1, 1, 1)), "u": ones(1, 1, 1)}, "index 2 of an axis"),
        (GRAPH, "ScatterElements", {"i": numbers(1, shape=(1, 1, 1)), "u": ones(1, 1)}, r"updates of shape \[1, 1\]"),
        (GRAPH, "ScatterElements", {"i": numbers(1, shape=(1, 1)), "u": ones(1, 1)}, "indices with 2 axes"),
        (GRAPH, "GatherElements", {"i": numbers(1, shape=(1, 1))}, "(indices with 2 axes|[Rr]ank)"),
        (GRAPH, "Clip", {"low": ones(2)}, r"shape \[2\] where a single number"),
        (GRAPH, "Trilu", {"k": numbers(1, 2)}, r"shape \[2\] where a single number"),
        (GRAPH, "CumSum", {"a": numbers(1, 1)}, r"shape \[2\] where a single number"),
        (GRAPH, "Reshape", {"s": numbers(2, -1, shape=(1, 2))}, r"(shape \[1, 2\] where a vector|[Ss]hape.* rank)"),
        (GRAPH, "Slice", {"b": numbers(0), "e": numbers(1), "a": numbers(1, 2)}, r"different lengths: \[1, 2\]"),
        (GRAPH, "Einsum<equation = \"abc,cd->abd\">", {"w": ones(5, 6)}, "length 4 and 5 for the letter 'c'"),
        (GRAPH, "Einsum<equation = \"abc,cd->abd\">", {"w": ones(4)}, "1 axes for the term 'cd'"),
        (GRAPH, "Add", {"w": ones(3, 8, 1)}, "Incompatible dimensions"),
        (GRAPH, LSTM, {"w": ones(1, 20, 3), "r": ones(1, 20, 5)}, r"shape \[1, 20, 3\], not \[1, 20, 4\]"),
        (GRAPH, "GRU<hidden_size = 5>", {"w": ones(1, 15, 4), "r": ones(1, 14, 5)}, r"not \[1, 15, 5\]"),
        (PICTURE, "Conv<kernel_shape = [3, 3]>", {"w": ones(4, 3, 3, 2)}, r"kernel_shape \[3, 3\], but a weight"),
        (PICTURE, "Conv", {"w": ones(4, 3, 3)}, "weight with 3 axes|rank"),
        (PICTURE, "MaxPool<kernel_shape = [2, 2], pads = [2, 0, 0, 0]>", {}, r"pads \[2, 0, 0, 0\] for a kernel"),
        (GRAPH, ATTENTION, {"k": ones(2, 3, 3), "v": ones(2, 3, 2)}, "not go together"),
        (GRAPH, ATTENTION, {"k": ones(2, 3, 2), "v": ones(2, 4, 2)}, "not go together"),
        (MATRIX, "Gemm", {"w": ones(8, 5), "c": ones(4)}, r"bias of shape \[4\] to \[2, 5\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(text: str, call: str, arrays: Arrays, wrong: str) -> None:
    more = ", h" if call.startswith(("LSTM", "GRU")) else ""
    with pytest.raises(ModelError, match=f"not valid: .*(bad.*({wrong})|({wrong}).*bad)"):
        simplified(text, call, more, **arrays)


@pytest.mark.parametrize(
    ("text", "call", "arrays"),
    [
        (GRAPH, "GatherND", {"i": numbers(-2, 7, shape=(1, 2))}),
        (GRAPH, "ScatterND", {"i": numbers(1, shape=(1, 1)), "u": ones(1, 8, 4)}),
        (GRAPH, "ScatterElements<axis = -1>", {"i": numbers(-4, 3, shape=(1, 1, 2)), "u": ones(1, 1, 2)}),
        (GRAPH, ATTENTION, {"k": ones(2, 3, 2), "v": ones(2, 3, 5)}),
        (GRAPH, "Clip", {"low": ones(1)}),
        (GRAPH, LSTM, {"w": ones(1, 20, 4), "r": ones(1, 20, 5), "b": ones(1, 40)}),
        (PICTURE, "MaxPool<kernel_shape = [2, 2], pads = [1, 0, 1, 0]>", {}),
        (PICTURE, "ConvTranspose<kernel_shape = [3, 2]>", {"w": ones(3, 4, 3, 2)}),
        (MATRIX, "Gemm", {"w": ones(8, 5), "c": ones(2, 1)}),
        (MATRIX, "Gemm", {"w": ones(8, 5), "c": np.float32(1)}),
    ],
)
def test_what_fits_is_not(text: str, call: str, arrays: Arrays) -> None:
    simplified(text, call, ", h" if call == LSTM else "", **arrays)
