"""The scripts for a device's state and power run here, on a made-up folder in place of /sys."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeprune.hosts.sensors import POWER, STATE, conditions


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """As on an Orin Nano: an INA3221 with three rails, another monitor, the GPU's clock, throttling, events."""
    files = {
        "class/hwmon/hwmon0/name": "soctherm_oc",
        "class/hwmon/hwmon0/oc1_event_cnt": "0",
        "class/hwmon/hwmon1/name": "ina3221",
        "class/hwmon/hwmon1/in1_label": "VDD_IN",
        "class/hwmon/hwmon1/in1_input": "5000",
        "class/hwmon/hwmon1/curr1_input": "1000",
        "class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
        "class/hwmon/hwmon1/in2_input": "5000",
        "class/hwmon/hwmon1/curr2_input": "300",
        "class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
        "class/devfreq/17000000.gpu/max_freq": "1020000000",
        "class/thermal/cooling_device0/type": "gpu-throttle-alert",
        "class/thermal/cooling_device0/cur_state": "0",
        "class/thermal/cooling_device1/type": "pwm-fan",
        "class/thermal/cooling_device1/cur_state": "3",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(script: str, sysfs: Path) -> str:
    environment = {**os.environ, "EDGEPRUNE_SYSFS": str(sysfs)}
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=environment).stdout


def test_every_rail_is_read_with_its_name(sysfs: Path):
    rows = [line.partition(" ")[2] for line in run(POWER, sysfs).splitlines()]
    assert rows == ["VDD_IN|5000 1000", "VDD_CPU_GPU_CV|5000 300"]
    assert run(POWER, sysfs / "nothing") == ""


def test_the_state_of_a_quiet_device(sysfs: Path):
    before = run(STATE, sysfs)
    found = conditions(before, run(STATE, sysfs))
    assert found["largest GPU clock"] == "1020 MHz"
    assert found["throttling"] == "none"


def test_throttling_and_events_meanwhile_are_named(sysfs: Path):
    before = run(STATE, sysfs)
    (sysfs / "class/thermal/cooling_device0/cur_state").write_text("1")
    (sysfs / "class/hwmon/hwmon0/oc1_event_cnt").write_text("4")
    found = conditions(before, run(STATE, sysfs))
    assert found["throttling"] == "gpu-throttle-alert, oc1 events"


def test_a_machine_that_shows_nothing_claims_nothing(tmp_path: Path):
    found = conditions("", run(STATE, tmp_path))
    assert "throttling" not in found
    assert "largest GPU clock" not in found


def test_the_names_of_a_jetson():
    said = "power mode=MAXN_SUPER\nJetPack=6.2+b77\nL4T=R36.4.3\nevent=oc1 2\n"
    assert conditions(said, said) == {
        "power mode": "MAXN_SUPER",
        "JetPack": "6.2+b77",
        "L4T": "R36.4.3",
        "throttling": "none",
    }
