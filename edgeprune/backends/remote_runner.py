"""Measure ONNX models with onnxruntime on the device to which this file is copied.

It only needs Python 3.8, NumPy and onnxruntime. Usage: python3 remote_runner.py JOB.json RESULT.json

JOB: {"models": {name: file}, "threads": n, "provider": name, "seconds": s, "turn": {"runs": n, "least_s": s,
"most_s": s}, "shapes": {input: [..]}, "seed": n, "trace_s": s}. RESULT: {"blocks_ms": {name: [[..], ..]}, "ran_on":
{name: {provider: nodes}}, "versions": {..}, "kernels": {name: [kernel runs, [{"name": .., "dur": us}, ..]]}}; "kernels"
only if "trace_s" is above 0.

Models take turns in short blocks, and the first run of each block does not count, as in `edgeprune.timing`. A profile
of one run, not the list of requested providers, shows which provider ran. A failure ends the program with the reason on
the last line of the log.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from typing import Any


def main(job_file: str, result_file: str) -> None:
    """Load all models, find the provider that runs them, measure them in turns, and write the result."""
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        sys.exit(f"{error}; install numpy and onnxruntime there")
    with open(job_file) as file:
        job: dict[str, Any] = json.load(file)
    present = onnxruntime.get_available_providers()
    if job["provider"] not in present:
        sys.exit(f"onnxruntime there has no {job['provider']}, only {', '.join(present)}")
    runs, nodes, kernels = {}, {}, {}
    for name, path in job["models"].items():
        session = load(path, job, profile=False)
        feeds = random_feeds(session, job)
        nodes[name] = ran_on(path, job, feeds)
        runs[name] = (session, feeds)
        if job.get("trace_s"):
            kernels[name] = traced(path, job, feeds)
    versions = {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__}
    result = {
        "blocks_ms": time_in_turns(runs, job),
        "ran_on": nodes,
        "kernels": kernels,
        "versions": {**versions, "python": platform.python_version()},
    }
    with open(result_file + ".part", "w") as file:
        json.dump(result, file)
    os.replace(result_file + ".part", result_file)


def load(path: str, job: dict[str, Any], profile: bool) -> Any:
    """A session with the job's threads and provider; the CPU only runs nodes that the provider does not support."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_profiling = profile
    options.profile_file_prefix = path + ".profile"
    providers = [job["provider"]]
    if job["provider"] != "CPUExecutionProvider":
        providers.append("CPUExecutionProvider")
    return onnxruntime.InferenceSession(path, options, providers=providers)


def profiled(path: str, job: dict[str, Any], feeds: dict[str, Any], seconds: float) -> tuple[int, list[dict[str, Any]]]:
    """The number of runs, at least one, and the events that onnxruntime's profiler recorded."""
    session = load(path, job, profile=True)
    runs, until = 0, time.perf_counter() + seconds
    while not runs or time.perf_counter() < until:
        session.run(None, feeds)
        runs += 1
    trace = session.end_profiling()
    with open(trace) as file:
        events = json.load(file)
    os.remove(trace)
    return runs, events


def traced(path: str, job: dict[str, Any], feeds: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """The number of runs, and the time of every kernel in each run."""
    runs, events = profiled(path, job, feeds, job["trace_s"])
    mine = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    return runs, [{"cat": "Node", "name": e["name"], "dur": e["dur"]} for e in mine]


def ran_on(path: str, job: dict[str, Any], feeds: dict[str, Any]) -> dict[str, int]:
    """Provider -> number of nodes that it ran, from the profile of one run."""
    _, events = profiled(path, job, feeds, 0.0)
    counts: dict[str, int] = {}
    for event in events:
        provider = event.get("args", {}).get("provider")
        if event.get("cat") == "Node" and provider:
            counts[provider] = counts.get(provider, 0) + 1
    return counts


TYPES = {"float": "float32", "double": "float64"}


def random_feeds(session: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Standard normal floats, zeros and ones for other types; an open first size is a batch of 1."""
    import numpy

    generator = numpy.random.RandomState(job["seed"])
    feeds: dict[str, Any] = {}
    for port in session.get_inputs():
        shape = job["shapes"].get(port.name) or [
            size if isinstance(size, int) else (1 if axis == 0 else None) for axis, size in enumerate(port.shape)
        ]
        if None in shape:
            sys.exit(f"input {port.name} has an open size: give --shape {port.name}=SIZES")
        word = port.type[len("tensor(") : -1]
        dtype = numpy.dtype(TYPES.get(word, word))
        values = generator.standard_normal(shape) if dtype.kind == "f" else generator.randint(0, 2, shape)
        feeds[port.name] = numpy.asarray(values, dtype=dtype)
    return feeds


def time_in_turns(runs: dict[str, Any], job: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Name -> blocks of run times in milliseconds; all models have the same number of blocks."""
    blocks: dict[str, list[list[float]]] = {name: [] for name in runs}
    order = list(runs)
    shuffle = random.Random(job["seed"]).shuffle
    session, feeds = runs[order[0]]
    block_s = turn_s(session, feeds, job["turn"])
    started = time.perf_counter()
    while len(blocks[order[0]]) < 6 or time.perf_counter() - started < job["seconds"]:
        shuffle(order)
        for name in order:
            session, feeds = runs[name]
            session.run(None, feeds)
            block: list[float] = []
            until = time.perf_counter() + block_s
            while not block or time.perf_counter() < until:
                before = time.perf_counter()
                session.run(None, feeds)
                block.append((time.perf_counter() - before) * 1e3)
            blocks[name].append(block)
    return blocks


def turn_s(session: Any, feeds: dict[str, Any], turn: dict[str, float]) -> float:
    """The length of a turn, seconds: so many runs of the first model, within bounds."""
    session.run(None, feeds)
    before = time.perf_counter()
    session.run(None, feeds)
    return min(max(turn["runs"] * (time.perf_counter() - before), turn["least_s"]), turn["most_s"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
