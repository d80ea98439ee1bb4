from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeprune.backends.ssh import SshHost
from edgeprune.backends.trtexec_device import Trtexec
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.backends.loopback import Loopback
from tests.passes.graphs import TRANSFORMER, build


def lowered(version: str):
    model = build(TRANSFORMER)
    return lower_tensorrt(model, {str(n.name): "fp16" for n in model.graph}, {}, target_versions=[version])


@pytest.mark.parametrize(
    ("number", "version"), [(8503, "8.5.3"), (8601, "8.6.1"), (100300, "10.3.0"), (110000, "11.0.0")]
)
def test_local(
    fake_trtexec: Callable[[int], str], number: int, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    device = Trtexec(command=fake_trtexec(number))
    results = device.measure({"dense": lowered(version), "pruned": lowered(version)}, rounds=2, seconds=1)
    assert list(results) == ["dense", "pruned"]
    result = results["pruned"]
    assert result.versions == {"tensorrt": version}
    assert result.latency.median_ms == pytest.approx(0.27, abs=0.011)
    assert len(result.latency.blocks_ms) == 8
    assert result.latency.runs == 40
    assert result.engine is not None
    assert result.engine.startswith(b"fake engine --onnx=model.onnx")
    assert b"--sparsity=enable" not in result.engine
    assert (b"--stronglyTyped" in result.engine) is (number == 100300)
    assert result.layers[0].name == "conv1 + relu1"
    assert result.clocks
    assert [file.name for file in (tmp_path / "cache/edgeprune").iterdir()] == [f"trtexec-{version}.cache"]


def test_over_ssh(fake_trtexec: Callable[[int], str], device: Loopback):
    device.program("sudo", 'test "$1" = -n || exit 1; shift; exec "$@"')
    device.program("jetson_clocks", f'echo "$1" >>"{device.folder}/clocks"; exit 0')
    host = SshHost(device.url, config=device.config)
    told: list[str] = []
    results = Trtexec(host, command=fake_trtexec(100300)).measure(
        {"model": lowered("10.3")}, rounds=2, seconds=1, progress=lambda what, seconds: told.append(what)
    )
    result = results["model"]
    assert result.engine is not None
    assert b"--stronglyTyped" in result.engine
    assert result.latency.runs == 40
    assert result.clocks == "locked"
    assert (device.folder / "clocks").read_text().split() == ["--store", "--restore"]
    assert (device.folder / "cache/edgeprune/trtexec-10.3.0.cache").exists()
    assert told[0] == "building model"
    assert not list((device.folder / "tmp").glob("edgeprune-*"))


def test_the_reason_of_a_failed_build_comes_back(fake_trtexec: Callable[[int], str]):
    model = lowered("11.0")
    model.doc_string = "Unbuildable"
    with pytest.raises(BackendError, match=r"could not build m1: Error\[4\]: node 'bad' \[Unbuildable\]"):
        Trtexec(command=fake_trtexec(110000)).measure({"m1": model}, rounds=1, seconds=1)


def test_a_machine_without_trtexec_says_so():
    with pytest.raises(BackendError, match="this machine has no /nowhere/trtexec"):
        Trtexec(command="/nowhere/trtexec").measure({}, rounds=1)
