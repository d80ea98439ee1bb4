"""``edgeprune compile`` as a stand-in for sweeps: writes a report, notes when it ran, and may wait or fail."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import tests.reports as reports
from edgeprune.report.model import ModelFile
from edgeprune.timing import Measurement


def main() -> int:
    flags = dict(line.split(" = ", 1) for line in Path("flags.toml").read_text(encoding="utf-8").splitlines())
    model, target = json.loads(flags["model"]), json.loads(flags["target"])
    log = Path(os.environ["SWEEP_LOG"])
    begin = time.monotonic()
    with log.open("a") as file:
        file.write(json.dumps(["begin", str(Path.cwd()), os.getpid(), begin]) + "\n")
    if _is_the_one_to_kill():
        time.sleep(60)
    time.sleep(float(os.environ.get("SWEEP_SECONDS", "0.1")))
    if "refused" in model:
        sys.stderr.write("reading\nedgeprune: the budget cannot be met; 1.2x can\n")
        return 4
    if "broken" in model:
        sys.stderr.write("edgeprune: the model is invalid\n")
        return 3
    speed = float(flags.get("speedup", "1"))
    slow, fast = reports.measurement(6.0), reports.measurement(6.0 / speed)
    assert isinstance(fast, Measurement)
    result = Path("result.tmp")
    result.mkdir(exist_ok=True)
    made = reports.report(target=target, model=ModelFile(model, "0" * 64), latency=reports.latency(slow, fast))
    (result / "report.json").write_text(made.to_json(), encoding="utf-8")
    result.rename("result")
    with log.open("a") as file:
        file.write(json.dumps(["end", str(Path.cwd()), os.getpid(), time.monotonic()]) + "\n")
    return 0


def _is_the_one_to_kill() -> bool:
    """Whether this is the first that runs; its process number is then in the file that SWEEP_VICTIM names."""
    file = os.environ.get("SWEEP_VICTIM")
    if file is None:
        return False
    try:
        mine = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    os.write(mine, f"{os.getpid()}\n".encode())
    os.close(mine)
    return True


if __name__ == "__main__":
    sys.exit(main())
