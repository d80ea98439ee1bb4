"""What PyTorch computes in hardware."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeprune.executor import torch_library
from edgeprune.support.processor import Cpu

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (("avx", "avx2", "avx512f", "avx512_vnni"), False),  # PyTorch runs bfloat16 there, but through float32
        (("avx512f", "avx512_bf16"), True),
        (("amx_bf16",), True),
        (("asimd", "bf16"), True),
        (("asimd",), False),
    ],
)
def test_bfloat16_is_in_hardware_where_the_processor_has_its_instructions(
    features: tuple[str, ...], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_library, "this_cpu", lambda: Cpu("a processor", 2, features))
    assert torch_library.has_bfloat16("cpu") == expected


def test_torch_is_loaded_when_a_network_is_run_in_it_and_not_before() -> None:
    """It takes seconds and 200 MB, which a compile without a training does not need."""
    code = (
        "import sys, edgeprune.cli.commands, edgeprune.compiler, edgeprune.executor as e;"
        "print('torch' in sys.modules);"
        "from edgeprune.executor import GraphModule; print('torch' in sys.modules, hasattr(e, 'no_such_name'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True", "False"]
