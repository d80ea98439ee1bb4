"""Peak memory of a whole compile does not depend on the number of calibration samples."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.graph import model_io as graph
from tests.small_models import build, normal

MOST_GROWTH = 1.2
SIDE = 64


def peak_kib(model: Path, samples: int, folder: Path) -> int:
    """Largest resident set of an ``edgeprune compile`` process with this number of images, KiB."""
    images = np.random.default_rng(0).standard_normal((samples, 3, SIDE, SIDE)).astype(np.float32)
    np.savez(folder / "images.npz", x=images)
    del images
    command = [sys.executable, "-m", "edgeprune", "compile", str(model), "--target", "cpu", "--speedup", "1.2"]
    command += ["--calib", str(folder / "images.npz"), "-o", str(folder / "out")]
    environment = os.environ | {"EDGEPRUNE_CACHE": str(folder / "cache")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 4)  # 4: the machine was too busy, so the budget was not met
    return usage.ru_maxrss


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident sets are counted in KiB on Linux")
def test_peak_memory_with_eight_times_as_many_images(tmp_path: Path) -> None:
    model = build(
        """g (float[n,3,64,64] x) => (float[n,10] y) {
            a = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w1, b1) b = Relu(a)
            c = Conv<pads=[1,1,1,1]>(b, w2, b2) d = Relu(c)
            e = Conv<pads=[1,1,1,1],strides=[2,2]>(d, w3, b3) f = Relu(e)
            p = GlobalAveragePool(f) q = Flatten(p) y = Gemm<transB=1>(q, w4, b4)
        }""",
        w1=normal(32, 3, 3, 3),
        b1=normal(32),
        w2=normal(64, 32, 3, 3),
        b2=normal(64),
        w3=normal(128, 64, 3, 3),
        b3=normal(128),
        w4=normal(10, 128),
        b4=normal(10),
    )
    graph.save(model, tmp_path / "model.onnx")
    peaks = []
    for samples in (128, 1024):
        folder = tmp_path / str(samples)
        folder.mkdir()
        peaks.append(peak_kib(tmp_path / "model.onnx", samples, folder))
    assert peaks[1] <= MOST_GROWTH * peaks[0]
