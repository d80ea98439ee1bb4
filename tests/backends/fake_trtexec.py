"""A fake trtexec, not TensorRT: it builds nothing and times nothing; onnxruntime computes what its engines give.

It accepts only the options of the given version and writes files in that version's format (from the documentation and
trtexec's sources). So all code around trtexec can be tested without a GPU.

Usage: fake_trtexec.py VERSION OPTION ..., VERSION being 8503, 8601, 100300 or 110000

With FAKE_MISCOMPILE=NODE in its environment, an engine that it builds computes that node wrong: see
`tests/backends/stand_in_engine.py`.

Its latencies are made up. They are always the same; with FAKE_TIMES=weights in its environment, a layer takes longer
with more weights, and less time in FP16, INT8 and 2:4 than in FP32. The layers that FAKE_SLOW_INT8 names, separated by
commas, take three times as long in INT8. An engine that was built without a timing cache is slower, by 1% for each that
FAKE_BUILDS, a file, has counted so far. What it prints of memory is made up, too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

COMMON = {"--onnx", "--saveEngine", "--loadEngine", "--skipInference", "--profilingVerbosity", "--timingCacheFile"} | {
    *("--sparsity", "--duration", "--warmUp", "--exportTimes", "--exportProfile", "--exportLayerInfo", "--shapes"),
    *("--minShapes", "--optShapes", "--maxShapes", "--help", "--loadInputs", "--exportOutput", "--iterations"),
}
TIMING = {"--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--separateProfileRun"}
WEAK = {"--fp16", "--int8", "--precisionConstraints", "--layerPrecisions"}
KNOWN = {
    8503: (COMMON - {"--skipInference"}) | TIMING | WEAK | {"--buildOnly"},
    8601: COMMON | TIMING | WEAK,
    100300: COMMON | TIMING | WEAK | {"--stronglyTyped"},
    110000: COMMON | {"--stronglyTyped", "--noCudaGraph", "--includeDataTransfers"},
}


US_A_LAUNCH, US_A_WEIGHT = 10.0, {4: 2e-3, 2: 1e-3, 1: 5e-4}


def made_up_layers(model_file: str) -> list[dict[str, object]]:
    """Name and microseconds of every product, by the bytes of its weights' type and whether half of them are zero."""
    import numpy as np
    import onnx

    model = onnx.load(model_file)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    made_by = {o: n for n in model.graph.node for o in n.output}
    layers: list[dict[str, object]] = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            name = node.input[1]
            while name in made_by:
                name = made_by[name].input[0]
            weight = stored.get(name, np.ones(0, np.float16))  # a product of two activations has none
            us = US_A_LAUNCH + US_A_WEIGHT[weight.itemsize] * weight.size
            if weight.itemsize == 1 and node.name in os.environ.get("FAKE_SLOW_INT8", "").split(","):
                us *= 3
            sparse = 0 < 2 * np.count_nonzero(weight) <= weight.size
            layers.append({"name": node.name, "us": 0.7 * us if sparse else us})
    return layers


def unsigned_pair(model_file: str) -> str:
    """The name of a QuantizeLinear or DequantizeLinear with a zero point of type uint8, which TensorRT refuses."""
    import onnx

    model = onnx.load(model_file)
    unsigned = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.UINT8}
    pairs = (n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear"))
    return next((n.name for n in pairs if len(n.input) > 2 and n.input[2] in unsigned), "")


def times(version: int, count: int, total_us: float | None = None) -> str:
    rows = []
    for i in range(count):
        start, compute = 0.5 * i, 0.25 + 0.01 * (i % 5)
        if total_us is not None:
            compute = 1e-3 * total_us * (1 + 0.001 * (i % 5))
        row = {"startEnqMs": start, "endEnqMs": start + 0.02, "startH2dMs": start, "endH2dMs": start}
        row |= {"startComputeMs": start, "endComputeMs": start + compute, "startD2hMs": start + compute}
        row |= {"endD2hMs": start + compute, "h2dMs": 0, "computeMs": compute, "d2hMs": 0, "latencyMs": compute}
        if version < 10_000:
            old = {"H2d": "In", "D2h": "Out", "h2dMs": "inMs", "d2hMs": "outMs"}
            for new_name, old_name in old.items():
                row = {key.replace(new_name, old_name): value for key, value in row.items()}
        rows.append("{ " + ", ".join(f'"{k}" : {v:g}' for k, v in row.items()) + " }")
    return "[\n  " + "\n, ".join(rows) + "\n]\n"


def profile(made_up: list[dict[str, object]] | None = None) -> str:
    layers: list[tuple[object, float, float]] = [
        ("conv1 + relu1", 30.0, 0.03),
        ("fc", 10.0, 0.01),
        ("Reformatting CopyNode for Input Tensor 0", 5.0, 0.005),
    ]
    if made_up is not None:
        layers = [(f"kernel {i}", float(str(x["us"])), 1e-3 * float(str(x["us"]))) for i, x in enumerate(made_up)]
    rows = [{"count": 1000}]
    rows += [
        {"name": n, "timeMs": total, "averageMs": each, "medianMs": each, "percentage": total / 0.45}
        for n, total, each in layers
    ]
    return json.dumps(rows)


def layer_information(version: int, made_up: list[dict[str, object]] | None = None) -> str:
    tensor = {"Name": "x", "Location": "Device", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}
    layers: list[dict[str, object]] = [
        {"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
    ]
    if made_up is not None:
        layers = [
            {"Name": f"kernel {i}", "LayerType": "gemm", "Metadata": f"[ONNX Layer: {x['name']}]"}
            for i, x in enumerate(made_up)
        ]
    ports = "I/O Tensors" if version >= 110000 else "Bindings"
    return json.dumps({"Layers": [*layers, "fc"], ports: ["x", "y"]})


def draw_current(seconds: float) -> None:
    """Three times the current on the first rail of the faked sensors, as a GPU that works."""
    rails = sorted(Path(os.environ.get("EDGEPRUNE_SYSFS", "/none")).glob("class/hwmon/hwmon*/curr1_input"))
    idle = [rail.read_text() for rail in rails]
    for rail, text in zip(rails, idle, strict=True):
        rail.write_text(str(3 * int(text)))
    time.sleep(seconds if rails else 0)
    for rail, text in zip(rails, idle, strict=True):
        rail.write_text(text)


def take_memory() -> None:
    """For a moment, 100 MB less is available on the faked machine."""
    file = Path(os.environ.get("EDGEPRUNE_PROC", "/none")) / "meminfo"
    if file.is_file():
        before = file.read_text()
        kilobytes = int(before.split()[1])
        file.write_text(f"MemAvailable: {kilobytes - 97656} kB\n")
        time.sleep(0.5)
        file.write_text(before)


def slower_build(cache: Path) -> float:
    """How many times as slow as the first one a build is: tactics that a cache has are chosen again."""
    counter = Path(os.environ.get("FAKE_BUILDS", "/none"))
    if cache.exists() or not counter.is_file():
        return 1.0
    done = int(counter.read_text() or 0)
    counter.write_text(str(done + 1))
    return 1 + 0.01 * done


def outputs(engine: bytes, loaded: str, version: int) -> str:
    """The text of --exportOutput: dimensions as 1x10, values with six digits, and nan as C++ prints it."""
    import numpy as np
    import stand_in_engine

    session = stand_in_engine.session(engine)
    feed = {}
    files = dict(re.findall(r"('[^']*'|[^:,]+):([^,]+)", loaded))
    for port in session.get_inputs():
        kind = {"float": "float32", "double": "float64"}.get(port.type[7:-1], port.type[7:-1])
        stored = "int32" if kind == "int64" and version < 10_0000 else kind
        content = Path(files[f"'{port.name}'" if ":" in port.name else port.name]).read_bytes()
        feed[port.name] = (
            np.frombuffer(content, stored)
            .astype(kind)
            .reshape([size if isinstance(size, int) else 1 for size in port.shape])
        )
    written = []
    for port, value in zip(session.get_outputs(), session.run(None, feed), strict=True):
        numbers = ", ".join(f"{float(v):.6g}" for v in value.reshape(-1))
        sizes = "x".join(map(str, value.shape))
        written.append(f'{{ "name" : "{port.name}"\n  , "dimensions" : "{sizes}"\n  , "values" : [ {numbers} ]\n  }}')
    return "[\n  " + "\n, ".join(written) + "\n]\n"


def main(version: int, options: list[str]) -> int:
    import stand_in_engine

    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec {' '.join(options)}")
    given = {name: value for name, _, value in (option.partition("=") for option in options)}
    if unknown := set(given) - KNOWN[version]:
        print(f"[11/22/2026-10:00:00] [E] Unknown option: {sorted(unknown)[0]}")
        return 1
    if "--help" in given:
        return 0
    if "--onnx" in given:
        model = Path(given["--onnx"]).read_bytes()
        if b"Unbuildable" in model:
            print("[11/22/2026-10:00:00] [I] [TRT] parsing")
            print("[11/22/2026-10:00:00] [E] Error[4]: node 'bad' [Unbuildable]: no importer registered for op.")
            return 1
        if b"QuantizeLinear" in model and (node := unsigned_pair(given["--onnx"])):
            print(f"[11/22/2026-10:00:00] [E] Error[4]: node '{node}': TensorRT only supports symmetric quantization.")
            return 1
        if b"Slow" in model:
            time.sleep(3)
        cache = Path(given["--timingCacheFile"])
        slower = slower_build(cache)
        if not cache.exists():
            cache.write_bytes(b"fake timing cache")
        facts = made_up_layers(given["--onnx"]) if os.environ.get("FAKE_TIMES") == "weights" else None
        for layer in facts or ():
            layer["us"] = slower * float(str(layer["us"]))
        if version >= 100000:
            print("[11/22/2026-10:00:00] [I] [TRT] Total Activation Memory: 3000000 bytes")
            print(f"[11/22/2026-10:00:00] [I] [TRT] Total Weights Memory: {len(model)} bytes")
        wrong = os.environ.get("FAKE_MISCOMPILE", "")
        engine = stand_in_engine.build(" ".join(options), facts, given["--onnx"], wrong)
        Path(given["--saveEngine"]).write_bytes(engine)
    else:
        engine = Path(given["--loadEngine"]).read_bytes()
        facts = stand_in_engine.facts_of(engine)
        print(
            "[11/22/2026-10:00:00] [I] [TRT] [MemUsageChange] TensorRT-managed allocation "
            "in IExecutionContext creation: CPU +0, GPU +3, now: CPU 0, GPU 27 (MiB)"
        )
        if "--exportProfile" in given:
            take_memory()
        if given.get("--duration") == "5":  # the loop for the energy
            draw_current(1.5)
    total_us = None if facts is None else sum(x["us"] for x in facts)
    for option, text in (
        ("--exportTimes", times(version, 20, total_us)),
        ("--exportProfile", profile(facts)),
        ("--exportLayerInfo", layer_information(version, facts)),
    ):
        if option in given:
            Path(given[option]).write_text(text)
    if "--exportOutput" in given:
        Path(given["--exportOutput"]).write_text(outputs(engine, given.get("--loadInputs", ""), version))
    print("&&&& PASSED TensorRT.trtexec")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
