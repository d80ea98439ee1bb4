"""Run one compile of a sweep in a process of its own; it may be started again after its worker was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeprune.errors import BudgetError, UsageError
from edgeprune.support import write_text
from edgeprune.sweep.grid import Job
from edgeprune.sweep.machine_lock import held, room_to_work

FLAGS = "flags.toml"
REFUSED = "refused.json"
PROGRAM = ("edgeprune", "compile")
_KILLED_TRIES = 2
"""So often a compile is started if it is killed, by a lack of memory for example."""


@dataclass(frozen=True)
class Ended:
    """How a compile ended: its exit code (0: a result, 4: the budget cannot be met), and its sentence."""

    key: str
    code: int
    sentence: str = ""


def run_job(job: Job, out: str, started: Callable[[subprocess.Popen[str]], None] | None = None) -> Ended:
    """Compile one job into ``out``/KEY, unless that was done before.

    Args:
        job: the compile.
        out: folder of the sweep, the same on all workers.
        started: receives the process, to be ended with the sweep.

    Raises:
        UsageError: the folder has a result of other flags.
    """
    home = Path(out).absolute() / job.key
    home.mkdir(parents=True, exist_ok=True)
    with held(home / "job.lock") as own:
        if (known := known_end(job, home)) is not None:
            return known
        write_text(home / FLAGS, job.recipe.moved_to(home).to_toml())
        with room_to_work(measures=job.measures, device=job.device) as locks:
            code, sentence = _compiled(home, (own, *locks), started)
    ended = Ended(job.key, code, sentence)
    if code == BudgetError.exit_code:
        write_text(home / REFUSED, json.dumps(asdict(ended)) + "\n")
    return ended


def known_end(job: Job, home: Path) -> Ended | None:
    """How the job ended before; None if it has to run.

    Raises:
        UsageError: there is a result of other flags.
    """
    flags, done, refused = home / FLAGS, home / "result" / "report.json", home / REFUSED
    if not done.is_file() and not refused.is_file():
        return None
    if not flags.is_file() or flags.read_text(encoding="utf-8") != job.recipe.moved_to(home).to_toml():
        raise UsageError(
            f"{str(home)!r} has a result of other flags than the sweep asks for: remove it, or name another folder "
            "with -o"
        )
    if done.is_file():
        return Ended(job.key, 0)
    return Ended(**json.loads(refused.read_text(encoding="utf-8")))


def _compiled(
    home: Path, locks: tuple[int, ...], started: Callable[[subprocess.Popen[str]], None] | None
) -> tuple[int, str]:
    command = [sys.executable, "-m", *PROGRAM, "--recipe", FLAGS, "-o", "result", "--quiet"]
    said = ""
    for _ in range(_KILLED_TRIES):
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, "CI": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=locks,  # a child that outlives its worker keeps the locks
            start_new_session=True,
        )
        if started is not None:
            started(process)
        said = process.communicate()[1].strip()
        if process.returncode >= 0:
            lines = said.splitlines()
            return process.returncode, lines[-1].removeprefix("edgeprune: ") if lines else ""
    return -process.returncode + 128, f"it was killed by signal {-process.returncode}, twice"
