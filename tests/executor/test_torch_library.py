"""What PyTorch computes in hardware."""

from __future__ import annotations

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
