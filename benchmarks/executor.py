"""The executor against onnxruntime on whole networks, and its training step against plain PyTorch.

    python benchmarks/executor.py same FOLDER    # every .onnx of a folder: canonical form, relative error, batch of two
    python benchmarks/executor.py steps          # forward and backward of ResNet-18 and of ViT blocks, in turns
    python benchmarks/executor.py memory         # what such a step adds to the memory of a process

Needs the extra [torch]. Processor time is counted, on one thread, so that other work does not matter much.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional

from edgeprune.backends import OnnxRuntime
from edgeprune.executor import GraphModule, RebatchError, open_batch
from edgeprune.graph import load
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.recovery import trainable

ROUNDS = 7


def relative(wanted: Any, found: Any) -> float:
    difference = np.linalg.norm(np.subtract(wanted, found, dtype=np.float64))
    return float(difference / max(1e-30, np.linalg.norm(np.asarray(wanted, np.float64))))


def same(folder: Path) -> None:
    good = batched = total = 0
    for path in sorted(folder.glob("*.onnx")):
        total += 1
        model = canonicalize(load(path), verify=False)
        rng = np.random.default_rng(0)
        shapes = {str(v.name): [d if isinstance(d, int) else 1 for d in v.shape or ()] for v in model.graph.inputs}
        samples = [{n: rng.uniform(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(2)]
        run = OnnxRuntime().load(model).run
        alone = [run(sample) for sample in samples]
        found = GraphModule(model).run(samples[0])
        error = max(relative(a, b) for a, b in zip(alone[0], found.values(), strict=True))
        try:
            opened, axes = open_batch(model)
            both = GraphModule(opened).run({n: np.concatenate([s[n] for s in samples]) for n in shapes})
            two = max(
                relative(a, np.split(both[n], 2, axes[n])[i])
                for i, outputs in enumerate(alone)
                for n, a in zip(both, outputs, strict=True)
            )
            text = f"{two:.1e}"
            batched += two <= 1e-4
        except RebatchError as why:
            text = str(why)
        good += error <= 1e-4
        print(f"{path.stem:48s} {error:.1e}   batch of two: {text}", flush=True)
    print(f"{good} of {total} within 1e-4; {batched} of {total} as a batch of two")


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.around = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.around(x))


class ResNet18(nn.Module):
    """He et al. 2016, with the BatchNormalization folded, as it is deployed."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 64, 128, 128, 256, 256, 512, 512]
        blocks = [Block(a, b, 1 + (a != b)) for a, b in zip([64, *widths], widths, strict=False)]
        self.net = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Any) -> Any:
        return self.head(self.net(x).mean((2, 3)))


class VitBlock(nn.Module):
    """Dosovitskiy et al. 2021."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.one, self.two = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out, self.up, self.down = (
            nn.Linear(width, width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Any) -> Any:
        b, n, c = x.shape
        h = self.one(x)
        q, k, v = (f(h).reshape(b, n, self.heads, c // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, c))
        return x + self.down(functional.gelu(self.up(self.two(x))))


def networks() -> Iterator[tuple[str, Any, GraphModule, Any]]:
    """Name, plain module, the same in the executor, and an input."""
    torch.set_num_threads(1)
    vit = nn.Sequential(*(VitBlock(384, 6) for _ in range(4)))
    for name, module, shape in (("ResNet-18", ResNet18(), (8, 3, 112, 112)), ("4 blocks of ViT-S", vit, (8, 197, 384))):
        file, x = io.BytesIO(), torch.randn(shape)
        torch.onnx.export(module.eval(), (x,), file, dynamo=True, input_names=["x"], verbose=False)
        file.seek(0)
        model = canonicalize(ir.from_proto(onnx.load(file)), verify=False)
        yield name, module, GraphModule(model, trainable(model)), x


def steps() -> None:
    for name, module, graph, x in networks():
        (output,) = graph.output_names
        plain, executed = [], []
        for _ in range(ROUNDS + 1):
            begin = time.process_time()
            module(x).square().mean().backward()
            middle = time.process_time()
            graph({"x": x})[output].square().mean().backward()
            plain.append(middle - begin)
            executed.append(time.process_time() - middle)
        first, second = np.median(plain[1:]), np.median(executed[1:])
        gap = relative(module(x).detach().numpy(), graph({"x": x})[output].detach().numpy())
        times = f"PyTorch {first:.3f} s, executor {second:.3f} s of processor time"
        print(f"{name}: {times}: {second / first:.2f}x; outputs differ by {gap:.1e}")


def added_bytes(step: Callable[[], Any]) -> int:
    """How much the largest memory of a new process grows by two steps. The first one also allocates the gradients."""
    reading, writing = os.pipe()
    if not os.fork():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2):
            step()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(1024 * grown).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = int(pipe.read())
    os.wait()
    return found


def memory() -> None:
    for name, module, graph, x in networks():
        (output,) = graph.output_names
        with torch.no_grad():
            graph({"x": x})  # records the program, which a training does once
        plain = added_bytes(lambda m=module, x=x: m(x).square().mean().backward())  # type: ignore[misc]
        executed = added_bytes(lambda g=graph, x=x, o=output: g({"x": x})[o].square().mean().backward())  # type: ignore[misc]
        print(f"{name}: PyTorch {plain / 2**20:.0f} MiB, executor {executed / 2**20:.0f} MiB: {executed / plain:.2f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["same", "steps", "memory"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    arguments = parser.parse_args()
    same(arguments.folder) if arguments.what == "same" else {"steps": steps, "memory": memory}[arguments.what]()
