from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.compiler.bench_models import bench_models
from edgeprune.errors import BackendError


def test_other_targets_cannot_be_measured_here():
    with pytest.raises(BackendError, match="can measure on 'orin'"):
        bench_models([Path("net.onnx")], target="orin")
