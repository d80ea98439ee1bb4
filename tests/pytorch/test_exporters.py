"""What PyTorch prints while it exports."""

from __future__ import annotations

import os
import sys

import pytest

from edgeprune.pytorch.exporters import _quiet


def test_what_exporters_print_is_hidden_and_comes_back(capfd: pytest.CaptureFixture[str]):
    """An operator without an ONNX form made PyTorch's C++ code print the whole graph between our lines."""

    def export() -> None:
        with _quiet():
            print("by Python")
            os.write(1, b"by C++")
            raise ValueError("in the exporter")

    with pytest.raises(ValueError, match="in the exporter"):
        export()
    os.write(1, b"afterwards")
    assert capfd.readouterr().out == "afterwards"


def test_exporters_run_without_a_standard_output(monkeypatch: pytest.MonkeyPatch):
    """As in a service that closed it."""

    def no_copy(number: int) -> int:
        raise OSError(f"bad file descriptor {number}")

    monkeypatch.setattr(sys, "__stdout__", None)
    monkeypatch.setattr(os, "dup", no_copy)
    with _quiet() as caught:
        print("hidden")
    assert caught == []
