"""SymPy is left alone until something computes with symbolic dimensions; each case in a fresh interpreter."""

import subprocess
import sys

import pytest


def lines(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_importing_onnx_ir_does_not_load_sympy() -> None:
    program = """
import sys, edgeprune, onnx_ir
print("sympy.core" in sys.modules)
print(onnx_ir.SymbolicDim("n") + 1)
print("sympy.core" in sys.modules)
"""
    assert lines(program) == ["False", "n + 1", "True"]


@pytest.mark.parametrize("first", ["import edgeprune, sympy", "import edgeprune, onnx_ir, sympy"])
def test_others_get_sympy_as_ever(first: str) -> None:
    assert lines(f"{first}\nfrom sympy import Symbol\nprint(Symbol('x') * 2, sympy.Integer(3))") == ["2*x 3"]


def test_only_onnx_ir_has_it_deferred() -> None:
    assert lines("import sys, edgeprune, sympy\nprint('sympy.core' in sys.modules)") == ["True"]
