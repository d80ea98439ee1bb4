"""Shell scripts that lock a device's clocks and read its state and its power sensors, and readers of what they write.

A Jetson has INA3221 monitors, which Linux shows under ``/sys/class/hwmon``: three rails each, with a label, millivolts
and milliamperes. Throttling shows as a cooling device that is active, and as counters of over-current events.
``EDGEPRUNE_SYSFS`` and ``EDGEPRUNE_PROC`` name other folders than ``/sys`` and ``/proc``, for tests.

Some boards have the sleep and date of BusyBox, which know no fractions of a second: there a nap is a second long, and
the time is that since the start of the machine.
"""

from __future__ import annotations

IDLE_SAMPLES = 20

DESCRIBE = """
tr -d '\\000' </proc/device-tree/model 2>/dev/null && echo
nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: */power mode /p'
nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1
head -n 1 /etc/nv_tegra_release 2>/dev/null
uname -m; true
"""
"""Prints what the machine is, a line each."""

LOCK_CLOCKS = """
echo 'no jetson_clocks on the device' >clocks
if command -v jetson_clocks >/dev/null; then
    if sudo -n jetson_clocks --store clocks.conf 2>/dev/null; then
        trap 'sudo -n jetson_clocks --restore clocks.conf' EXIT
        trap 'exit 143' INT TERM HUP
        if sudo -n jetson_clocks; then echo locked >clocks; else echo 'jetson_clocks failed' >clocks; fi
    else
        echo 'not permitted: sudo asks for a password' >clocks
    fi
fi
"""
"""Locks the clocks until the script ends, if that is permitted, and writes to ``clocks`` whether it is."""

STATE = """
sys="${EDGEPRUNE_SYSFS:-/sys}"
nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: */power mode=/p'
jetpack=$(dpkg-query -W -f='${Version}' nvidia-jetpack 2>/dev/null)
test -n "$jetpack" && echo "JetPack=$jetpack"
sed -n 's/^# R\\([0-9]*\\) (release), REVISION: \\([0-9.]*\\).*/L4T=R\\1.\\2/p' /etc/nv_tegra_release 2>/dev/null
for d in "$sys"/class/devfreq/*gpu* "$sys"/class/devfreq/*gv11b* "$sys"/class/devfreq/*ga10b*; do
    test -r "$d/max_freq" && echo "largest GPU clock=$(($(cat "$d/max_freq") / 1000000)) MHz" && break
done
for d in "$sys"/class/thermal/cooling_device*; do
    case "$(cat "$d/type" 2>/dev/null)" in
        *throttle*) test "$(cat "$d/cur_state")" = 0 || echo "active=$(cat "$d/type")";;
    esac
done
for f in "$sys"/class/hwmon/hwmon*/oc*_event_cnt; do
    test -r "$f" && echo "event=$(basename "$f" _event_cnt) $(cat "$f")"
done
true
"""
"""Prints ``name=value`` lines: the power mode, JetPack, clocks, active throttling and counters of events."""

NAP = "{ sleep 0.1 2>/dev/null || sleep 1; }"

POWER = """
sys="${EDGEPRUNE_SYSFS:-/sys}"
read now rest </proc/uptime
for d in "$sys"/class/hwmon/hwmon*; do
    test "$(cat "$d/name" 2>/dev/null)" = ina3221 || continue
    for l in "$d"/in[123]_label; do
        test -r "$l" || continue
        n=${l##*/in}; n=${n%_label}
        echo "$now $(cat "$l")|$(cat "$d/in${n}_input") $(cat "$d/curr${n}_input")"
    done
done 2>/dev/null
true
"""
"""Prints one line for each rail: the time, the rail, millivolts and milliamperes; nothing without sensors."""


def idle_lines() -> list[str]:
    """Lines of a script that write ``power.sh`` and ``idle.log``; without sensors the log is empty."""
    again = f"while [ $i -lt {IDLE_SAMPLES} ]; do sh power.sh; {NAP}; i=$((i + 1)); done >idle.log"
    return ["sh power.sh >idle.log", f"if test -s idle.log; then sleep 1; i=0; {again}; fi"]


def busy_lines(folder: str, loop: str) -> list[str]:
    """Lines of a script that run a loop in a folder and sample the sensors meanwhile, if there are any.

    The first loop of a folder is to write ``times.json``, which becomes ``power.json`` beside ``power.log``.
    """
    sampling = f"( while :; do sh power.sh; {NAP}; done >{folder}/power.log ) & sampler=$!"
    run = f"( cd {folder} && {loop} ) >power.out 2>&1 && mv {folder}/times.json {folder}/power.json"
    return [f"if test -s idle.log; then {sampling}; {run}; kill $sampler; wait $sampler 2>/dev/null; fi"]


def memory_lines(folder: str, run: str) -> list[str]:
    """Lines of a script that run something and sample how much memory is available meanwhile, into ``memory.log``."""
    see = 'grep MemAvailable: "${EDGEPRUNE_PROC:-/proc}/meminfo" 2>/dev/null'
    sampling = f"( while :; do {see}; {NAP}; done >>{folder}/memory.log ) & sampler=$!"
    return [f"{see} >{folder}/memory.log", f"{sampling}; {run}; kill $sampler; wait $sampler 2>/dev/null"]


def conditions(before: str, after: str) -> dict[str, str]:
    """The state of a device while it measured, from what `STATE` printed before and after.

    ``throttling`` says ``none``, or what was active or counted events meanwhile; it is missing if the device shows
    neither.
    """
    one, two = _lines(before), _lines(after)
    found = {name: value for name, value in two if name not in ("active", "event")}
    active = {value for name, value in (*one, *two) if name == "active"}
    counted = dict(value.split() for name, value in one if name == "event" and len(value.split()) == 2)
    events = [value.split() for name, value in two if name == "event"]
    grown = {name for name, count in (e for e in events if len(e) == 2) if counted.get(name, count) != count}
    if active or grown or events:
        found["throttling"] = ", ".join(sorted(active | {f"{name} events" for name in grown})) or "none"
    return found


def _lines(text: str) -> list[tuple[str, str]]:
    parts = (line.partition("=") for line in text.splitlines() if "=" in line)
    return [(name.strip(), value.strip()) for name, _, value in parts if value.strip()]
