from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import simulation
from edgeprune.backends.trtexec_device import Trtexec
from edgeprune.errors import BackendError
from edgeprune.hosts import sensors
from edgeprune.hosts.ssh import SshHost
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.backends.loopback import Loopback
from tests.passes.graphs import TRANSFORMER, build

FAKE_TRTEXEC = Path(__file__).with_name("fake_trtexec.py")


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
    assert result.energy is None  # it was not asked for
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


def feeds(model: ir.Model) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            str(v.name): rng.standard_normal([int(str(d)) for d in v.shape or ()]).astype(np.float32)
            for v in model.graph.inputs
        }
        for _ in range(2)
    ]


@pytest.mark.parametrize("number", [8601, 100300, 110000])
def test_what_an_engine_computes(fake_trtexec: Callable[[int], str], number: int):
    model = lowered("8.6" if number < 100000 else "10.3")
    given = feeds(model)
    found = Trtexec(command=fake_trtexec(number)).outputs(model, given)
    assert found.by == "trtexec"
    wanted = [simulation.load(model).run(feed) for feed in given]
    for one, other in zip(found.outputs, wanted, strict=True):
        assert [a.dtype for a in one] == [b.dtype for b in other]
        np.testing.assert_allclose(one[0], other[0], rtol=0, atol=2e-3 * np.abs(other[0]).max())


def test_pythons_module_is_used_where_the_device_has_it(fake_trtexec: Callable[[int], str], device: Loopback):
    """The same values, without the six digits of trtexec's file; and no start of trtexec for each sample."""
    folder = Path(__file__).with_name("stand_in")
    device.program("python3", f"PYTHONPATH='{folder}' exec '{sys.executable}' \"$@\"")
    try:
        board = Trtexec(SshHost(device.url, config=device.config), command=fake_trtexec(100300))
        model = lowered("10.3")
        found = board.outputs(model, feeds(model))
        assert found.by == "TensorRT's Python module"
        by_trtexec = Trtexec(command=fake_trtexec(100300)).outputs(model, feeds(model))
        for one, other in zip(found.outputs, by_trtexec.outputs, strict=True):
            np.testing.assert_allclose(one[0], other[0], rtol=1e-5, atol=1e-5 * np.abs(other[0]).max())
    finally:
        (device.programs / "python3").unlink()


def test_an_engine_that_cannot_be_run_is_refused(fake_trtexec: Callable[[int], str]):
    model = lowered("10.3")
    with pytest.raises(BackendError, match="trtexec could not run the engine"):
        Trtexec(command=fake_trtexec(100300)).outputs(model, feeds(model), engine=b"not an engine")


def test_a_measurement_costs_few_commands(device: Loopback, monkeypatch: pytest.MonkeyPatch):
    """Over SSH each is a round trip: there were 21 for one model, and 10 more for each further one."""
    device.program("trtexec", f"exec '{sys.executable}' '{FAKE_TRTEXEC}' 100300 \"$@\"")
    commands: list[str] = []
    run = SshHost.run

    def counted(self: SshHost, command: str, *args: object, **given: object) -> object:
        if "for s in" not in command or "setsid" in command:  # others wait for a slow machine
            commands.append(command)
        return run(self, command, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(SshHost, "run", counted)
    try:
        board = Trtexec(SshHost(device.url, config=device.config))
        board.measure({"one": lowered("10.3"), "two": lowered("10.3")}, rounds=2, seconds=1)
    finally:
        (device.programs / "trtexec").unlink()
    assert len(commands) <= 9


def test_the_builds_of_a_model_are_timed_anew_and_measured_in_turns(
    fake_trtexec: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_TIMES", "weights")
    monkeypatch.setenv("FAKE_BUILDS", str(tmp_path / "counter"))
    (tmp_path / "counter").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Trtexec(command=fake_trtexec(100300)).measure({"m": lowered("10.3")}, rounds=1, seconds=1, builds=3)["m"]
    assert [(sample.board, sample.build) for sample in found.samples] == [("", 0), ("", 1), ("", 2)]
    first, second, third = (sample.latency.median_ms for sample in found.samples)
    assert second / first == pytest.approx(1.01, rel=1e-3)
    assert third / first == pytest.approx(1.02, rel=1e-3)
    assert found.latency.median_ms == second
    assert not (tmp_path / "cache").exists()


def test_a_pinned_timing_cache_is_made_once_and_never_changed(
    fake_trtexec: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_TIMES", "weights")
    monkeypatch.setenv("FAKE_BUILDS", str(tmp_path / "counter"))
    (tmp_path / "counter").write_text("5")
    cache, command = tmp_path / "pinned.cache", fake_trtexec(100300)
    made = Trtexec(command=command, timing_cache=cache).measure({"m": lowered("10.3")}, rounds=1, seconds=1)["m"]
    assert cache.read_bytes() == b"fake timing cache"
    board = Trtexec(command=command, timing_cache=cache)
    again = board.measure({"m": lowered("10.3")}, rounds=1, seconds=1, builds=2)["m"]
    assert made.conditions["timing cache"] == again.conditions["timing cache"]
    assert again.samples[0].latency == again.samples[1].latency
    assert (tmp_path / "counter").read_text() == "6"
    cache.write_bytes(b"another")
    other = Trtexec(command=command, timing_cache=cache).measure({"m": lowered("10.3")}, rounds=1, seconds=1)["m"]
    assert other.conditions["timing cache"] != made.conditions["timing cache"]
    assert cache.read_bytes() == b"another"


def test_the_memory_of_an_engine_is_read(fake_trtexec: Callable[[int], str], device: Loopback):
    (device.folder / "proc").mkdir()
    (device.folder / "proc" / "meminfo").write_text("MemAvailable: 4000000 kB\n")
    model = lowered("10.3")
    try:
        board = Trtexec(SshHost(device.url, config=device.config), command=fake_trtexec(100300))
        found = board.measure({"m": model}, rounds=1, seconds=1)["m"].memory
    finally:
        shutil.rmtree(device.folder / "proc")
    assert found is not None
    assert found.source == "build"
    assert found.activations_mb == 3.0
    assert found.mb == pytest.approx(3.0 + (found.weights_mb or 0))
    assert found.process_mb == pytest.approx(100.0, abs=0.01)
    old = Trtexec(command=fake_trtexec(8503)).measure({"m": lowered("8.5")}, rounds=1, seconds=1)["m"].memory
    assert old is not None
    assert (old.source, old.mb, old.weights_mb) == ("loading", 27 * 2**20 / 1e6, None)


def test_facts_say_what_must_be_the_same_on_two_boards(fake_trtexec: Callable[[int], str], device: Loopback):
    device.program("nvpmodel", "echo 'NV Power Mode: 25W'")
    try:
        found = Trtexec(SshHost(device.url, config=device.config), command=fake_trtexec(100300)).facts()
    finally:
        (device.programs / "nvpmodel").unlink()
    assert found["TensorRT"] == "10.3.0"
    assert found["power mode"] == "25W"
    assert "throttling" not in found


def test_energy_is_measured_where_the_device_has_sensors(
    fake_trtexec: Callable[[int], str], device: Loopback, monkeypatch: pytest.MonkeyPatch
):
    """The fake draws three times the current in its loop; the rail and what idling takes are known."""
    monkeypatch.setattr(sensors, "IDLE_SAMPLES", 3)
    rail = device.folder / "sys/class/hwmon/hwmon1"
    rail.mkdir(parents=True)
    for name, text in (("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1000")):
        (rail / name).write_text(text)
    board = Trtexec(SshHost(device.url, config=device.config), command=fake_trtexec(100300))
    try:
        found = board.measure({"model": lowered("10.3")}, rounds=1, seconds=1, power_s=5.0)["model"]
    finally:
        shutil.rmtree(device.folder / "sys")
    assert found.energy is not None
    assert found.energy.rails == ("VDD_IN",)
    assert (found.energy.idle_mw, found.energy.busy_mw) == (5000.0, 15000.0)
    assert found.energy.period_ms == pytest.approx(0.5)  # the fake starts a run every half millisecond
    assert found.energy.mj == pytest.approx(5.0)
