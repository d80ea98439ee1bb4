"""Published latencies and the kernels of their models: the data to which the cost model is fitted."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgeprune.costmodel import Kernel, kernels_of
from edgeprune.devices import Device, Precision, load_profile
from edgeprune.errors import UsageError

Counted = tuple[tuple[Kernel, int], ...]
"""Distinct kernels of a model, and how often each occurs."""

_NAMES = frozenset({"anchor", "nodes", "input", "output", "reads", "writes"})
_SIZES = tuple(f.name for f in fields(Kernel) if f.name not in _NAMES)


@dataclass(frozen=True)
class Row:
    """One published latency: of a whole batch, in milliseconds.

    ``kernels`` names the model in ``kernels.json.gz``. ``gpu_mhz`` and ``dram_gb_per_s`` are 0 if they are those of the
    power mode. ``unused`` is the reason why the row is not fitted, or empty.
    """

    model: str
    kernels: str
    batch: int
    precision: Precision
    target: str
    power_mode: str
    gpu_mhz: float
    dram_gb_per_s: float
    latency_ms: float
    tier: str
    conditions: str
    source: str
    unused: str

    def device(self) -> Device:
        """The device with the clocks of the row."""
        device = load_profile(self.target).device(self.power_mode)
        return replace(
            device,
            clock_mhz=self.gpu_mhz or device.clock_mhz,
            dram_gb_per_s=self.dram_gb_per_s or device.dram_gb_per_s,
        )


def read_rows(path: Path) -> list[Row]:
    """Rows of ``published.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(record) for record in csv.DictReader(file)]


def _row(record: dict[str, str]) -> Row:
    numbers = {name: float(record[name] or 0) for name in ("gpu_mhz", "dram_gb_per_s", "latency_ms")}
    texts: dict[str, Any] = {f.name: record[f.name] for f in fields(Row)}
    return Row(**{**texts, **numbers, "batch": int(record["batch"])})


def read_kernels(path: Path) -> dict[str, Counted]:
    """Model -> its kernels, without names."""
    document = _document(path)
    names = document["fields"]
    return {
        model: tuple((_nameless(dict(zip(names, sizes, strict=True))), count) for *sizes, count in kernels)
        for model, kernels in document["models"].items()
    }


def _document(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return dict(json.load(file))


def _nameless(sizes: dict[str, Any]) -> Kernel:
    return Kernel(anchor="", nodes=(), input="", output="", **sizes)


def counted(kernels: tuple[Kernel, ...]) -> Counted:
    """Distinct kernels and how often each occurs."""
    return tuple(Counter(_nameless({name: getattr(k, name) for name in _SIZES}) for k in kernels).items())


def write_kernels(folder: Path, path: Path) -> None:
    """Derive the kernels of every ``<name>.onnx`` in a folder; the stored kernels of other models are kept.

    Raises:
        UsageError: the folder has no model.
    """
    from edgeprune import graph
    from edgeprune.passes.canonicalize import canonicalize

    models = {}
    for file in sorted(folder.glob("*.onnx")):
        kernels = kernels_of(canonicalize(graph.load(file), verify=False))
        models[file.stem] = [[*(getattr(k, n) for n in _SIZES), count] for k, count in counted(kernels)]
    if not models:
        raise UsageError(f"no .onnx file in {folder}")
    stored = _document(path)["models"] if path.exists() else {}
    write_table({**stored, **models}, path)


def write_table(models: dict[str, list[list[object]]], path: Path) -> None:
    """Store kernels; the same kernels give the same bytes."""
    text = json.dumps({"fields": list(_SIZES), "models": models}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
